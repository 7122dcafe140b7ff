package rpcauth

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
	"github.com/secgossip/secgossip/pki"
)

func TestSignedEventVerifies(t *testing.T) {
	c := newCluster(t, "prod")
	token := c.token(t, "ops", "event:deploy-*")
	raw, err := SignEvent(testKey("ops"), token, EventRequest{
		Cluster: c.trust.Cluster(), Name: "deploy-web", Payload: []byte("v2"), Nodes: []string{"web-2", "web-1", "web-2"},
		LTime: 41, Life: time.Minute, Coalesce: true,
	}, start)
	if err != nil {
		t.Fatal(err)
	}
	event, err := NewVerifier(c.trust).VerifyEvent(raw, start)
	if err != nil {
		t.Fatal(err)
	}
	if event.Name != "deploy-web" || string(event.Payload) != "v2" || event.LTime != 41 || !event.Coalesce {
		t.Errorf("got %+v", event)
	}
	if !slices.Equal(event.Nodes, []string{"web-1", "web-2"}) || !event.For("web-1", nil) || event.For("web-3", nil) {
		t.Errorf("for %q; For(web-1) %v, For(web-3) %v", event.Nodes, event.For("web-1", nil), event.For("web-3", nil))
	}
	if !event.Issued.Equal(start) || !event.Expires.Equal(start.Add(time.Minute)) {
		t.Errorf("issued %v, expires %v", event.Issued, event.Expires)
	}
	if event.Token.Subject != "ops" || len(event.IDText()) != 32 {
		t.Errorf("from %q, id %q", event.Token.Subject, event.IDText())
	}
}

// What is longer than an event travels beside it, and the event says what it is.
func TestEventNamesALongPayloadByItsDigest(t *testing.T) {
	c := newCluster(t, "prod")
	token := c.token(t, "ops", "event:deploy")
	for _, size := range []int{MaxEventPayload, MaxEventPayload + 1, MaxLargePayload} {
		payload := bytes.Repeat([]byte("x"), size)
		raw := must(SignEvent(testKey("ops"), token, EventRequest{Cluster: c.trust.Cluster(), Name: "deploy", Payload: payload}, start))
		e := must(NewVerifier(c.trust).VerifyEvent(raw, start))
		if size == MaxEventPayload {
			if e.Size != 0 || !bytes.Equal(e.Payload, payload) {
				t.Errorf("%d bytes: %d are beside the event, %d in it", size, e.Size, len(e.Payload))
			}
			continue
		}
		if e.Size != size || e.Payload != nil || e.CheckPayload(payload) != nil || len(raw) > 1100 {
			t.Errorf("%d bytes: %d are beside the event of %d bytes, %d in it", size, e.Size, len(raw), len(e.Payload))
		}
		for _, other := range [][]byte{nil, payload[1:], append(bytes.Clone(payload), 'x'), append(bytes.Clone(payload[1:]), 'y')} {
			wantError(t, "another payload", e.CheckPayload(other), ErrPayload)
		}
		if id := must(EventID(raw)); id != e.IDText() {
			t.Errorf("its client knows it as %s, and others as %s", id, e.IDText())
		}
	}
}

func TestEventIsForNodesThatItsFiltersFit(t *testing.T) {
	c := newCluster(t, "prod")
	raw := must(SignEvent(testKey("ops"), c.token(t, "ops", "event:deploy"), EventRequest{
		Cluster: c.trust.Cluster(), Name: "deploy", Nodes: []string{"web-1"},
		Tags: []TagFilter{{"zone", "eu|us"}, {"role", "web"}, {"role", "web"}},
	}, start))
	e := must(NewVerifier(c.trust).VerifyEvent(raw, start))
	for _, test := range []struct {
		node, role, zone string
		want             bool
	}{
		{"web-1", "web", "eu", true}, {"web-1", "web", "us", true}, {"web-2", "web", "eu", false},
		{"web-1", "web2", "eu", false}, {"web-1", "web", "eu|us", false}, {"web-1", "", "eu", false}, {"web-1", "web", "xeu", false},
	} {
		if got := e.For(pki.Name(test.node), map[string]string{"role": test.role, "zone": test.zone}); got != test.want {
			t.Errorf("%+v: got %t", test, got)
		}
	}
	if len(e.Tags) != 2 || e.For("web-1", nil) {
		t.Errorf("it has the filters %v", e.Tags)
	}
}

func TestEventWithoutTargetsIsForEveryNode(t *testing.T) {
	c := newCluster(t, "prod")
	raw, err := SignEvent(testKey("ops"), c.token(t, "ops", "admin"), EventRequest{Cluster: c.trust.Cluster(), Name: "a"}, start)
	if err != nil {
		t.Fatal(err)
	}
	event, err := NewVerifier(c.trust).VerifyEvent(raw, start)
	if err != nil || !event.For("anyone", nil) || event.Payload != nil || event.Coalesce {
		t.Fatalf("got %+v, %v", event, err)
	}
	if !event.Expires.Equal(start.Add(DefaultEventLife)) {
		t.Errorf("expires %v, want %v after %v", event.Expires, DefaultEventLife, start)
	}
}

func TestTheLargestEventFits(t *testing.T) {
	c := newCluster(t, "prod")
	var grants []Grant
	for i := range 18 {
		grants = append(grants, Grant(fmt.Sprintf("event:%s%02d", strings.Repeat("x", 62), i)))
	}
	token := c.token(t, "ops", grants...)
	req := EventRequest{Cluster: c.trust.Cluster(), Name: strings.TrimPrefix(string(grants[0]), "event:"), Payload: make([]byte, MaxEventPayload)}
	for i := range 25 {
		req.Nodes = append(req.Nodes, fmt.Sprintf("%s-%02d", strings.Repeat("n", 60), i))
	}
	raw, err := SignEvent(testKey("ops"), token, req, start)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewVerifier(c.trust).VerifyEvent(raw, start); err != nil {
		t.Errorf("an event of %d bytes: %v", len(raw), err)
	}
}

// Threats K03 and C04: only the client that the token is bound to can fire.
func TestEventSignedByAnyOtherKeyIsRefused(t *testing.T) {
	c, other := newCluster(t, "prod"), newCluster(t, "staging")
	v := NewVerifier(c.trust)
	token := c.token(t, "ops", "event:deploy")
	payload := must(cose.Parse(c.event(t, "ops", token, "deploy"))).Payload
	sign := func(key ed25519.PrivateKey, label string, cluster pki.ClusterID) []byte {
		return must(cose.Sign(key, cose.Context(label, cluster), payload))
	}
	id := c.trust.Cluster()
	if _, err := v.VerifyEvent(sign(testKey("ops"), eventLabel, id), start); err != nil {
		t.Fatalf("signed as SignEvent does: %v", err)
	}
	foreign := other.token(t, "ops", "event:deploy")
	selfMade := must(cose.Sign(testKey("ops"), cose.Context(tokenLabel, id), must(cose.Parse(token)).Payload))
	for _, test := range []struct {
		name string
		raw  []byte
		want error
	}{
		{"another client's key", sign(testKey("dev"), eventLabel, id), ErrSignature},
		{"a node's key", sign(testKey("node-1"), eventLabel, id), ErrSignature},
		{"the root's key", sign(testKey("root of prod"), eventLabel, id), ErrSignature},
		{"signed for another cluster", sign(testKey("ops"), eventLabel, other.trust.Cluster()), ErrSignature},
		{"signed for another purpose", sign(testKey("ops"), tokenLabel, id), ErrSignature},
		{"with another cluster's token", c.event(t, "ops", foreign, "deploy"), ErrUnknownSigner},
		{"with a token the client signed", c.event(t, "ops", selfMade, "deploy"), ErrUnknownSigner},
		{"another cluster's event", other.event(t, "ops", foreign, "deploy"), ErrUnknownSigner},
		{"a token where an event belongs", token, ErrMalformed},
		{"nothing", nil, ErrMalformed},
	} {
		event, err := v.VerifyEvent(test.raw, start)
		wantError(t, test.name, err, test.want)
		if event != nil {
			t.Errorf("%s: an event came back with the error", test.name)
		}
	}
}

func TestEventOutsideTheGrantIsRefusedByName(t *testing.T) {
	c := newCluster(t, "prod")
	v := NewVerifier(c.trust)
	for _, grant := range everyNeed {
		_, err := v.VerifyEvent(c.event(t, "ops", c.token(t, "ops", grant), "deploy"), start)
		if grant == "event:deploy" || grant == "admin" {
			if err != nil {
				t.Errorf("with %q: %v", grant, err)
			}
			continue
		}
		var refused *GrantError
		if !errors.As(err, &refused) || !errors.Is(err, ErrGrant) {
			t.Errorf("with %q: got error %v, want ErrGrant", grant, err)
			continue
		}
		if refused.Subject != "ops" || !slices.Equal(refused.Need, []Grant{"event:deploy"}) || !slices.Equal(refused.Have, []Grant{grant}) {
			t.Errorf("with %q: the error says %+v", grant, refused)
		}
	}
	_, err := v.VerifyEvent(c.event(t, "ops", c.token(t, "ops", "event:deploy-*", "query:deploy"), "deploy"), start)
	wantError(t, "a glob beside it and a query", err, ErrGrant)
}

func TestEventIsGoodInItsTime(t *testing.T) {
	c := newCluster(t, "prod")
	v := NewVerifier(c.trust)
	issued := start.Add(time.Hour)
	raw, err := SignEvent(testKey("ops"), c.token(t, "ops", "admin"), EventRequest{Cluster: c.trust.Cluster(), Name: "a", Life: time.Minute}, issued)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		at   time.Time
		want error
	}{
		{"by a clock far behind", issued.Add(-pki.Tolerance - time.Millisecond), ErrNotYetValid},
		{"by a clock behind", issued.Add(-pki.Tolerance), nil},
		{"at once", issued, nil},
		{"in its last millisecond", issued.Add(time.Minute - time.Millisecond), nil},
		{"at its end", issued.Add(time.Minute), ErrExpired},
		{"a day later", issued.Add(24 * time.Hour), ErrExpired},
	} {
		_, err := v.VerifyEvent(raw, test.at)
		wantError(t, test.name, err, test.want)
	}
}

func TestEventWithAnExpiredTokenIsRefused(t *testing.T) {
	c := newCluster(t, "prod")
	v := NewVerifier(c.trust)
	minted := start.Add(24 * time.Hour)
	_, token, err := Mint(c.root, TokenRequest{Subject: "ops", Key: public(testKey("ops")), Grants: []Grant{"admin"}}, minted)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		at   time.Time
		want error
	}{
		{"while the token is good", minted.Add(pki.ClientLife), nil},
		{"after it", minted.Add(pki.ClientLife + time.Hour), ErrExpired},
		{"before it", minted.Add(-time.Hour), ErrNotYetValid},
	} {
		raw, err := SignEvent(testKey("ops"), token, EventRequest{Cluster: c.trust.Cluster(), Name: "a"}, test.at)
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.VerifyEvent(raw, test.at)
		wantError(t, test.name, err, test.want)
	}
}

func TestSignEventRefusesWhatNodesWould(t *testing.T) {
	c := newCluster(t, "prod")
	token := c.token(t, "ops", "admin")
	var nodes []string
	for i := range MaxEventNodes + 1 {
		nodes = append(nodes, fmt.Sprintf("node-%d", i))
	}
	var long []string
	for i := range MaxEventNodes {
		long = append(long, fmt.Sprintf("%s-%02d", strings.Repeat("n", 60), i))
	}
	for name, req := range map[string]EventRequest{
		"no name":            {},
		"a reserved name":    {Name: "_internal"},
		"a glob for a name":  {Name: "deploy*"},
		"over 1 MiB":         {Name: "a", Payload: make([]byte, MaxLargePayload+1)},
		"a bad expression":   {Name: "a", Tags: []TagFilter{{"role", "("}}},
		"a long expression":  {Name: "a", Tags: []TagFilter{{"role", strings.Repeat("x", MaxTagExpr+1)}}},
		"nine filters":       {Name: "a", Tags: []TagFilter{{"1", ""}, {"2", ""}, {"3", ""}, {"4", ""}, {"5", ""}, {"6", ""}, {"7", ""}, {"8", ""}, {"9", ""}}},
		"a bad node name":    {Name: "a", Nodes: []string{"Web 1"}},
		"65 nodes":           {Name: "a", Nodes: nodes},
		"over 4 kB of nodes": {Name: "a", Nodes: long},
		"over an hour":       {Name: "a", Life: MaxEventLife + time.Millisecond},
		"a negative life":    {Name: "a", Life: -time.Second},
		"no millisecond":     {Name: "a", Life: time.Microsecond},
	} {
		req.Cluster = c.trust.Cluster()
		if raw, err := SignEvent(testKey("ops"), token, req, start); err == nil {
			t.Errorf("%s: signed %d bytes", name, len(raw))
		}
	}
	if _, err := SignEvent(testKey("dev"), token, EventRequest{Name: "a"}, start); err == nil {
		t.Error("with another client's token: signed")
	}
	if _, err := SignEvent(testKey("ops"), token[1:], EventRequest{Name: "a"}, start); err == nil {
		t.Error("with half a token: signed")
	}
}

// Bodies that the client really signed but SignEvent would never write.
func TestSignedBodiesOutsideTheProfileAreRefused(t *testing.T) {
	c := newCluster(t, "prod")
	v := NewVerifier(c.trust)
	ms := uint64(start.UnixMilli())
	token := c.token(t, "ops", "admin")
	good := func() eventBody {
		return eventBody{requestBody: requestBody{ID: make([]byte, 16), Name: "a", LTime: ms, Issued: ms, Expires: ms + 1000, Token: token}}
	}
	verify := func(payload []byte) error {
		_, err := v.VerifyEvent(must(cose.Sign(testKey("ops"), cose.Context(eventLabel, c.trust.Cluster()), payload)), start)
		return err
	}
	if err := verify(must(cose.Marshal(good()))); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for name, change := range map[string]func(*eventBody){
		"no id":                 func(b *eventBody) { b.ID = nil },
		"an id of 15 bytes":     func(b *eventBody) { b.ID = b.ID[1:] },
		"an id of 17 bytes":     func(b *eventBody) { b.ID = make([]byte, 17) },
		"no name":               func(b *eventBody) { b.Name = "" },
		"a reserved name":       func(b *eventBody) { b.Name = "_a" },
		"65 bytes of name":      func(b *eventBody) { b.Name = strings.Repeat("a", 65) },
		"513 bytes":             func(b *eventBody) { b.Payload = make([]byte, 513) },
		"a filter twice":        func(b *eventBody) { b.Tags = []TagFilter{{"role", "web"}, {"role", "web"}} },
		"filters out of order":  func(b *eventBody) { b.Tags = []TagFilter{{"zone", "eu"}, {"role", "web"}} },
		"a filter without name": func(b *eventBody) { b.Tags = []TagFilter{{"", "web"}} },
		"a bad expression":      func(b *eventBody) { b.Tags = []TagFilter{{"role", "("}} },
		"a digest without size": func(b *eventBody) { b.Digest = make([]byte, 32) },
		"a size without digest": func(b *eventBody) { b.Size = 513 },
		"half a digest":         func(b *eventBody) { b.Digest, b.Size = make([]byte, 16), 513 },
		"512 bytes beside it":   func(b *eventBody) { b.Digest, b.Size = make([]byte, 32), 512 },
		"over 1 MiB beside it":  func(b *eventBody) { b.Digest, b.Size = make([]byte, 32), MaxLargePayload+1 },
		"two payloads":          func(b *eventBody) { b.Digest, b.Size, b.Payload = make([]byte, 32), 513, []byte("x") },
		"a node twice":          func(b *eventBody) { b.Nodes = []string{"a", "a"} },
		"nodes out of order":    func(b *eventBody) { b.Nodes = []string{"b", "a"} },
		"a bad node name":       func(b *eventBody) { b.Nodes = []string{"A"} },
		"4 kB of nodes": func(b *eventBody) {
			for i := range MaxEventNodes {
				b.Nodes = append(b.Nodes, fmt.Sprintf("%02d%s", i, strings.Repeat("n", 60)))
			}
		},
		"no Lamport time":      func(b *eventBody) { b.LTime = 0 },
		"2 minutes and more":   func(b *eventBody) { b.LTime = b.Issued + MaxLamportAhead + 1 },
		"the end of all times": func(b *eventBody) { b.LTime = 1<<64 - 1 },
		"times that overflow":  func(b *eventBody) { b.Issued, b.Expires, b.LTime = 1<<64-2, 1<<64-1, 1 },
		"over before":          func(b *eventBody) { b.Expires = b.Issued },
		"backwards":            func(b *eventBody) { b.Issued, b.Expires = b.Expires, b.Issued },
		"for over an hour":     func(b *eventBody) { b.Expires = b.Issued + 3_600_001 },
		"for ever":             func(b *eventBody) { b.Expires = 1<<64 - 1 },
		"in the year 10000":    func(b *eventBody) { b.Issued, b.Expires = maxMillis, maxMillis+1 },
		"no token":             func(b *eventBody) { b.Token = nil },
		"an empty token":       func(b *eventBody) { b.Token = []byte{} },
		"half a token":         func(b *eventBody) { b.Token = token[:len(token)/2] },
		"a token and more":     func(b *eventBody) { b.Token = append(bytes.Clone(token), 0) },
	} {
		bad := good()
		change(&bad)
		wantError(t, name, verify(must(cose.Marshal(bad))), ErrMalformed)
	}
	wantError(t, "a field that is not ours", verify(must(cose.Marshal(map[int]any{1: make([]byte, 16), 2: "a", 5: ms, 6: ms, 7: ms + 1000, 9: token, 10: "x"}))), ErrMalformed)
	wantError(t, "a false that should be absent", verify(must(cose.Marshal(map[int]any{1: make([]byte, 16), 2: "a", 5: ms, 6: ms, 7: ms + 1000, 8: false, 9: token}))), ErrMalformed)
	wantError(t, "an empty payload that should be absent", verify(must(cose.Marshal(map[int]any{1: make([]byte, 16), 2: "a", 3: []byte{}, 5: ms, 6: ms, 7: ms + 1000, 9: token}))), ErrMalformed)
}

// The refusal names the field and its limits, before anything is signed.
func TestLamportTimesOutOfBoundsAreNotSigned(t *testing.T) {
	c := newCluster(t, "prod")
	ms := uint64(start.UnixMilli())
	for ltime, ok := range map[uint64]bool{0: true, 1: true, ms + 120_000: true, ms + 120_001: false, 1<<64 - 1: false} {
		_, err := SignEvent(testKey("ops"), c.token(t, "ops", "admin"), EventRequest{Cluster: c.trust.Cluster(), Name: "a", LTime: ltime}, start)
		want := fmt.Sprintf("lamport time %d: 1 to %d", ltime, ms+120_000)
		if ok != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d: got %v, want it signed: %t", ltime, err, ok)
		}
	}
}

func TestLamportTimeIsAboveTheAgentsAndWithinItsLimits(t *testing.T) {
	ms := uint64(start.UnixMilli())
	for seen, want := range map[uint64]uint64{0: ms, ms - 1: ms, ms + 7: ms + 7, ms + 120_001: ms + 120_000, 1<<64 - 1: ms + 120_000} {
		if got := LamportTime(start, seen); got != want {
			t.Errorf("an agent has seen %d: got %d, want %d", seen, got, want)
		}
	}
}

// Nobody need be asked for what no node would take, nor signs it.
func TestAnEventOutsideItsLimitsIsNamedBeforeItIsSigned(t *testing.T) {
	good := EventRequest{Name: "deploy", Payload: make([]byte, MaxLargePayload), Nodes: []string{"web-2", "web-1"}, Life: MaxEventLife}
	if err := good.Check(); err != nil {
		t.Errorf("the largest: got %v", err)
	}
	for want, change := range map[string]func(*EventRequest){
		"event name of 0 bytes: 1 to 64": func(r *EventRequest) { r.Name = "" },
		`event name "_x"`:                func(r *EventRequest) { r.Name = "_x" },
		"payload of 1048577 bytes":       func(r *EventRequest) { r.Payload = make([]byte, MaxLargePayload+1) },
		`node "Web-1": a name may`:       func(r *EventRequest) { r.Nodes = []string{"Web-1"} },
		"lives for 1h0m0.001s: 1h0m0s":   func(r *EventRequest) { r.Life = MaxEventLife + time.Millisecond },
		`filter of tag "role"`:           func(r *EventRequest) { r.Tags = []TagFilter{{Tag: "role", Expr: "("}} },
	} {
		r := good
		change(&r)
		if err := r.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

func TestEventNames(t *testing.T) {
	for _, name := range []string{"a", "A", "7", "deploy", "Deploy_v2", "db.failover-1", "a_", "x..y", strings.Repeat("a", MaxEventName)} {
		if err := CheckEventName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{
		"", "_a", "_", ".a", "-a", "..", "a b", "a\tb", "a\n", "a\x00", "a\x7f", "a/b", "../a", "a:b", "a,b", "a=b", "a*", "?", "$(id)", "a;b",
		"déploy", "de\u0301ploy", "dерloy", "\u202eyolped", "a\u200bb", "\u2028", "\ufeffa", "a\xff", "\xed\xa0\x80", strings.Repeat("a", MaxEventName+1),
	} {
		if err := CheckEventName(name); err == nil {
			t.Errorf("%q: accepted", name)
		}
	}
}

func TestEveryFlippedBitOfAnEventIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "prod")
	v := NewVerifier(c.trust)
	raw := c.event(t, "ops", c.token(t, "ops", "event:deploy", "event:deplox"), "deploy")
	if _, err := v.VerifyEvent(raw, start); err != nil {
		t.Fatal(err)
	}
	for i := range len(raw) * 8 {
		bad := bytes.Clone(raw)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := v.VerifyEvent(bad, start); err == nil {
			t.Errorf("bit %d flipped: accepted", i)
		}
	}
}

func TestEveryTruncationAndExtensionOfAnEventIsRefused(t *testing.T) {
	c := newCluster(t, "prod")
	v := NewVerifier(c.trust)
	raw := c.event(t, "ops", c.token(t, "ops", "admin"), "deploy")
	for n := range raw {
		_, err := v.VerifyEvent(raw[:n], start)
		wantError(t, "cut short", err, ErrMalformed)
	}
	for _, tail := range [][]byte{{0}, raw, make([]byte, MaxEventSize)} {
		_, err := v.VerifyEvent(append(bytes.Clone(raw), tail...), start)
		wantError(t, "with a tail", err, ErrMalformed)
	}
}

func TestABurstOfEventsCostsOneSignatureCheckEach(t *testing.T) {
	c := newCluster(t, "prod")
	v := NewVerifier(c.trust)
	token := c.token(t, "ops", "admin")
	for range 50 {
		if _, err := v.VerifyEvent(c.event(t, "ops", token, "deploy"), start); err != nil {
			t.Fatal(err)
		}
	}
	if got := v.checks.Load(); got != 51 {
		t.Errorf("50 events with one token: %d signature checks, want 51", got)
	}
}

func TestARememberedTokenIsStillJudgedAnew(t *testing.T) {
	c := newCluster(t, "prod")
	issuer := c.issuer(t, "keeper-1")
	v := NewVerifier(c.trust)
	late := start.Add(pki.IssuerLife - 2*time.Hour)
	_, token, err := Mint(issuer, TokenRequest{Subject: "ops", Key: public(testKey("ops")), Grants: []Grant{"admin"}}, late)
	if err != nil {
		t.Fatal(err)
	}
	fire := func(at time.Time) error {
		raw, err := SignEvent(testKey("ops"), token, EventRequest{Cluster: c.trust.Cluster(), Name: "a"}, at)
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.VerifyEvent(raw, at)
		return err
	}
	if err := fire(late); err != nil {
		t.Fatal(err)
	}
	wantError(t, "after its issuer's end", fire(start.Add(pki.IssuerLife+time.Hour)), ErrUnknownSigner)

	other := c.token(t, "ops", "admin")
	if err := fire(late); err != nil {
		t.Fatal(err)
	}
	token = other
	wantError(t, "after its own end", fire(start.Add(pki.ClientLife+time.Hour)), ErrExpired)
}

func TestRememberedTokensAreBounded(t *testing.T) {
	g := generations[int, string]{limit: 4}
	for i := range 1000 {
		g.put(i, "x")
		if got := len(g.young) + len(g.old); got > 8 {
			t.Fatalf("%d entries after %d, want at most 8", got, i)
		}
	}
	if _, ok := g.get(999); !ok {
		t.Error("the last one is forgotten")
	}
	if _, ok := g.get(0); ok {
		t.Error("the first one is remembered")
	}
	for i := range 1000 { // one that is asked for stays
		g.put(2000+i, "x")
		if _, ok := g.get(999); !ok {
			t.Fatalf("forgotten after %d others though asked for each time", i)
		}
	}
	g.remove(999)
	if _, ok := g.get(999); ok {
		t.Error("removed and still there")
	}
}

// What is read as an event has one encoding.
func FuzzEventHasOneEncoding(f *testing.F) {
	c := newCluster(f, "prod")
	token := c.token(f, "ops", "admin")
	raw := c.event(f, "ops", token, "deploy")
	f.Add(raw)
	f.Add(raw[:len(raw)-1])
	f.Add(token)
	for _, req := range []EventRequest{
		{Name: "a", Tags: []TagFilter{{"role", "web.*"}, {"zone", ""}}}, {Name: "a", Payload: make([]byte, MaxEventPayload+1)},
	} {
		req.Cluster = c.trust.Cluster()
		f.Add(must(SignEvent(testKey("ops"), token, req, start)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var body eventBody
		m, err := eventKind.parse(raw, &body)
		if err != nil {
			return
		}
		if again := must(cose.Marshal(body)); !bytes.Equal(again, m.Payload) {
			t.Errorf("second encoding accepted: %x", raw)
		}
		if CheckEventName(body.Name) != nil || len(body.Payload) > MaxEventPayload || body.Expires-body.Issued > 3_600_000 {
			t.Errorf("accepted beyond the limits: %+v", body)
		}
	})
}
