package pki

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"sync"
	"testing"
	"time"
)

// What is believed may change while everything runs: no verification goes by what
// was true before.

func TestRevocationCountsAtTheNextVerification(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	issued := mustNode(t, c.issuer)
	if _, err := c.trust.AddIssuer(c.issuerDER, testNow); err != nil {
		t.Fatal(err)
	}
	credential, err := c.trust.VerifyCredential(issued.Credential, testNow)
	if err != nil {
		t.Fatal(err)
	}
	verifications := map[string]func() error{
		"chain": func() error {
			_, err := c.trust.VerifyChain(mustParseAll(t, issued.Chain), testNow, KindNode)
			return err
		},
		"credential": func() error {
			_, err := c.trust.VerifyCredential(issued.Credential, testNow)
			return err
		},
		"credential verified before": func() error { return c.trust.Recheck(credential, testNow) },
	}
	key := publicOf(testKey(seedNode))
	for _, test := range []struct {
		what    string
		revoked Revoked
		want    error
	}{
		{"nobody", nil, nil},
		{"this one", func(kind Kind, n Name, k ed25519.PublicKey, _ time.Time) bool {
			return kind == KindNode && n == "web-1" && k.Equal(key)
		}, ErrRevoked},
		{"whoever was issued until now", func(_ Kind, _ Name, _ ed25519.PublicKey, at time.Time) bool { return !at.After(testNow) }, ErrRevoked},
		{"whoever was issued before now", func(_ Kind, _ Name, _ ed25519.PublicKey, at time.Time) bool { return at.Before(testNow) }, nil},
		{"another name", func(_ Kind, n Name, _ ed25519.PublicKey, _ time.Time) bool { return n == "web-2" }, nil},
		{"a client of this name", func(kind Kind, _ Name, _ ed25519.PublicKey, _ time.Time) bool { return kind == KindClient }, nil},
	} {
		c.trust.SetRevoked(test.revoked)
		for what, verify := range verifications {
			if err := verify(); !errors.Is(err, test.want) {
				t.Errorf("%s is revoked: %s: got %v, want %v", test.what, what, err, test.want)
			}
		}
	}
}

// What was verified once can be read again by a host that knows its signer no longer.
func TestVerifiedCredentialIsReadWithoutItsSigner(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	issued := mustNode(t, c.issuer)
	stranger := newCluster(t, "prod", seedRoot).trust
	if _, err := stranger.VerifyCredential(issued.Credential, testNow); !errors.Is(err, ErrUnknownSigner) {
		t.Fatalf("verified: got %v, want ErrUnknownSigner", err)
	}
	got, err := stranger.ReadVerified(issued.Credential)
	if err != nil || got.Name != "web-1" || !got.SigningKey.Equal(publicOf(testKey(seedNode))) {
		t.Fatalf("read: got %+v, %v", got, err)
	}
	if end := stranger.SignerEnd(got); !end.IsZero() {
		t.Errorf("the end of an unknown signer is %s", end)
	}
	if _, err := stranger.AddIssuer(c.issuerDER, testNow); err != nil {
		t.Fatal(err)
	}
	if got, want := stranger.SignerEnd(got), mustParse(t, c.issuerDER).NotAfter; !got.Equal(want) {
		t.Errorf("the signer's end: got %s, want %s", got, want)
	}
	for what, raw := range map[string][]byte{
		"of another cluster": mustNode(t, newCluster(t, "test", seedOther).root).Credential,
		"cut off":            issued.Credential[:len(issued.Credential)-1],
		"too long":           append(bytes.Clone(issued.Credential), make([]byte, MaxCredential)...),
	} {
		if _, err := stranger.ReadVerified(raw); err == nil {
			t.Errorf("%s: it is read", what)
		}
	}
}

// What a node signed before it was revoked can still be read.
func TestFormerCredentialIsReadThoughRevoked(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	issued := mustNode(t, c.root)
	c.trust.SetRevoked(func(Kind, Name, ed25519.PublicKey, time.Time) bool { return true })
	if _, err := c.trust.VerifyFormer(issued.Credential, testNow); err != nil {
		t.Error(err)
	}
	if _, err := c.trust.VerifyFormer(issued.Credential, testNow.Add(2*NodeLife)); !errors.Is(err, ErrExpired) {
		t.Errorf("after its end: got %v, want ErrExpired", err)
	}
	if _, err := c.trust.VerifyCredential(issued.Credential, testNow); !errors.Is(err, ErrRevoked) {
		t.Errorf("now: got %v, want ErrRevoked", err)
	}
}

func TestRecheckFollowsTimeAndSigner(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	if _, err := c.trust.AddIssuer(c.issuerDER, testNow); err != nil {
		t.Fatal(err)
	}
	credential, err := c.trust.VerifyCredential(mustNode(t, c.issuer).Credential, testNow)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		now  time.Time
		want error
	}{
		{testNow, nil},
		{testNow.Add(NodeLife + Tolerance), nil},
		{testNow.Add(NodeLife + Tolerance + time.Second), ErrExpired},
		{testNow.Add(-Backdate - Tolerance - time.Second), ErrNotYetValid},
	} {
		if err := c.trust.Recheck(credential, test.now); !errors.Is(err, test.want) {
			t.Errorf("%v: got %v, want %v", test.now, err, test.want)
		}
	}
	stranger := newCluster(t, "prod", seedRoot)
	if err := stranger.trust.Recheck(credential, testNow); !errors.Is(err, ErrUnknownSigner) {
		t.Errorf("where its issuer is not known: got %v, want ErrUnknownSigner", err)
	}
}

// A second root comes and goes. The first one stays: its key is the cluster's id.
func TestReplacedRootsCountAtTheNextVerification(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	next, err := NewRoot("prod", testKey(seedSpare), testNow)
	if err != nil {
		t.Fatal(err)
	}
	both := EncodeCertificates([][]byte{c.rootDER, next})
	after, err := ParseBundle(both)
	if err != nil {
		t.Fatal(err)
	}
	nextRoot, err := NewAuthority(mustParse(t, next), testKey(seedSpare), after)
	if err != nil {
		t.Fatal(err)
	}
	chain := mustParseAll(t, mustNode(t, nextRoot).Chain)
	if _, err := c.trust.AddIssuer(c.issuerDER, testNow); err != nil {
		t.Fatal(err)
	}
	if _, err := c.trust.VerifyChain(chain, testNow, KindNode); !errors.Is(err, ErrForeign) {
		t.Errorf("before: got %v, want ErrForeign", err)
	}
	if err := c.trust.Replace(both); err != nil {
		t.Fatal(err)
	}
	if _, err := c.trust.VerifyChain(chain, testNow, KindNode); err != nil {
		t.Errorf("with both roots: %v", err)
	}
	if got := len(c.trust.Issuers()); got != 1 {
		t.Errorf("%d issuers of the root that stays, want 1", got)
	}
	if err := c.trust.Replace(EncodeCertificates([][]byte{c.rootDER})); err != nil {
		t.Fatal(err)
	}
	if _, err := c.trust.VerifyChain(chain, testNow, KindNode); !errors.Is(err, ErrForeign) {
		t.Errorf("afterwards: got %v, want ErrForeign", err)
	}
}

// Whoever learns an issuer while its root goes must not have it afterwards.
func TestIssuerOfARootThatGoesIsNotLearned(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	next, err := NewRoot("prod", testKey(seedSpare), testNow)
	if err != nil {
		t.Fatal(err)
	}
	both, one := EncodeCertificates([][]byte{c.rootDER, next}), EncodeCertificates([][]byte{c.rootDER})
	after, err := ParseBundle(both)
	if err != nil {
		t.Fatal(err)
	}
	nextRoot, err := NewAuthority(mustParse(t, next), testKey(seedSpare), after)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := nextRoot.Issuer("keeper-2", publicOf(testKey(seedIssuer)), testNow)
	if err != nil {
		t.Fatal(err)
	}
	for range 300 {
		trust, err := ParseBundle(both)
		if err != nil {
			t.Fatal(err)
		}
		begin := make(chan struct{})
		var two sync.WaitGroup
		two.Go(func() { <-begin; trust.AddIssuer(issuer, testNow) })
		two.Go(func() { <-begin; trust.Replace(one) })
		close(begin)
		two.Wait()
		if len(trust.Issuers()) > 0 {
			t.Fatal("the issuer of a root that is gone is known")
		}
	}
}

func TestBundleOfAnotherClusterReplacesNothing(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	chain := mustParseAll(t, mustNode(t, c.root).Chain)
	for what, bundle := range map[string][]byte{
		"another root":    EncodeCertificates([][]byte{newCluster(t, "prod", seedOther).rootDER}),
		"another name":    EncodeCertificates([][]byte{newCluster(t, "other", seedRoot).rootDER}),
		"an issuer":       EncodeCertificates([][]byte{c.issuerDER}),
		"nothing":         nil,
		"no certificates": []byte("bundle"),
	} {
		if err := c.trust.Replace(bundle); err == nil {
			t.Errorf("%s: taken", what)
		}
		if _, err := c.trust.VerifyChain(chain, testNow, KindNode); err != nil {
			t.Errorf("%s: afterwards our own node is refused: %v", what, err)
		}
	}
}
