package agent

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
)

// cluster is a root, a keeper's issuer, and what a runner believes that knows only the
// root.
type cluster struct {
	root, issuer *pki.Authority
	rawIssuer    []byte
	trust        *pki.Trust
}

var today = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func keyOf(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func newCluster(t *testing.T, name string) *cluster {
	t.Helper()
	key := keyOf("root of " + name)
	der := must(t)(pki.NewRoot(pki.Name(name), key, today.Add(-time.Hour)))
	bundle := pki.EncodeCertificates([][]byte{der})
	trust, err := pki.ParseBundle(bundle)
	check(t, err)
	full, err := pki.ParseBundle(bundle) // the keeper's own: it knows its issuer
	check(t, err)
	cert, err := x509.ParseCertificate(der)
	check(t, err)
	root, err := pki.NewAuthority(cert, key, full)
	check(t, err)
	c := &cluster{root: root, trust: trust}
	issuerKey := keyOf("issuer of " + name)
	c.rawIssuer = must(t)(root.Issuer("keeper", issuerKey.Public().(ed25519.PublicKey), today.Add(-time.Hour)))
	_, err = full.AddIssuer(c.rawIssuer, today)
	check(t, err)
	cert, err = x509.ParseCertificate(c.rawIssuer)
	check(t, err)
	c.issuer, err = pki.NewAuthority(cert, issuerKey, full)
	check(t, err)
	return c
}

func must(t *testing.T) func([]byte, error) []byte {
	return func(raw []byte, err error) []byte {
		t.Helper()
		check(t, err)
		return raw
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// event is signed by a client with a token of this authority.
func (c *cluster) event(t *testing.T, by *pki.Authority, client string, grant rpcauth.Grant, nodes []string, issued time.Time) []byte {
	t.Helper()
	key := keyOf(client)
	_, token, err := rpcauth.Mint(by, rpcauth.TokenRequest{
		Subject: pki.Name(client), Key: key.Public().(ed25519.PublicKey), Grants: []rpcauth.Grant{grant},
	}, today.Add(-time.Hour))
	check(t, err)
	return must(t)(rpcauth.SignEvent(key, token, rpcauth.EventRequest{
		Cluster: c.trust.Cluster(), Name: "deploy", Payload: []byte("v1"), Nodes: nodes,
	}, issued))
}

// Threat L12: a network process that was broken into says what it likes. Only what a
// client has signed for this node, now and once, runs a handler.
func TestRunnerBelievesOnlyWhatAClientSignedForThisNodeNowAndOnce(t *testing.T) {
	c, other := newCluster(t, "demo"), newCluster(t, "other")
	started := today
	now := today.Add(time.Minute)
	const grant = "event:deploy"
	good := c.event(t, c.root, "alice", grant, nil, now)
	changed := append([]byte(nil), good...)
	changed[len(changed)/2] ^= 1
	unsigned := append([]byte(nil), good...)
	clear(unsigned[len(unsigned)-ed25519.SignatureSize:])

	for what, test := range map[string]struct {
		raw  []byte
		want error // nil: it is believed
	}{
		"good":                      {good, nil},
		"for this node":             {c.event(t, c.root, "alice", grant, []string{"web-1", "web-2"}, now), nil},
		"by the issuer it was told": {c.event(t, c.issuer, "bob", grant, nil, now), nil},
		"as old as clocks differ":   {c.event(t, c.root, "alice", grant, nil, started.Add(-pki.Tolerance)), nil},
		"nothing":                   {nil, rpcauth.ErrMalformed},
		"changed":                   {changed, errAny},
		"not signed":                {unsigned, rpcauth.ErrSignature},
		"signed for another":        {other.event(t, other.root, "alice", grant, nil, now), errAny},
		"without the grant":         {c.event(t, c.root, "carol", "event:restart", nil, now), rpcauth.ErrGrant},
		"for another node":          {c.event(t, c.root, "alice", grant, []string{"web-2"}, now), errElsewhere},
		"expired":                   {c.event(t, c.root, "alice", grant, nil, now.Add(-rpcauth.DefaultEventLife)), rpcauth.ErrExpired},
		"from the future":           {c.event(t, c.root, "alice", grant, nil, now.Add(pki.Tolerance+time.Second)), rpcauth.ErrNotYetValid},
		"from before this start":    {c.event(t, c.root, "alice", grant, nil, started.Add(-pki.Tolerance-time.Millisecond)), errOld},
		"by an issuer of nobody's":  {other.event(t, other.issuer, "alice", grant, nil, now), errAny},
	} {
		clock := started
		j := newJudge(c.trust, "web-1", func() time.Time { return started }, func() time.Time { return clock })
		clock = now
		_, err := c.trust.AddIssuer(c.rawIssuer, now)
		check(t, err)
		if _, err := c.trust.AddIssuer(other.rawIssuer, now); err == nil {
			t.Fatal("an issuer of another root is taken in")
		}
		e, err := j.event(test.raw, nil, nil)
		switch {
		case test.want == nil && err != nil:
			t.Errorf("%s: %v", what, err)
		case test.want == errAny && err == nil, test.want != errAny && !errors.Is(err, test.want):
			t.Errorf("%s: got %v, want %v", what, err, test.want)
		case err == nil && (e.Name != "deploy" || string(e.Payload) != "v1"):
			t.Errorf("%s: got %+v", what, e)
		}
		if err == nil {
			if _, err := j.event(test.raw, nil, nil); !errors.Is(err, errSeen) {
				t.Errorf("%s, again: got %v, want %v", what, err, errSeen)
			}
		}
	}
}

// Threat L12: the network process gives another payload than the client has signed, and
// shows events to a node whose tags do not fit.
func TestRunnerChecksPayloadsAndTagsItself(t *testing.T) {
	c := newCluster(t, "demo")
	key := keyOf("alice")
	_, token, err := rpcauth.Mint(c.root, rpcauth.TokenRequest{
		Subject: "alice", Key: key.Public().(ed25519.PublicKey), Grants: []rpcauth.Grant{"event:*"},
	}, today.Add(-time.Hour))
	check(t, err)
	large := bytes.Repeat([]byte("x"), 1<<20)
	sign := func(payload []byte, tags ...rpcauth.TagFilter) []byte {
		return must(t)(rpcauth.SignEvent(key, token, rpcauth.EventRequest{Cluster: c.trust.Cluster(), Name: "deploy", Payload: payload, Tags: tags}, today))
	}
	web := rpcauth.TagFilter{Tag: "role", Expr: "web.*"}
	for what, test := range map[string]struct {
		raw, payload []byte
		role         string
		want         error
	}{
		"with its payload":       {sign(large), large, "", nil},
		"without it":             {sign(large), nil, "", rpcauth.ErrPayload},
		"with less of it":        {sign(large), large[1:], "", rpcauth.ErrPayload},
		"with another":           {sign(large), bytes.Repeat([]byte("y"), 1<<20), "", rpcauth.ErrPayload},
		"with one that it lacks": {sign([]byte("v1")), large, "", rpcauth.ErrPayload},
		"for such a node":        {sign(large, web), large, "web-old", nil},
		"for another node":       {sign(large, web), large, "old-web", errElsewhere},
	} {
		j := newJudge(c.trust, "web-1", complete, begunToday)
		e, err := j.event(test.raw, test.payload, map[string]string{"role": test.role})
		if !errors.Is(err, test.want) || err == nil && !bytes.Equal(e.Payload, large) {
			t.Errorf("%s: got %v, want %v, and the payload", what, err, test.want)
		}
	}
}

// begunToday is said by a journal of runs that is new.
func begunToday() time.Time { return today }

// complete is said by a journal of runs that has always been there.
func complete() time.Time { return time.Time{} }

// An event from before this start is only a danger when what ran then is forgotten.
func TestRunnerThatKnowsItsRunsTakesWhatCameWhileItWasAway(t *testing.T) {
	c := newCluster(t, "demo")
	j := newJudge(c.trust, "web-1", complete, begunToday)
	raw := c.event(t, c.root, "alice", "event:*", nil, today.Add(-rpcauth.DefaultEventLife+time.Second))
	if _, err := j.event(raw, nil, nil); err != nil {
		t.Error(err)
	}
	j.since, j.seen = begunToday, make(map[eventKey]int64)
	if _, err := j.event(raw, nil, nil); !errors.Is(err, errOld) {
		t.Errorf("got %v, want %v", err, errOld)
	}
}

var errAny = errors.New("an error")

// What was taken in stays known for as long as it could come back, and no memory is
// made without a bound.
func TestRunnerForgetsNoEventThatIsStillValid(t *testing.T) {
	c := newCluster(t, "demo")
	now := today
	j := newJudge(c.trust, "web-1", begunToday, func() time.Time { return now })
	raw := c.event(t, c.root, "alice", "event:*", nil, now)
	if _, err := j.event(raw, nil, nil); err != nil {
		t.Fatal(err)
	}
	for i := range maxSeen - 1 {
		j.seen[eventKey{byte(i), byte(i >> 8), byte(i >> 16), 1}] = now.Add(rpcauth.MaxEventLife).UnixMilli()
	}
	if _, err := j.event(c.event(t, c.root, "alice", "event:*", nil, now), nil, nil); !errors.Is(err, errManyEvents) {
		t.Errorf("got %v, want %v", err, errManyEvents)
	}
	if _, err := j.event(raw, nil, nil); !errors.Is(err, errSeen) {
		t.Errorf("got %v, want %v", err, errSeen)
	}
	now = now.Add(rpcauth.MaxEventLife + pki.Tolerance + time.Second)
	if _, err := j.event(c.event(t, c.root, "alice", "event:*", nil, now), nil, nil); err != nil {
		t.Errorf("later there is no room: %v", err)
	}
	if len(j.seen) != 1 {
		t.Errorf("%d events are remembered, want 1", len(j.seen))
	}
}

func TestRunnerAsksWhetherAClientWasRevoked(t *testing.T) {
	c := newCluster(t, "demo")
	j := newJudge(c.trust, "web-1", begunToday, begunToday)
	c.trust.SetRevoked(func(kind pki.Kind, name pki.Name, _ ed25519.PublicKey, _ time.Time) bool {
		return kind == pki.KindClient && name == "mallory"
	})
	if _, err := j.event(c.event(t, c.root, "mallory", "event:*", nil, today), nil, nil); !errors.Is(err, pki.ErrRevoked) {
		t.Errorf("got %v, want %v", err, pki.ErrRevoked)
	}
	if _, err := j.event(c.event(t, c.root, "alice", "event:*", nil, today), nil, nil); err != nil {
		t.Error(err)
	}
}

// query is signed by a client for the node web-1 to take.
func (c *cluster) query(t *testing.T, client string, grant rpcauth.Grant, tags []rpcauth.TagFilter, nodes []string, issued time.Time) []byte {
	t.Helper()
	key := keyOf(client)
	_, token, err := rpcauth.Mint(c.root, rpcauth.TokenRequest{
		Subject: pki.Name(client), Key: key.Public().(ed25519.PublicKey), Grants: []rpcauth.Grant{grant},
	}, today.Add(-time.Hour))
	check(t, err)
	raw, _, err := rpcauth.SignQuery(key, token, rpcauth.QueryRequest{
		Cluster: c.trust.Cluster(), Origin: "web-3", Name: "load", Tags: tags, Nodes: nodes, Timeout: time.Minute,
	}, issued)
	check(t, err)
	return raw
}

// Threat L12, of queries.
func TestRunnerBelievesOnlyQueriesThatAClientSignedForThisNodeNowAndOnce(t *testing.T) {
	c, other := newCluster(t, "demo"), newCluster(t, "other")
	now := today.Add(10 * time.Minute)
	const grant = "query:load"
	role := func(expr string) []rpcauth.TagFilter { return []rpcauth.TagFilter{{Tag: "role", Expr: expr}} }
	good := c.query(t, "alice", grant, nil, nil, now)
	for what, test := range map[string]struct {
		raw  []byte
		want error // nil: it is believed
	}{
		"good":                    {good, nil},
		"for this node":           {c.query(t, "alice", grant, nil, []string{"web-1"}, now), nil},
		"for nodes of its tags":   {c.query(t, "alice", grant, role("w.b"), nil, now), nil},
		"for nodes of other tags": {c.query(t, "alice", grant, role("db"), nil, now), errElsewhere},
		"for another node":        {c.query(t, "alice", grant, nil, []string{"web-2"}, now), errElsewhere},
		"of another cluster":      {other.query(t, "alice", grant, nil, nil, now), errAny},
		"without the grant":       {c.query(t, "carol", "query:other", nil, nil, now), rpcauth.ErrGrant},
		"an event":                {c.event(t, c.root, "alice", "event:deploy", nil, now), errAny},
		"expired":                 {c.query(t, "alice", grant, nil, nil, now.Add(-4*time.Minute)), rpcauth.ErrExpired},
	} {
		j := newJudge(c.trust, "web-1", complete, func() time.Time { return today })
		j.now = func() time.Time { return now }
		_, err := j.query(test.raw, map[string]string{"role": "web"})
		switch {
		case test.want == nil && err != nil, test.want == errAny && err == nil,
			test.want != nil && test.want != errAny && !errors.Is(err, test.want):
			t.Errorf("%s: got %v, want %v", what, err, test.want)
		}
	}

	j := newJudge(c.trust, "web-1", complete, func() time.Time { return now })
	if _, err := j.query(good, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := j.query(good, nil); !errors.Is(err, errSeen) {
		t.Errorf("a second time: got %v", err)
	}
	j.started = now.Add(3 * time.Minute) // which a clock that was set makes possible
	if _, err := j.query(c.query(t, "bob", grant, nil, nil, now), nil); !errors.Is(err, errOld) {
		t.Errorf("of before the start: got %v", err)
	}
}
