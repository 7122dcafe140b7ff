package rpcauth

import (
	"bytes"
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
	"github.com/secgossip/secgossip/pki"
)

func (c *testCluster) query(t testing.TB, client string, token []byte, change func(*QueryRequest)) []byte {
	t.Helper()
	req := QueryRequest{Cluster: c.trust.Cluster(), Name: "load", Timeout: time.Second, Ack: true, Origin: "web-1"}
	if change != nil {
		change(&req)
	}
	raw, _, err := SignQuery(testKey(client), token, req, start)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestSignedQueryVerifies(t *testing.T) {
	c := newCluster(t, "prod")
	raw := c.query(t, "ops", c.token(t, "ops", "query:load"), func(r *QueryRequest) {
		r.Payload, r.Nodes, r.LTime, r.Relay = []byte("1m"), []string{"web-2", "web-1", "web-2"}, 41, 255
		r.Tags = []TagFilter{{"zone", "eu.*"}, {"role", "web"}, {"role", "web"}}
	})
	q, err := NewVerifier(c.trust).VerifyQuery(raw, start)
	if err != nil {
		t.Fatal(err)
	}
	if q.Name != "load" || string(q.Payload) != "1m" || q.LTime != 41 || !q.Ack || q.Relay != 255 || q.Timeout != time.Second ||
		q.Origin != "web-1" || len(q.Nodes) != 2 || len(q.Tags) != 2 || q.Token.Subject != "ops" || len(q.ID.String()) != 32 {
		t.Errorf("got %+v", q)
	}
	if !q.Issued.Equal(start) || !q.Expires.Equal(start.Add(time.Second+pki.Tolerance)) {
		t.Errorf("issued %v, expires %v", q.Issued, q.Expires)
	}
	fits := map[string]string{"role": "web", "zone": "eu-1"}
	if !q.For("web-1", fits) || q.For("web-3", fits) || q.For("web-1", map[string]string{"role": "web"}) {
		t.Error("it is for web-1 and web-2 as web in eu, and for nobody else")
	}
}

// Threat K03: the id that a client chose is not the id of the query.
func TestNoClientCanTakeTheIDOfAnothersQuery(t *testing.T) {
	chosen := make([]byte, 16)
	ops, dev := testKey("ops").Public().(ed25519.PublicKey), testKey("dev").Public().(ed25519.PublicKey)
	if queryIDOf(ops, chosen) == queryIDOf(dev, chosen) {
		t.Error("two clients that chose the same bytes have one id")
	}
	c := newCluster(t, "prod")
	raw, id, err := SignQuery(testKey("ops"), c.token(t, "ops", "admin"), QueryRequest{
		Cluster: c.trust.Cluster(), Name: "load", Timeout: time.Second, Origin: "n",
	}, start)
	if err != nil {
		t.Fatal(err)
	}
	if q := must(NewVerifier(c.trust).VerifyQuery(raw, start)); q.ID != id {
		t.Errorf("signed as %v, verified as %v", id, q.ID)
	}
}

// Threats K03 and C04: neither kind passes for the other, whoever signs it.
func TestAQueryIsNoEventAndAnEventIsNoQuery(t *testing.T) {
	c := newCluster(t, "prod")
	v := NewVerifier(c.trust)
	token := c.token(t, "ops", "admin")
	id := c.trust.Cluster()
	query, event := c.query(t, "ops", token, nil), c.event(t, "ops", token, "load")
	if _, err := v.VerifyEvent(query, start); err == nil {
		t.Error("a query was taken as an event")
	}
	if _, err := v.VerifyQuery(event, start); err == nil {
		t.Error("an event was taken as a query")
	}
	// The same body under the other label.
	body := must(cose.Parse(query)).Payload
	_, err := v.VerifyQuery(must(cose.Sign(testKey("ops"), cose.Context(eventLabel, id), body)), start)
	wantError(t, "a query signed as an event", err, ErrSignature)
}

func TestQuerySignedByAnyOtherKeyIsRefused(t *testing.T) {
	c, other := newCluster(t, "prod"), newCluster(t, "staging")
	v := NewVerifier(c.trust)
	token := c.token(t, "ops", "query:load")
	body := must(cose.Parse(c.query(t, "ops", token, nil))).Payload
	context := cose.Context(queryLabel, c.trust.Cluster())
	for name, key := range map[string]string{"another client": "dev", "a node": "node-1", "the root": "root of prod"} {
		_, err := v.VerifyQuery(must(cose.Sign(testKey(key), context, body)), start)
		wantError(t, name, err, ErrSignature)
	}
	_, err := v.VerifyQuery(other.query(t, "ops", other.token(t, "ops", "query:load"), nil), start)
	wantError(t, "another cluster's query", err, ErrUnknownSigner)
}

func TestQueryOutsideTheGrantIsRefused(t *testing.T) {
	c := newCluster(t, "prod")
	v := NewVerifier(c.trust)
	for grant, allowed := range map[Grant]bool{
		"query:load": true, "query:*": true, "admin": true,
		"query:_ping": false, "event:load": false, "answer:load": false, "members:read": false, "monitor": false,
	} {
		_, err := v.VerifyQuery(c.query(t, "ops", c.token(t, "ops", grant), nil), start)
		if !allowed {
			wantError(t, string(grant), err, ErrGrant)
		} else if err != nil {
			t.Errorf("with %q: %v", grant, err)
		}
	}
	ping := c.query(t, "ops", c.token(t, "ops", "query:_ping"), func(r *QueryRequest) { r.Name = PingQuery })
	if _, err := v.VerifyQuery(ping, start); err != nil {
		t.Errorf("a ping with its own grant: %v", err)
	}
}

// Clocks may be apart by pki.Tolerance, and after that nobody takes it.
func TestQueryIsTakenUntilItsTimeoutGiveOrTakeTheClocks(t *testing.T) {
	c := newCluster(t, "prod")
	v := NewVerifier(c.trust)
	raw := c.query(t, "ops", c.token(t, "ops", "admin"), nil)
	for _, test := range []struct {
		after time.Duration
		want  error
	}{
		{-pki.Tolerance, nil}, {0, nil}, {time.Second + pki.Tolerance - time.Millisecond, nil},
		{-pki.Tolerance - time.Millisecond, ErrNotYetValid}, {time.Second + pki.Tolerance, ErrExpired}, {time.Hour, ErrExpired},
	} {
		_, err := v.VerifyQuery(raw, start.Add(test.after))
		if test.want != nil {
			wantError(t, test.after.String(), err, test.want)
		} else if err != nil {
			t.Errorf("%v after it was signed: %v", test.after, err)
		}
	}
}

// Each refusal names the field and its limit, before anything is sent.
func TestAQueryOutsideItsLimitsIsNotSigned(t *testing.T) {
	c := newCluster(t, "prod")
	token := c.token(t, "ops", "admin")
	many := make([]string, 65)
	for i := range many {
		many[i] = "n" + strings.Repeat("x", i%60+1) + string(rune('a'+i%26))
	}
	for want, change := range map[string]func(*QueryRequest){
		"query name of 0 bytes: 1 to 64": func(r *QueryRequest) { r.Name = "" },
		"are reserved":                   func(r *QueryRequest) { r.Name = "_pong" },
		"has no payload":                 func(r *QueryRequest) { r.Name, r.Payload = PingQuery, []byte("x") },
		"wants acks":                     func(r *QueryRequest) { r.Name, r.Ack = PingQuery, false },
		"payload of 513 bytes: 512":      func(r *QueryRequest) { r.Payload = make([]byte, 513) },
		"64 is the most":                 func(r *QueryRequest) { r.Nodes = many },
		"8 is the most":                  func(r *QueryRequest) { r.Tags = make([]TagFilter, 9); fill(r.Tags) },
		"128 is the most":                func(r *QueryRequest) { r.Tags = []TagFilter{{"a", strings.Repeat("a", 129)}} },
		"missing closing":                func(r *QueryRequest) { r.Tags = []TagFilter{{"a", "("}} },
		"relay factor 256: 0 to 255":     func(r *QueryRequest) { r.Relay = 256 },
		"relay factor -1: 0 to 255":      func(r *QueryRequest) { r.Relay = -1 },
		"timeout of 5ms":                 func(r *QueryRequest) { r.Timeout = 5 * time.Millisecond },
		"timeout of 11m":                 func(r *QueryRequest) { r.Timeout = 11 * time.Minute },
		"timeout of -1s: 10ms to 10m0s":  func(r *QueryRequest) { r.Timeout = -time.Second },
		"1100 is the most": func(r *QueryRequest) {
			r.Payload, r.Nodes = make([]byte, 512), many[:20]
		},
	} {
		req := QueryRequest{Cluster: c.trust.Cluster(), Name: "load", Timeout: time.Second, Ack: true, Origin: "web-1"}
		change(&req)
		if _, _, err := SignQuery(testKey("ops"), token, req, start); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
	if err := (&QueryRequest{Name: "load"}).Check(); err != nil {
		t.Errorf("what a client knows before it asks the agent: %v", err)
	}
	if err := (&QueryRequest{Name: "load", Relay: 256}).Check(); err == nil {
		t.Error("a relay factor of 256 passes the check before the agent is asked")
	}
}

func fill(tags []TagFilter) {
	for i := range tags {
		tags[i] = TagFilter{strings.Repeat("a", i+1), "x"}
	}
}

// Bodies that a client really signed but SignQuery would never write.
func TestSignedQueriesOutsideTheProfileAreRefused(t *testing.T) {
	c := newCluster(t, "prod")
	v := NewVerifier(c.trust)
	ms := uint64(start.UnixMilli())
	token := c.token(t, "ops", "admin")
	good := func() queryBody {
		return queryBody{
			requestBody: requestBody{ID: make([]byte, 16), Name: "a", LTime: ms, Issued: ms, Expires: ms + 1000, Token: token},
			Timeout:     1000, Origin: "n",
		}
	}
	verify := func(b queryBody) error {
		_, err := v.VerifyQuery(must(cose.Sign(testKey("ops"), cose.Context(queryLabel, c.trust.Cluster()), must(cose.Marshal(b)))), start)
		return err
	}
	if err := verify(good()); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for name, change := range map[string]func(*queryBody){
		"no Lamport time":           func(b *queryBody) { b.LTime = 0 },
		"the end of all times":      func(b *queryBody) { b.LTime = 1<<64 - 1 },
		"no origin":                 func(b *queryBody) { b.Origin = "" },
		"a bad origin":              func(b *queryBody) { b.Origin = "N" },
		"no timeout":                func(b *queryBody) { b.Timeout = 0 },
		"a timeout that overflows":  func(b *queryBody) { b.Timeout = 1<<64 - 1 },
		"over before its timeout":   func(b *queryBody) { b.Expires = b.Issued + 999 },
		"good for hours":            func(b *queryBody) { b.Expires = b.Issued + 3_600_000 },
		"tags out of order":         func(b *queryBody) { b.Tags = []TagFilter{{"b", "x"}, {"a", "x"}} },
		"a tag twice":               func(b *queryBody) { b.Tags = []TagFilter{{"a", "x"}, {"a", "x"}} },
		"an expression that is not": func(b *queryBody) { b.Tags = []TagFilter{{"a", "("}} },
		"an expression too long":    func(b *queryBody) { b.Tags = []TagFilter{{"a", strings.Repeat("a{900}", 20)}} },
		"513 bytes":                 func(b *queryBody) { b.Payload = make([]byte, 513) },
		"a ping with a payload":     func(b *queryBody) { b.Name, b.Ack, b.Payload = PingQuery, true, []byte("x") },
		"a ping nobody acks":        func(b *queryBody) { b.Name = PingQuery },
	} {
		b := good()
		change(&b)
		wantError(t, name, verify(b), ErrMalformed)
	}
}

// What is read as a query has one encoding.
func FuzzQueryHasOneEncoding(f *testing.F) {
	c := newCluster(f, "prod")
	token := c.token(f, "ops", "admin")
	raw := c.query(f, "ops", token, func(r *QueryRequest) { r.Tags = []TagFilter{{"role", "web|db"}} })
	f.Add(raw)
	f.Add(raw[:len(raw)-1])
	f.Add(c.event(f, "ops", token, "deploy"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var body queryBody
		m, err := queryKind.parse(raw, &body)
		if err != nil {
			return
		}
		if again := must(cose.Marshal(body)); !bytes.Equal(again, m.Payload) {
			t.Errorf("second encoding accepted: %x", raw)
		}
		if CheckQueryName(body.Name) != nil || len(body.Payload) > MaxQueryPayload || len(body.Tags) > MaxTagFilters {
			t.Errorf("accepted beyond the limits: %+v", body)
		}
	})
}
