package pki

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
)

func TestBundleNamesTheCluster(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	if got := c.trust.ClusterName(); got != "prod" {
		t.Errorf("name: got %q", got)
	}
	if got, want := c.trust.Cluster(), clusterIDOf(publicOf(testKey(seedRoot))); got != want {
		t.Errorf("id: got %s, want %s", got, want)
	}
	if got := c.trust.Issuers(); len(got) != 0 {
		t.Errorf("issuers of a fresh bundle: %d", len(got))
	}
}

func TestBundleWithANextRootKeepsTheClusterID(t *testing.T) {
	old, next := newCluster(t, "prod", seedRoot), newCluster(t, "prod", seedOther)
	trust, err := ParseBundle(EncodeCertificates([][]byte{old.rootDER, next.rootDER}))
	if err != nil {
		t.Fatal(err)
	}
	if trust.Cluster() != old.trust.Cluster() {
		t.Errorf("cluster id: got %s, want the first root's, %s", trust.Cluster(), old.trust.Cluster())
	}
	for _, c := range []*cluster{old, next} {
		chain := mustParseAll(t, mustNode(t, c.issuer).Chain)
		if _, err := trust.VerifyChain(chain, testNow, KindNode); err != nil {
			t.Errorf("chain under one of two roots: %v", err)
		}
	}
}

func TestBundleHoldsRootsOfOneClusterAndNothingElse(t *testing.T) {
	c, other := newCluster(t, "prod", seedRoot), newCluster(t, "test", seedOther)
	again := newClusterAt(t, "prod", seedRoot, testNow.Add(day))
	third := newCluster(t, "prod", seedSpare)
	alone := issuerRecipe(t, nil)
	alone.by, alone.AuthorityKeyId = alone.key, alone.SubjectKeyId
	for name, certs := range map[string][][]byte{
		"an issuer":             {c.issuerDER},
		"a root and an issuer":  {c.rootDER, c.issuerDER},
		"a node":                mustNode(t, c.root).Chain,
		"two clusters":          {c.rootDER, other.rootDER},
		"one root twice":        {c.rootDER, c.rootDER},
		"one key twice":         {c.rootDER, again.rootDER},
		"three roots":           {c.rootDER, newCluster(t, "prod", seedOther).rootDER, third.rootDER},
		"a root signed by none": {spoilSignature(c.rootDER)},
		"an issuer of itself":   {alone.bake(t)},
		"nothing":               nil,
		"no certificate":        {[]byte("junk")},
	} {
		if _, err := ParseBundle(EncodeCertificates(certs)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func spoilSignature(der []byte) []byte {
	bad := bytes.Clone(der)
	bad[len(bad)-1] ^= 1
	return bad
}

func TestIssuerIsLearnedOnceAndPassedOn(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	for i, want := range []bool{true, false} {
		if added, err := c.trust.AddIssuer(c.issuerDER, testNow); err != nil || added != want {
			t.Errorf("time %d: got %v, %v, want %v", i+1, added, err, want)
		}
	}
	got := c.trust.Issuers()
	if len(got) != 1 || !bytes.Equal(got[0], c.issuerDER) {
		t.Fatalf("got %d issuers, want the one added", len(got))
	}
	got[0][0] ^= 1 // the caller's copy
	if !bytes.Equal(c.trust.Issuers()[0], c.issuerDER) {
		t.Error("a caller can change what is passed on")
	}
}

func TestRenewedIssuerReplacesTheOldOneAndNeverBack(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	later := testNow.Add(30 * day)
	renewed, err := c.root.Issuer("keeper-1", publicOf(testKey(seedIssuer)), later)
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		der  []byte
		want bool
	}{{c.issuerDER, true}, {renewed, true}, {c.issuerDER, false}} {
		if added, err := c.trust.AddIssuer(step.der, later); err != nil || added != step.want {
			t.Errorf("step %d: got %v, %v, want %v", i, added, err, step.want)
		}
	}
	if got := c.trust.Issuers(); len(got) != 1 || !bytes.Equal(got[0], renewed) {
		t.Errorf("got %d issuers, want the renewed one alone", len(got))
	}
}

func TestOnlyIssuersOfTheRootAreLearned(t *testing.T) {
	c, other := newCluster(t, "prod", seedRoot), newCluster(t, "prod", seedOther)
	below := caRecipe(t, "issuer", "keeper-1", "spiffe://eu.prod/issuer/keeper-1", testKey(seedIssuer), testKey(seedRoot), mustParse(t, c.rootDER))
	below.Subject.Organization, below.PermittedURIDomains = []string{"eu.prod"}, []string{"eu.prod"}
	for _, test := range []struct {
		name string
		der  []byte
		now  time.Time
		want error
	}{
		{"for a subdomain of the cluster", below.bake(t), testNow, ErrForeign},
		{"nothing", nil, testNow, ErrProfile},
		{"no certificate", []byte("junk"), testNow, ErrProfile},
		{"too long", make([]byte, maxCertificate+1), testNow, ErrProfile},
		{"a tail", append(bytes.Clone(c.issuerDER), 0), testNow, ErrProfile},
		{"of a root with our name", other.issuerDER, testNow, ErrForeign},
		{"spoilt signature", spoilSignature(c.issuerDER), testNow, ErrForeign},
		{"the root itself", c.rootDER, testNow, ErrProfile},
		{"another root", other.rootDER, testNow, ErrForeign},
		{"a node", mustNode(t, c.root).Chain[0], testNow, ErrProfile},
		{"a client", mustClient(t, c.root).Chain[0], testNow, ErrProfile},
		{"expired", c.issuerDER, testNow.Add(IssuerLife + 3*time.Minute), ErrExpired},
		{"not yet valid", c.issuerDER, testNow.Add(-8 * time.Minute), ErrNotYetValid},
	} {
		if added, err := c.trust.AddIssuer(test.der, test.now); added || !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, %v, want %v", test.name, added, err, test.want)
		}
	}
	if got := c.trust.Issuers(); len(got) != 0 {
		t.Errorf("%d issuers were learned", len(got))
	}
}

func TestIssuersAreBoundedAndExpiredOnesMakeRoom(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	add := func(i int, now time.Time) (bool, error) {
		t.Helper()
		der, err := c.root.Issuer(Name(fmt.Sprintf("keeper-%d", i)), publicOf(testKey(byte(100+i))), now)
		if err != nil {
			t.Fatal(err)
		}
		return c.trust.AddIssuer(der, now)
	}
	for i := range maxIssuers {
		if added, err := add(i, testNow); err != nil || !added {
			t.Fatalf("issuer %d: got %v, %v", i, added, err)
		}
	}
	if added, err := add(maxIssuers, testNow); err == nil || added {
		t.Errorf("one above the limit: got %v, %v", added, err)
	}
	later := testNow.Add(IssuerLife + time.Hour)
	if added, err := add(maxIssuers, later); err != nil || !added {
		t.Errorf("after the others expired: got %v, %v", added, err)
	}
	if got := len(c.trust.Issuers()); got != 1 {
		t.Errorf("got %d issuers, want 1", got)
	}
}

func TestSignerKeyIsFoundWhileItsCertificateIsValid(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	root, issuer := publicOf(testKey(seedRoot)), publicOf(testKey(seedIssuer))
	if _, ok := c.trust.SignerKey(cose.KeyIDOf(issuer), testNow); ok {
		t.Error("an issuer is known before it was added")
	}
	if _, err := c.trust.AddIssuer(c.issuerDER, testNow); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		key  ed25519.PublicKey
		now  time.Time
		want bool
	}{
		{"root", root, testNow, true},
		{"issuer", issuer, testNow, true},
		{"issuer, end and tolerance", issuer, testNow.Add(IssuerLife + Tolerance), true},
		{"issuer, behind its end", issuer, testNow.Add(IssuerLife + Tolerance + time.Second), false},
		{"root, behind its end", root, testNow.Add(RootLife + day), false},
		{"root, before its begin", root, testNow.Add(-day), false},
		{"a node's key", publicOf(testKey(seedNode)), testNow, false},
	} {
		key, ok := c.trust.SignerKey(cose.KeyIDOf(test.key), test.now)
		if ok != test.want || ok && !key.Equal(test.key) {
			t.Errorf("%s: got %x, %v, want %v", test.name, key, ok, test.want)
		}
	}
	key, _ := c.trust.SignerKey(cose.KeyIDOf(root), testNow)
	key[0] ^= 1 // the caller's copy
	if again, _ := c.trust.SignerKey(cose.KeyIDOf(root), testNow); !again.Equal(root) {
		t.Error("a caller can change the root's key")
	}
}

func TestTrustIsSafeForConcurrentUse(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	chain := mustParseAll(t, mustNode(t, c.issuer).Chain)
	var done sync.WaitGroup
	for range 4 {
		done.Go(func() {
			for range 10 {
				if _, err := c.trust.AddIssuer(c.issuerDER, testNow); err != nil {
					t.Error(err)
				}
				if _, err := c.trust.VerifyChain(chain, testNow, KindNode); err != nil {
					t.Error(err)
				}
				c.trust.Issuers()
				c.trust.SignerKey(cose.KeyIDOf(publicOf(testKey(seedIssuer))), testNow)
			}
		})
	}
	done.Wait()
}
