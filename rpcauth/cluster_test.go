package rpcauth

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/secgossip/secgossip/pki"
)

// start is when most tests happen: the year in which synctest's clock begins.
var start = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// testKey is the same key for the same name.
func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// testCluster is a root and what a node trusts.
type testCluster struct {
	name  string
	root  *pki.Authority
	trust *pki.Trust
}

func newCluster(t testing.TB, name string) *testCluster {
	t.Helper()
	key := testKey("root of " + name)
	der := must(pki.NewRoot(pki.Name(name), key, start))
	trust := must(pki.ParseBundle(pki.EncodeCertificates([][]byte{der})))
	root := must(pki.NewAuthority(must(x509.ParseCertificate(der)), key, trust))
	return &testCluster{name, root, trust}
}

// issuer is an authority that the root made and c's nodes know.
func (c *testCluster) issuer(t testing.TB, name string) *pki.Authority {
	t.Helper()
	key := testKey("issuer " + name)
	der := must(c.root.Issuer(pki.Name(name), public(key), start))
	must(c.trust.AddIssuer(der, start))
	return must(pki.NewAuthority(must(x509.ParseCertificate(der)), key, c.trust))
}

// token mints for a client whose key is testKey(name).
func (c *testCluster) token(t testing.TB, name string, grants ...Grant) []byte {
	t.Helper()
	_, raw, err := Mint(c.root, TokenRequest{Subject: pki.Name(name), Key: public(testKey(name)), Grants: grants}, start)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// event signs as the client name with its token.
func (c *testCluster) event(t testing.TB, name string, token []byte, event string) []byte {
	t.Helper()
	raw, err := SignEvent(testKey(name), token, EventRequest{Cluster: c.trust.Cluster(), Name: event, Payload: []byte("xcxx")}, start)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// clientCert and nodeCert are certificates whose key is testKey(name).
func (c *testCluster) clientCert(t testing.TB, name string) *tls.Certificate {
	t.Helper()
	return certificate(name, must(c.root.Client(pki.ClientRequest{Name: pki.Name(name), SigningKey: public(testKey(name))}, start)))
}

func (c *testCluster) nodeCert(t testing.TB, name string) *tls.Certificate {
	t.Helper()
	return certificate(name, must(c.root.Node(pki.NodeRequest{Name: pki.Name(name), SigningKey: public(testKey(name)), AgreementKey: [32]byte{9}}, start)))
}

func certificate(name string, issued *pki.Issued) *tls.Certificate {
	return &tls.Certificate{Certificate: issued.Chain, PrivateKey: testKey(name)}
}

// must is for what cannot fail unless the test itself is wrong.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func wantError(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}
