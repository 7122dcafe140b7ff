package pki

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"testing"
	"time"
)

// The tests' clock. It is as far back as virtual time begins, so that nothing
// comes to depend on the date of the machine.
var testNow = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func testKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// Seeds of the keys that the tests use.
const (
	seedRoot = iota + 1
	seedIssuer
	seedNode
	seedClient
	seedOther // another cluster's root
	seedSpare
)

var testAgreementKey = [32]byte{9} // the base point: a sound key

// cluster is a root and an issuer under it.
type cluster struct {
	rootDER   []byte
	trust     *Trust
	root      *Authority
	issuer    *Authority
	issuerDER []byte
}

func newCluster(t testing.TB, name Name, rootSeed byte) *cluster {
	t.Helper()
	return newClusterAt(t, name, rootSeed, testNow)
}

func newClusterAt(t testing.TB, name Name, rootSeed byte, now time.Time) *cluster {
	t.Helper()
	c := &cluster{}
	var err error
	if c.rootDER, err = NewRoot(name, testKey(rootSeed), now); err != nil {
		t.Fatal(err)
	}
	if c.trust, err = ParseBundle(EncodeCertificates([][]byte{c.rootDER})); err != nil {
		t.Fatal(err)
	}
	if c.root, err = NewAuthority(mustParse(t, c.rootDER), testKey(rootSeed), c.trust); err != nil {
		t.Fatal(err)
	}
	if c.issuerDER, err = c.root.Issuer("keeper-1", publicOf(testKey(seedIssuer)), now); err != nil {
		t.Fatal(err)
	}
	if c.issuer, err = NewAuthority(mustParse(t, c.issuerDER), testKey(seedIssuer), c.trust); err != nil {
		t.Fatal(err)
	}
	return c
}

func nodeRequest() NodeRequest {
	return NodeRequest{
		Name:         "web-1",
		SigningKey:   publicOf(testKey(seedNode)),
		AgreementKey: testAgreementKey,
		Roles:        []Role{RoleKeeper},
	}
}

func clientRequest() ClientRequest {
	return ClientRequest{Name: "alice", SigningKey: publicOf(testKey(seedClient))}
}

func mustIssue(t testing.TB, issued *Issued, err error) *Issued {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

func mustNode(t testing.TB, a *Authority) *Issued {
	t.Helper()
	issued, err := a.Node(nodeRequest(), testNow)
	return mustIssue(t, issued, err)
}

func mustClient(t testing.TB, a *Authority) *Issued {
	t.Helper()
	issued, err := a.Client(clientRequest(), testNow)
	return mustIssue(t, issued, err)
}

func mustParse(t testing.TB, raw []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func mustParseAll(t testing.TB, chain [][]byte) (certs []*x509.Certificate) {
	t.Helper()
	for _, raw := range chain {
		certs = append(certs, mustParse(t, raw))
	}
	return certs
}
