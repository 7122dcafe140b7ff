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

func TestMintedTokenVerifies(t *testing.T) {
	c := newCluster(t, "prod")
	for _, signer := range []*pki.Authority{c.root, c.issuer(t, "keeper-1")} {
		text, raw, err := Mint(signer, TokenRequest{
			Subject: "ops", Key: public(testKey("ops")), Grants: []Grant{"monitor", "event:deploy", "monitor"}, Life: time.Hour,
		}, start)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseTokenText(text)
		if err != nil || !bytes.Equal(back, raw) {
			t.Fatalf("ParseTokenText: %v, or other bytes than Mint's", err)
		}
		token, err := NewVerifier(c.trust).VerifyToken(raw, start)
		if err != nil {
			t.Fatal(err)
		}
		if token.Subject != "ops" || !token.Key.Equal(public(testKey("ops"))) || !slices.Equal(token.Grants, []Grant{"event:deploy", "monitor"}) {
			t.Errorf("got %+v", token)
		}
		if !token.NotAfter.Equal(start.Add(time.Hour)) || token.NotBefore.After(start) {
			t.Errorf("good from %v to %v, want one hour from %v", token.NotBefore, token.NotAfter, start)
		}
		if token.IDText() == strings.Repeat("0", 32) || len(token.IDText()) != 32 {
			t.Errorf("id %q", token.IDText())
		}
	}
}

func TestTokenLivesAsLongAsAClientButNotLongerThanItsSigner(t *testing.T) {
	c := newCluster(t, "prod")
	life := func(signer *pki.Authority, life time.Duration, now time.Time) time.Time {
		t.Helper()
		_, raw, err := Mint(signer, TokenRequest{Subject: "ops", Key: public(testKey("ops")), Grants: []Grant{"admin"}, Life: life}, now)
		if err != nil {
			t.Fatal(err)
		}
		return must(InspectToken(raw)).NotAfter
	}
	if got, want := life(c.root, 0, start), start.Add(pki.ClientLife); !got.Equal(want) {
		t.Errorf("by default until %v, want %v", got, want)
	}
	issuer := c.issuer(t, "keeper-1")
	late := start.Add(pki.IssuerLife - 24*time.Hour)
	if got, want := life(issuer, 0, late), start.Add(pki.IssuerLife); got.After(want) {
		t.Errorf("until %v, after its signer's end at %v", got, want)
	}
	_, _, err := Mint(issuer, TokenRequest{Subject: "ops", Key: public(testKey("ops")), Grants: []Grant{"admin"}}, start.Add(2*pki.IssuerLife))
	wantError(t, "minting with an expired issuer", err, ErrExpired)
}

func TestMintRefuses(t *testing.T) {
	c := newCluster(t, "prod")
	var many, long []Grant
	for _, a := range "abcdefghij" {
		for _, b := range "abcdefg" {
			many = append(many, Grant("event:"+string(a)+string(b)))
			long = append(long, Grant("event:"+string(a)+string(b)+strings.Repeat("x", 60)))
		}
	}
	for name, req := range map[string]TokenRequest{
		"a bad name":        {Subject: "Ops", Grants: []Grant{"admin"}},
		"no name":           {Grants: []Grant{"admin"}},
		"no grants":         {Subject: "ops"},
		"an unknown grant":  {Subject: "ops", Grants: []Grant{"root"}},
		"65 grants":         {Subject: "ops", Grants: many[:MaxGrants+1]},
		"2 kB of grants":    {Subject: "ops", Grants: long[:MaxGrants]},
		"too short a life":  {Subject: "ops", Grants: []Grant{"admin"}, Life: pki.MinLife - 1},
		"a negative life":   {Subject: "ops", Grants: []Grant{"admin"}, Life: -time.Hour},
		"a key of 31 bytes": {Subject: "ops", Grants: []Grant{"admin"}, Key: make([]byte, 31)},
	} {
		if req.Key == nil {
			req.Key = public(testKey("ops"))
		}
		if text, _, err := Mint(c.root, req, start); err == nil {
			t.Errorf("%s: minted a token of %d characters", name, len(text))
		}
	}
}

func TestTokenOfAnotherSignerIsRefused(t *testing.T) {
	c, other := newCluster(t, "prod"), newCluster(t, "staging")
	v := NewVerifier(c.trust)
	good := c.token(t, "ops", "admin")
	payload := must(cose.Parse(good)).Payload
	sign := func(key ed25519.PrivateKey, label string, cluster pki.ClusterID) []byte {
		return must(cose.Sign(key, cose.Context(label, cluster), payload))
	}
	rootKey := testKey("root of prod")
	id := c.trust.Cluster()
	if _, err := v.VerifyToken(sign(rootKey, tokenLabel, id), start); err != nil {
		t.Fatalf("signed as Mint does: %v", err)
	}
	for _, test := range []struct {
		name string
		raw  []byte
		want error
	}{
		{"another cluster's", other.token(t, "ops", "admin"), ErrUnknownSigner},
		{"another cluster's root for this cluster", sign(testKey("root of staging"), tokenLabel, id), ErrUnknownSigner},
		{"this root for another cluster", sign(rootKey, tokenLabel, other.trust.Cluster()), ErrSignature},
		{"signed for another purpose", sign(rootKey, eventLabel, id), ErrSignature},
		{"signed as a credential", sign(rootKey, "secgossip/1 credential", id), ErrSignature},
		{"the client's own", sign(testKey("ops"), tokenLabel, id), ErrUnknownSigner},
		{"a node's", sign(testKey("node-1"), tokenLabel, id), ErrUnknownSigner},
		{"the decoy's", sign(ed25519.NewKeyFromSeed(make([]byte, 32)), tokenLabel, id), ErrUnknownSigner},
		{"nobody's", nil, ErrMalformed},
	} {
		_, err := v.VerifyToken(test.raw, start)
		wantError(t, test.name, err, test.want)
	}
}

func TestTokenOfAnIssuerNobodyToldUsAboutIsRefused(t *testing.T) {
	there, here := newCluster(t, "prod"), newCluster(t, "prod") // one root, two hosts
	_, raw, err := Mint(there.issuer(t, "keeper-1"), TokenRequest{Subject: "ops", Key: public(testKey("ops")), Grants: []Grant{"admin"}}, start)
	if err != nil {
		t.Fatal(err)
	}
	v := NewVerifier(here.trust)
	_, err = v.VerifyToken(raw, start)
	wantError(t, "before", err, ErrUnknownSigner)
	here.issuer(t, "keeper-1")
	if _, err := v.VerifyToken(raw, start); err != nil {
		t.Errorf("after the issuer is known: %v", err)
	}
	_, err = v.VerifyToken(raw, start.Add(pki.IssuerLife+time.Hour))
	wantError(t, "after the issuer's end", err, ErrUnknownSigner)
}

func TestTokenIsGoodInItsTimeGiveOrTakeTwoMinutes(t *testing.T) {
	c := newCluster(t, "prod")
	v := NewVerifier(c.trust)
	_, raw, err := Mint(c.root, TokenRequest{Subject: "ops", Key: public(testKey("ops")), Grants: []Grant{"admin"}, Life: time.Hour}, start.Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	token := must(InspectToken(raw))
	for _, test := range []struct {
		name string
		at   time.Time
		want error
	}{
		{"long before", start, ErrNotYetValid},
		{"just before", token.NotBefore.Add(-pki.Tolerance - time.Second), ErrNotYetValid},
		{"before, within tolerance", token.NotBefore.Add(-pki.Tolerance), nil},
		{"in its time", token.NotBefore.Add(time.Minute), nil},
		{"after, within tolerance", token.NotAfter.Add(pki.Tolerance), nil},
		{"just after", token.NotAfter.Add(pki.Tolerance + time.Second), ErrExpired},
		{"years after", start.AddDate(5, 0, 0), ErrExpired},
	} {
		_, err := v.VerifyToken(raw, test.at)
		wantError(t, test.name, err, test.want)
	}
}

// Claims that the root really signed but Mint would never write.
func TestSignedClaimsOutsideTheProfileAreRefused(t *testing.T) {
	c := newCluster(t, "prod")
	v := NewVerifier(c.trust)
	good := func() claims {
		return claims{
			Subject: "ops", Expires: uint64(start.Unix()) + 3600, NotBefore: uint64(start.Unix()), ID: make([]byte, 16),
			Confirm: confirmation{okpKey{keyTypeOKP, curveEd25519, public(testKey("ops"))}}, Grants: []Grant{"event:a", "monitor"},
		}
	}
	sign := func(payload []byte) []byte {
		return must(cose.Sign(testKey("root of prod"), cose.Context(tokenLabel, c.trust.Cluster()), payload))
	}
	if _, err := v.VerifyToken(sign(must(cose.Marshal(good()))), start); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for name, change := range map[string]func(*claims){
		"no subject":                 func(c *claims) { c.Subject = "" },
		"a subject in upper case":    func(c *claims) { c.Subject = "OPS" },
		"a subject with a line":      func(c *claims) { c.Subject = "ops\nroot" },
		"never":                      func(c *claims) { c.NotBefore = c.Expires },
		"backwards":                  func(c *claims) { c.NotBefore, c.Expires = c.Expires, c.NotBefore },
		"for ever":                   func(c *claims) { c.Expires = 1<<64 - 1 },
		"until the year 10000":       func(c *claims) { c.Expires = maxSeconds + 1 },
		"an id of 15 bytes":          func(c *claims) { c.ID = c.ID[1:] },
		"an id of 17 bytes":          func(c *claims) { c.ID = make([]byte, 17) },
		"no id":                      func(c *claims) { c.ID = nil },
		"no key":                     func(c *claims) { c.Confirm.Key.X = nil },
		"a key of 31 bytes":          func(c *claims) { c.Confirm.Key.X = c.Confirm.Key.X[1:] },
		"an X25519 key":              func(c *claims) { c.Confirm.Key.Curve = 4 },
		"another kind of key":        func(c *claims) { c.Confirm.Key.Type = 2 },
		"no grants":                  func(c *claims) { c.Grants = nil },
		"an empty list of grants":    func(c *claims) { c.Grants = []Grant{} },
		"an empty grant":             func(c *claims) { c.Grants = []Grant{""} },
		"an unknown grant":           func(c *claims) { c.Grants = []Grant{"root"} },
		"an unknown grant among two": func(c *claims) { c.Grants = []Grant{"admin", "root"} },
		"a grant twice":              func(c *claims) { c.Grants = []Grant{"monitor", "monitor"} },
		"grants out of order":        func(c *claims) { c.Grants = []Grant{"monitor", "event:a"} },
		"4 kB of grants": func(c *claims) {
			c.Grants = nil
			for i := range 60 {
				c.Grants = append(c.Grants, Grant(fmt.Sprintf("event:%02d%s", i, strings.Repeat("x", 60))))
			}
		},
		"65 grants": func(c *claims) {
			c.Grants = nil
			for i := range 5 {
				for j := range 13 {
					c.Grants = append(c.Grants, Grant("event:"+string(rune('a'+i))+string(rune('a'+j))))
				}
			}
		},
	} {
		bad := good()
		change(&bad)
		token, err := v.VerifyToken(sign(must(cose.Marshal(bad))), start)
		wantError(t, name, err, ErrMalformed)
		if token != nil {
			t.Errorf("%s: a token came back with the error", name)
		}
	}
}

func TestEveryFlippedBitOfATokenIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "prod")
	v := NewVerifier(c.trust)
	raw := c.token(t, "ops", "event:deploy", "monitor")
	for i := range len(raw) * 8 {
		bad := bytes.Clone(raw)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := v.VerifyToken(bad, start); err == nil {
			t.Errorf("bit %d flipped: accepted", i)
		}
	}
}

func TestEveryTruncationAndExtensionOfATokenIsRefused(t *testing.T) {
	c := newCluster(t, "prod")
	v := NewVerifier(c.trust)
	raw := c.token(t, "ops", "event:deploy", "monitor")
	for n := range raw {
		_, err := v.VerifyToken(raw[:n], start)
		wantError(t, "cut short", err, ErrMalformed)
	}
	for _, tail := range [][]byte{{0}, {0xf6}, raw, make([]byte, maxTokenSize)} {
		_, err := v.VerifyToken(append(bytes.Clone(raw), tail...), start)
		wantError(t, "with a tail", err, ErrMalformed)
	}
}

func TestTokenTextHasOneForm(t *testing.T) {
	c := newCluster(t, "prod")
	raw := c.token(t, "ops", "admin")
	for len(raw)%3 != 1 { // so that the last character has four spare bits
		raw = append(raw, 0)
	}
	text := TokenText(raw)
	if back, err := ParseTokenText(text); err != nil || !bytes.Equal(back, raw) {
		t.Fatalf("its own form: %v", err)
	}
	spare := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for name, bad := range map[string]string{
		"nothing":            "",
		"the prefix alone":   tokenPrefix,
		"no prefix":          strings.TrimPrefix(text, tokenPrefix),
		"another prefix":     "sgj_" + strings.TrimPrefix(text, tokenPrefix),
		"the prefix in caps": "SGT_" + strings.TrimPrefix(text, tokenPrefix),
		"a leading space":    " " + text,
		"a trailing newline": text + "\n",
		"a line break":       text[:40] + "\r\n" + text[40:],
		"a trailing space":   text + " ",
		"padding":            text + "==",
		"the other alphabet": text[:20] + "+/" + text[22:],
		"spare bits set":     text[:len(text)-1] + string(spare[strings.IndexByte(spare, text[len(text)-1])+1]),
		"one character more": text + "AAA",
		"too long":           tokenPrefix + strings.Repeat("A", maxTokenText),
		"not base64":         tokenPrefix + "!!!!",
		"a zero byte":        text + "\x00",
	} {
		_, err := ParseTokenText(bad)
		wantError(t, name, err, ErrMalformed)
		if err != nil && len(bad) > 40 && strings.Contains(err.Error(), bad[10:30]) {
			t.Errorf("%s: the error repeats the text: %v", name, err)
		}
	}
	if longest := TokenText(make([]byte, maxTokenSize)); len(longest) > maxTokenText {
		t.Errorf("the longest token has %d characters, want at most %d", len(longest), maxTokenText)
	}
}

// Threat K07: the time of a refusal must not tell why. What costs time is the
// signature check, so there is one on every path.
func TestEveryRefusalOfATokenCostsOneSignatureCheck(t *testing.T) {
	c, other := newCluster(t, "prod"), newCluster(t, "staging")
	good := c.token(t, "ops", "admin")
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	v := NewVerifier(c.trust)
	for name, raw := range map[string][]byte{
		"nothing": nil, "noise": []byte("noise"), "cut short": good[:len(good)-1], "a wrong signature": flipped,
		"another cluster's": other.token(t, "ops", "admin"), "too long": make([]byte, 4096), "a good one": good,
	} {
		before := v.checks.Load()
		_, err := v.VerifyToken(raw, start)
		if got := v.checks.Load() - before; got != 1 {
			t.Errorf("%s (%v): %d signature checks, want 1", name, err, got)
		}
	}
}

// What parseToken accepts has one encoding: writing it again gives the same
// bytes, and so does its text form.
func FuzzTokenHasOneEncoding(f *testing.F) {
	c := newCluster(f, "prod")
	raw := c.token(f, "ops", "event:deploy-*", "monitor")
	f.Add(raw)
	f.Add(raw[:len(raw)-1])
	f.Add(c.event(f, "ops", raw, "deploy"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, token, err := parseToken(raw)
		if err != nil {
			return
		}
		again := must(cose.Marshal(claims{
			Subject: string(token.Subject), Expires: uint64(token.NotAfter.Unix()), NotBefore: uint64(token.NotBefore.Unix()),
			ID: token.ID[:], Confirm: confirmation{okpKey{keyTypeOKP, curveEd25519, token.Key}}, Grants: token.Grants,
		}))
		if !bytes.Equal(again, m.Payload) {
			t.Errorf("second encoding accepted: %x", raw)
		}
		if back, err := ParseTokenText(TokenText(raw)); err != nil || !bytes.Equal(back, raw) {
			t.Errorf("its text does not lead back to %x: %v", raw, err)
		}
	})
}

func FuzzTokenTextHasOneForm(f *testing.F) {
	f.Add("sgt_AAAA")
	f.Add("sgt_AAA=")
	f.Add("sgt_AB")
	f.Add("sgt_AA\nAA")
	f.Fuzz(func(t *testing.T, text string) {
		raw, err := ParseTokenText(text)
		if err != nil {
			return
		}
		if again := TokenText(raw); again != text {
			t.Errorf("accepted %q, which is %q", text, again)
		}
	})
}

// Threat K15: a client that is revoked cannot use the token it has, nor fire with it,
// also with a new certificate. One minted later is good.
func TestTokenOfARevokedClientIsRefused(t *testing.T) {
	c := newCluster(t, "prod")
	v := NewVerifier(c.trust)
	token := c.token(t, "ops", "event:deploy")
	event := c.event(t, "ops", token, "deploy")
	if _, err := v.VerifyEvent(event, start); err != nil {
		t.Fatal(err)
	}
	c.trust.SetRevoked(func(kind pki.Kind, name pki.Name, key ed25519.PublicKey, issued time.Time) bool {
		return kind == pki.KindClient && name == "ops" && key.Equal(public(testKey("ops"))) && issued.Before(start.Add(time.Minute))
	})
	if _, err := v.VerifyToken(token, start); !errors.Is(err, pki.ErrRevoked) {
		t.Errorf("its token: got %v, want ErrRevoked", err)
	}
	if _, err := v.VerifyEvent(event, start); !errors.Is(err, pki.ErrRevoked) {
		t.Errorf("an event that was verified before: got %v, want ErrRevoked", err)
	}
	later := start.Add(time.Minute)
	_, raw, err := Mint(c.root, TokenRequest{Subject: "ops", Key: public(testKey("ops")), Grants: []Grant{"monitor"}}, later)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.VerifyToken(raw, later); err != nil {
		t.Errorf("a token minted afterwards: %v", err)
	}
	if _, err := v.VerifyToken(c.token(t, "memo", "monitor"), start); err != nil {
		t.Errorf("another client's: %v", err)
	}
}
