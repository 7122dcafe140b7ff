package rpcauth

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
	"github.com/secgossip/secgossip/pki"
)

// oneRuleEach has a procedure for every verb, the verb its name.
func oneRuleEach() map[string]Rule {
	rules := make(map[string]Rule)
	for _, verb := range append(slices.Clone(plainVerbs), globVerbs...) {
		rules["/test.Service/"+string(verb)] = Rule{AnyOf: []Verb{verb}, Mutates: verb != MembersRead}
	}
	return rules
}

// gateUnderTest counts what comes through and keeps what is put on record.
type gateUnderTest struct {
	*Gate
	verifier *Verifier
	now      time.Time
	records  []AuditRecord
	passed   int
	handler  http.Handler
}

func newGate(t testing.TB, c *testCluster) *gateUnderTest {
	t.Helper()
	g := &gateUnderTest{verifier: NewVerifier(c.trust), now: start}
	g.Gate = must(NewGate(GateConfig{
		Verifier: g.verifier,
		Rules:    oneRuleEach(),
		Now:      func() time.Time { return g.now },
		Audit:    func(r AuditRecord) { g.records = append(g.records, r) },
	}))
	g.handler = g.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.passed++
		principal, ok := PrincipalFrom(r.Context())
		if !ok {
			t.Error("no principal behind the gate")
			return
		}
		io.WriteString(w, string(principal.Name))
	}))
	return g
}

// unread is a body that nobody may touch.
type unread struct{ t testing.TB }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read before the caller was let in")
	return 0, io.EOF
}

// call makes a request as it would arrive over a connection on which the owner
// of cert's key has proved itself; nil for a caller without a certificate.
func (g *gateUnderTest) call(t testing.TB, cert *tls.Certificate, procedure, authorization string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, procedure, unread{t})
	r.TLS = &tls.ConnectionState{HandshakeComplete: true}
	if cert != nil {
		for _, der := range cert.Certificate {
			r.TLS.PeerCertificates = append(r.TLS.PeerCertificates, must(x509.ParseCertificate(der)))
		}
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	g.handler.ServeHTTP(w, r)
	return w
}

const readMembers = "/test.Service/members:read"

func bearer(raw []byte) string { return "Bearer " + TokenText(raw) }

func TestCertificateAndTokenTogetherAreLetIn(t *testing.T) {
	c := newCluster(t, "prod")
	g := newGate(t, c)
	w := g.call(t, c.clientCert(t, "ops"), readMembers, bearer(c.token(t, "ops", "members:read")))
	if w.Code != http.StatusOK || w.Body.String() != "ops" || g.passed != 1 {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
	if len(g.records) != 0 {
		t.Errorf("a call that changes nothing is on record: %+v", g.records)
	}
}

// Threat K07: one without the other, in every way, is refused, and all refusals
// look alike.
func TestEitherAloneIsRefusedAndAllRefusalsLookAlike(t *testing.T) {
	c, other := newCluster(t, "prod"), newCluster(t, "staging")
	cert, good := c.clientCert(t, "ops"), c.token(t, "ops", "admin")
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	mint := func(subject string, key string) []byte {
		_, raw, err := Mint(c.root, TokenRequest{Subject: pki.Name(subject), Key: public(testKey(key)), Grants: []Grant{"admin"}}, start)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	selfMade := must(cose.Sign(testKey("ops"), cose.Context(tokenLabel, c.trust.Cluster()), must(cose.Parse(good)).Payload))

	rows := []struct {
		name          string
		cert          *tls.Certificate
		authorization string
	}{
		{"no certificate", nil, bearer(good)},
		{"neither", nil, ""},
		{"no token", cert, ""},
		{"an empty token", cert, "Bearer "},
		{"a token without its scheme", cert, TokenText(good)},
		{"a token in another scheme", cert, "Basic " + TokenText(good)},
		{"noise", cert, "Bearer sgt_AAAA"},
		{"half a token", cert, bearer(good[:len(good)/2])},
		{"a long token", cert, "Bearer sgt_" + strings.Repeat("A", 8000)},
		{"a wrong signature", cert, bearer(flipped)},
		{"a token the client signed", cert, bearer(selfMade)},
		{"another client's token", cert, bearer(c.token(t, "dev", "admin"))},
		{"another client's certificate", c.clientCert(t, "dev"), bearer(good)},
		{"the same name with another key", cert, bearer(mint("ops", "dev"))},
		{"the same key with another name", cert, bearer(mint("dev", "ops"))},
		{"another cluster's token", cert, bearer(other.token(t, "ops", "admin"))},
		{"another cluster's certificate", other.clientCert(t, "ops"), bearer(good)},
		{"another cluster's both", other.clientCert(t, "ops"), bearer(other.token(t, "ops", "admin"))},
		{"a node with a token", c.nodeCert(t, "ops"), bearer(good)},
		{"a self-signed certificate over the right key", selfSigned(t, "prod", "ops"), bearer(good)},
		{"an event for a token", cert, bearer(c.event(t, "ops", good, "deploy"))},
	}
	var first *httptest.ResponseRecorder
	for _, row := range rows {
		for _, procedure := range []string{readMembers, "/test.Service/keys:rotate", "/test.Service/none", "/"} {
			g := newGate(t, c)
			checks := g.verifier.checks.Load()
			w := g.call(t, row.cert, procedure, row.authorization)
			if first == nil {
				first = w
			}
			if w.Code != http.StatusUnauthorized || g.passed != 0 {
				t.Errorf("%s, %s: got %d %q, %d passed", row.name, procedure, w.Code, w.Body, g.passed)
			}
			if w.Body.String() != first.Body.String() || !equalHeaders(w.Header(), first.Header()) {
				t.Errorf("%s, %s: got %v %q, others get %v %q", row.name, procedure, w.Header(), w.Body, first.Header(), first.Body)
			}
			if len(g.records) != 1 || g.records[0].Verdict != Unauthenticated || g.records[0].Reason == "" {
				t.Errorf("%s, %s: on record are %+v, want one refusal with its reason", row.name, procedure, g.records)
			}
			if got := g.verifier.checks.Load() - checks; got != 1 {
				t.Errorf("%s, %s: %d signature checks, want 1", row.name, procedure, got)
			}
		}
	}
	if want := `{"code":"unauthenticated","message":"unauthenticated"}`; first.Body.String() != want {
		t.Errorf("got %s, want %s", first.Body, want)
	}
}

func equalHeaders(a, b http.Header) bool {
	var left, right bytes.Buffer
	a.Write(&left)
	b.Write(&right)
	return left.String() == right.String()
}

// selfSigned looks like a client's certificate and is signed by its own key.
func selfSigned(t *testing.T, cluster, name string) *tls.Certificate {
	t.Helper()
	key := testKey(name)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: start.Add(-time.Hour), NotAfter: start.Add(time.Hour),
		URIs:     []*url.URL{must(url.Parse("spiffe://" + cluster + "/client/" + name))},
		DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, public(key), key))
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestTwoAuthorizationHeadersAreRefused(t *testing.T) {
	c := newCluster(t, "prod")
	g := newGate(t, c)
	r := httptest.NewRequest(http.MethodPost, readMembers, unread{t})
	r.TLS = &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{must(x509.ParseCertificate(c.clientCert(t, "ops").Certificate[0]))}}
	r.Header["Authorization"] = []string{bearer(c.token(t, "ops", "admin")), "Basic x"}
	w := httptest.NewRecorder()
	g.handler.ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized || g.passed != 0 {
		t.Errorf("got %d", w.Code)
	}
}

func TestWithoutTLSNobodyIsLetIn(t *testing.T) {
	c := newCluster(t, "prod")
	g := newGate(t, c)
	cert := must(x509.ParseCertificate(c.clientCert(t, "ops").Certificate[0]))
	for name, state := range map[string]*tls.ConnectionState{
		"plain":                   nil,
		"an unfinished handshake": {PeerCertificates: []*x509.Certificate{cert}},
	} {
		r := httptest.NewRequest(http.MethodPost, readMembers, unread{t})
		r.TLS = state
		r.Header.Set("Authorization", bearer(c.token(t, "ops", "admin")))
		w := httptest.NewRecorder()
		g.handler.ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized || g.passed != 0 {
			t.Errorf("%s: got %d", name, w.Code)
		}
	}
}

func TestEachGrantOpensItsProceduresAndNoOthers(t *testing.T) {
	c := newCluster(t, "prod")
	cert := c.clientCert(t, "ops")
	for _, grant := range everyNeed {
		authorization := bearer(c.token(t, "ops", grant))
		for procedure, rule := range oneRuleEach() {
			g := newGate(t, c)
			w := g.call(t, cert, procedure, authorization)
			want := http.StatusForbidden
			if grant == "admin" || grant.Verb() == rule.AnyOf[0] {
				want = http.StatusOK
			}
			if w.Code != want || (g.passed == 1) != (want == http.StatusOK) {
				t.Errorf("%q at %s: got %d, want %d", grant, procedure, w.Code, want)
			}
		}
	}
}

func TestWhoLacksAGrantIsToldWhichAndIsOnRecord(t *testing.T) {
	c := newCluster(t, "prod")
	g := newGate(t, c)
	token := c.token(t, "ops", "event:deploy")
	w := g.call(t, c.clientCert(t, "ops"), "/test.Service/keys:rotate", bearer(token))
	body := w.Body.String()
	if w.Code != http.StatusForbidden || !strings.Contains(body, "permission_denied") || !strings.Contains(body, "keys:rotate") || !strings.Contains(body, "event:deploy") {
		t.Errorf("got %d %s", w.Code, body)
	}
	if w := g.call(t, c.clientCert(t, "ops"), "/test.Service/query:", bearer(token)); !strings.Contains(w.Body.String(), "query:GLOB") {
		t.Errorf("got %s", w.Body)
	}
	want := AuditRecord{
		Time: start, Who: "ops", Token: must(InspectToken(token)).IDText(), What: "/test.Service/keys:rotate", Verdict: PermissionDenied,
		Reason: `client "ops" needs the grant "keys:rotate"; its token holds "event:deploy"`, Source: "192.0.2.1:1234",
	}
	if len(g.records) != 2 || g.records[0] != want {
		t.Errorf("on record: %+v, want %+v and one more", g.records, want)
	}
}

func TestAnUnknownProcedureIsRefusedToAnAdmin(t *testing.T) {
	c := newCluster(t, "prod")
	authorization := bearer(c.token(t, "ops", "admin"))
	for _, path := range []string{
		"/", "/test.Service/", "/test.Service/None", "/test.Service/members:read/", "//test.Service/members:read", "/x/../test.Service/members:read",
		"/test.Service/members%3Aread", "/test.Service%2Fmembers:read", "/%74est.Service/members:read", "/TEST.Service/members:read",
	} {
		g := newGate(t, c)
		w := g.call(t, c.clientCert(t, "ops"), path, authorization)
		if w.Code != http.StatusNotImplemented || g.passed != 0 {
			t.Errorf("%s: got %d, %d passed", path, w.Code, g.passed)
		}
		if len(g.records) != 1 || g.records[0].What != "" || g.records[0].Verdict != Unimplemented {
			t.Errorf("%s: on record are %+v", path, g.records)
		}
	}
}

func TestEachCallThatChangesSomethingIsOnRecordOnce(t *testing.T) {
	c := newCluster(t, "prod")
	g := newGate(t, c)
	token := c.token(t, "ops", "admin")
	for range 3 {
		g.call(t, c.clientCert(t, "ops"), "/test.Service/event:", bearer(token))
		g.call(t, c.clientCert(t, "ops"), readMembers, bearer(token))
	}
	if len(g.records) != 3 || g.passed != 6 {
		t.Fatalf("%d records and %d calls, want 3 and 6", len(g.records), g.passed)
	}
	want := AuditRecord{Time: start, Who: "ops", Token: must(InspectToken(token)).IDText(), What: "/test.Service/event:", Verdict: Allowed, Source: "192.0.2.1:1234"}
	if g.records[0] != want {
		t.Errorf("got %+v\nwant %+v", g.records[0], want)
	}
}

func TestBothEndWithTime(t *testing.T) {
	c := newCluster(t, "prod")
	cert := c.clientCert(t, "ops")
	mint := func(now time.Time) string {
		_, raw, err := Mint(c.root, TokenRequest{Subject: "ops", Key: public(testKey("ops")), Grants: []Grant{"admin"}}, now)
		if err != nil {
			t.Fatal(err)
		}
		return bearer(raw)
	}
	old, end := mint(start), start.Add(pki.ClientLife)
	fresh := mint(end)
	for _, test := range []struct {
		name          string
		at            time.Time
		authorization string
		want          int
	}{
		{"both good", end, old, http.StatusOK},
		{"the token expired", end.Add(time.Hour), old, http.StatusUnauthorized},
		{"the certificate expired, on a connection made before", end.Add(time.Hour), fresh, http.StatusUnauthorized},
		{"the token not valid yet", end.Add(-time.Hour), fresh, http.StatusUnauthorized},
	} {
		g := newGate(t, c)
		g.now = test.at
		if w := g.call(t, cert, readMembers, test.authorization); w.Code != test.want {
			t.Errorf("%s: got %d, want %d", test.name, w.Code, test.want)
		}
	}
}

// Threat K08.
func TestGuessesAreTurnedAwayUnreadAndOneRecordTellsOfThem(t *testing.T) {
	c := newCluster(t, "prod")
	g := newGate(t, c)
	cert, dev := c.clientCert(t, "ops"), c.clientCert(t, "dev")
	good := bearer(c.token(t, "ops", "admin"))
	if w := g.call(t, cert, readMembers, good); w.Code != http.StatusOK {
		t.Fatal(w.Code)
	}
	before, codes := g.verifier.checks.Load(), make(map[int]int)
	for range 1000 {
		codes[g.call(t, dev, readMembers, "Bearer sgt_AAAA").Code]++
	}
	if codes[http.StatusUnauthorized] != sourceBurst || codes[http.StatusTooManyRequests] != 1000-sourceBurst {
		t.Errorf("got %v, want %d times 401 and then 429", codes, sourceBurst)
	}
	if got := g.verifier.checks.Load() - before; got != sourceBurst {
		t.Errorf("%d signature checks for 1000 guesses, want %d", got, sourceBurst)
	}
	if got := len(g.records); got != sourceBurst+1 {
		t.Errorf("%d records, want %d", got, sourceBurst+1)
	}
	if w := g.call(t, cert, readMembers, good); w.Code != http.StatusOK {
		t.Errorf("a caller with standing, behind the same address: got %d", w.Code)
	}
	g.now = start.Add(3 * time.Second)
	for range 5 {
		g.call(t, dev, readMembers, "Bearer sgt_AAAA")
	}
	last := g.records[len(g.records)-1]
	if last.Verdict != ResourceExhausted || last.Skipped != 1000-sourceBurst-1 {
		t.Errorf("the last record is %+v, want one that tells of %d others", last, 1000-sourceBurst-1)
	}
}

func TestAGateMissingSomethingIsNotBuilt(t *testing.T) {
	_, err := NewGate(GateConfig{Rules: map[string]Rule{"/a/b": {}}})
	if err == nil {
		t.Fatal("built")
	}
	for _, want := range []string{"Verifier", "clock", "refusals", `"/a/b"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
}

func TestPrincipalIsOnlyBehindTheGate(t *testing.T) {
	if principal, ok := PrincipalFrom(context.Background()); ok || principal != nil {
		t.Errorf("got %v", principal)
	}
}

// The same over real connections, where TLS has its say first.
func TestGateOverTLS(t *testing.T) {
	c, other := newCluster(t, "prod"), newCluster(t, "staging")
	now := func() time.Time { return start }
	node := c.nodeCert(t, "web-1")
	g := newGate(t, c)

	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	config := c.trust.ServerTLS(func() (*tls.Certificate, error) { return node, nil }, []pki.Kind{pki.KindClient}, now)
	server := &http.Server{Handler: g.handler, TLSConfig: config}
	done := make(chan error, 1)
	go func() { done <- server.ServeTLS(listener, "", "") }()
	defer func() { server.Close(); <-done }()

	call := func(cert *tls.Certificate, authorization string) (int, string, error) {
		config := c.trust.ClientTLS(func() (*tls.Certificate, error) { return cert, nil }, "web-1", now)
		transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		r := must(http.NewRequest(http.MethodPost, "https://"+listener.Addr().String()+readMembers, strings.NewReader("{}")))
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		resp, err := (&http.Client{Transport: transport}).Do(r)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), err
	}
	good := bearer(c.token(t, "ops", "members:read"))
	for _, test := range []struct {
		name          string
		cert          *tls.Certificate
		authorization string
		want          int // 0: no connection
	}{
		{"both", c.clientCert(t, "ops"), good, http.StatusOK},
		{"no token", c.clientCert(t, "ops"), "", http.StatusUnauthorized},
		{"another client's token", c.clientCert(t, "dev"), good, http.StatusUnauthorized},
		{"another cluster's token", c.clientCert(t, "ops"), bearer(other.token(t, "ops", "admin")), http.StatusUnauthorized},
		{"no certificate", &tls.Certificate{}, good, 0},
		{"another cluster's certificate", other.clientCert(t, "ops"), good, 0},
		{"a node's certificate", c.nodeCert(t, "ops"), good, 0},
		{"a copied certificate with another key", &tls.Certificate{Certificate: c.clientCert(t, "ops").Certificate, PrivateKey: testKey("dev")}, good, 0},
	} {
		code, body, err := call(test.cert, test.authorization)
		if code != test.want || (err != nil) != (test.want == 0) {
			t.Errorf("%s: got %d %q %v, want %d", test.name, code, body, err, test.want)
		}
	}
	if g.passed != 1 {
		t.Errorf("%d calls came through, want 1", g.passed)
	}
}
