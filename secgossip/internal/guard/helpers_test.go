package guard

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"net/netip"
	"testing"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// testNow is the tests' clock.
var testNow = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// testKey is a signing key that has a word for its seed.
func testKey(word string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(word))
	return ed25519.NewKeyFromSeed(seed[:])
}

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// cluster is a root and those who trust it.
type cluster struct {
	trust *pki.Trust
	root  *pki.Authority
}

func newCluster(t testing.TB, name pki.Name, word string) *cluster {
	t.Helper()
	der, err := pki.NewRoot(name, testKey(word), testNow.Add(-24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := pki.ParseBundle(pki.EncodeCertificates([][]byte{der}))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	root, err := pki.NewAuthority(cert, testKey(word), trust)
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{trust: trust, root: root}
}

// node is an identity of a cluster. Its key has the word for its seed.
type node struct {
	t          testing.TB
	c          *cluster
	name       pki.Name
	key        ed25519.PrivateKey
	credential []byte
}

func (c *cluster) node(t testing.TB, name pki.Name, word string, issued time.Time) *node {
	t.Helper()
	i, err := c.root.Node(pki.NodeRequest{Name: name, SigningKey: publicOf(testKey(word)), AgreementKey: [32]byte{9}}, issued)
	if err != nil {
		t.Fatal(err)
	}
	return &node{t: t, c: c, name: name, key: testKey(word), credential: i.Credential}
}

// record is what the node says about itself.
func (n *node) record(sequence uint64) wire.Record {
	return wire.Record{
		Name:       string(n.name),
		Sequence:   sequence,
		Boot:       [wire.BootSize]byte{1},
		Endpoints:  []netip.AddrPort{netip.MustParseAddrPort("203.0.113.1:7946")},
		Credential: n.credential,
	}
}

// sign signs a record with a key, for a cluster.
func sign(t testing.TB, key ed25519.PrivateKey, c *cluster, r wire.Record) []byte {
	t.Helper()
	raw, err := wire.SignRecord(key, c.trust.Cluster(), r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// signed is the node's record with a sequence.
func (n *node) signed(sequence uint64) []byte {
	n.t.Helper()
	return sign(n.t, n.key, n.c, n.record(sequence))
}

// mustAdmit admits a record that has to be fine.
func mustAdmit(t testing.TB, r *Roster, raw []byte) *Peer {
	t.Helper()
	peer, err := r.Admit(raw, testNow)
	if err != nil {
		t.Fatal(err)
	}
	return peer
}
