package pki

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
)

func TestIssuedChainsVerifyWhoeverSigned(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	for _, test := range []struct {
		name string
		by   *Authority
		want int
	}{{"root", c.root, 1}, {"issuer", c.issuer, 2}} {
		node, client := mustNode(t, test.by), mustClient(t, test.by)
		if len(node.Chain) != test.want || len(client.Chain) != test.want {
			t.Errorf("%s: chains of %d and %d, want %d", test.name, len(node.Chain), len(client.Chain), test.want)
		}
		id, err := c.trust.VerifyChain(mustParseAll(t, node.Chain), testNow, KindNode)
		if err != nil || id.Name != "web-1" || id.Kind != KindNode || id.Cluster != "prod" || !id.Key.Equal(publicOf(testKey(seedNode))) {
			t.Errorf("%s: node: got %+v, %v", test.name, id, err)
		}
		id, err = c.trust.VerifyChain(mustParseAll(t, client.Chain), testNow, KindClient)
		if err != nil || id.Name != "alice" || id.Kind != KindClient {
			t.Errorf("%s: client: got %+v, %v", test.name, id, err)
		}
		if _, err := c.trust.VerifyChain(mustParseAll(t, client.Chain), testNow, KindNode); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: a client as a node: got %v, want ErrMismatch", test.name, err)
		}
		if _, err := c.trust.VerifyChain(mustParseAll(t, node.Chain), testNow, KindClient); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: a node as a client: got %v, want ErrMismatch", test.name, err)
		}
	}
}

func TestLongestNamesGiveSmallCertificates(t *testing.T) {
	long := strings.Repeat("a", 63)
	c := newCluster(t, Name(long), seedRoot)
	req := nodeRequest()
	req.Name = Name(long)
	der, err := c.root.Issuer(Name(long), publicOf(testKey(seedSpare)), testNow)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := NewAuthority(mustParse(t, der), testKey(seedSpare), c.trust)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := issuer.Node(req, testNow)
	issued = mustIssue(t, issued, err)
	if _, err := c.trust.VerifyChain(mustParseAll(t, issued.Chain), testNow, KindNode); err != nil {
		t.Error(err)
	}
	for _, raw := range append(issued.Chain, c.rootDER) {
		if len(raw) > 1024 {
			t.Errorf("a certificate of %d bytes, want at most 1024", len(raw))
		}
	}
}

func TestDottedNamesAreIssued(t *testing.T) {
	c := newCluster(t, "prod.example.org", seedRoot)
	for _, name := range []Name{"web-1.example.org", "192.0.2.1", "a.-b", "7"} {
		req := nodeRequest()
		req.Name = name
		issued, err := c.issuer.Node(req, testNow)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if id, err := c.trust.VerifyChain(mustParseAll(t, issued.Chain), testNow, KindNode); err != nil || id.Name != name {
			t.Errorf("%s: got %v, %v", name, id, err)
		}
	}
}

func TestCertificateLivesFromBeginToEndGiveOrTakeTolerance(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	chain := mustParseAll(t, mustNode(t, c.issuer).Chain)
	late := testNow.Add(IssuerLife - day)
	cut, err := c.issuer.Node(nodeRequest(), late) // ends with its issuer
	cutChain := mustParseAll(t, mustIssue(t, cut, err).Chain)
	for _, test := range []struct {
		name  string
		chain []*x509.Certificate
		now   time.Time
		want  error
	}{
		{"first moment", chain, testNow.Add(-Backdate - Tolerance), nil},
		{"a second earlier", chain, testNow.Add(-Backdate - Tolerance - time.Second), ErrNotYetValid},
		{"last moment", chain, testNow.Add(NodeLife + Tolerance), nil},
		{"a second later", chain, testNow.Add(NodeLife + Tolerance + time.Second), ErrExpired},
		{"its issuer's last moment", cutChain, testNow.Add(IssuerLife + Tolerance), nil},
		{"a second after that", cutChain, testNow.Add(IssuerLife + Tolerance + time.Second), ErrExpired},
		{"twenty years later", chain, testNow.Add(2 * RootLife), ErrExpired},
	} {
		if _, err := c.trust.VerifyChain(test.chain, test.now, KindNode); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
}

func TestLivesAreCutToTheSignersAndNeverTooShort(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	end := c.issuer.cert.NotAfter
	for _, test := range []struct {
		name string
		now  time.Time
		life time.Duration
		want time.Time // zero: refused
	}{
		{"default", testNow, 0, testNow.Add(NodeLife)},
		{"asked for", testNow, time.Hour, testNow.Add(time.Hour)},
		{"shortest", testNow, MinLife, testNow.Add(MinLife)},
		{"longer than the issuer's", testNow, 10 * IssuerLife, end},
		{"near the issuer's end", end.Add(-time.Hour), 0, end},
		{"at the last useful moment", end.Add(-MinLife), 0, end},
		{"too near the end", end.Add(-MinLife + time.Second), 0, time.Time{}},
		{"after the end", end.Add(day), 0, time.Time{}},
		{"before the begin", testNow.Add(-day), 0, time.Time{}},
		{"too short", testNow, MinLife - 1, time.Time{}},
		{"negative", testNow, -time.Hour, time.Time{}},
	} {
		req := nodeRequest()
		req.Life = test.life
		issued, err := c.issuer.Node(req, test.now)
		if test.want.IsZero() {
			if err == nil {
				t.Errorf("%s: issued", test.name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		leaf := mustParse(t, issued.Chain[0])
		if !leaf.NotAfter.Equal(test.want) {
			t.Errorf("%s: ends %s, want %s", test.name, leaf.NotAfter, test.want)
		}
		if leaf.NotBefore.Before(c.issuer.cert.NotBefore) {
			t.Errorf("%s: begins before its issuer", test.name)
		}
	}
}

func TestExpiredAuthoritySaysSo(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	if _, err := c.issuer.Node(nodeRequest(), testNow.Add(2*IssuerLife)); !errors.Is(err, ErrExpired) {
		t.Errorf("issuer: got %v, want ErrExpired", err)
	}
	if _, err := c.root.Client(clientRequest(), testNow.Add(2*RootLife)); !errors.Is(err, ErrExpired) {
		t.Errorf("root: got %v, want ErrExpired", err)
	}
	if _, err := c.root.Issuer("keeper-2", publicOf(testKey(seedSpare)), testNow.Add(-day)); !errors.Is(err, ErrNotYetValid) {
		t.Errorf("clock behind: got %v, want ErrNotYetValid", err)
	}
	if _, err := c.issuer.Client(clientRequest(), c.issuer.cert.NotAfter.Add(-time.Minute)); !errors.Is(err, ErrExpired) {
		t.Errorf("a minute before the end: got %v, want ErrExpired", err)
	}
}

// A host whose clock is behind the root's must not sign what begins before its
// signer did.
func TestBackdatingStopsAtTheSignersBegin(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	issued, err := c.issuer.Node(nodeRequest(), testNow.Add(-3*time.Minute))
	leaf := mustParse(t, mustIssue(t, issued, err).Chain[0])
	if want := testNow.Add(-Backdate); !leaf.NotBefore.Equal(want) {
		t.Errorf("begins %s, want %s", leaf.NotBefore, want)
	}
}

// Threat K13 in its simplest form: there is no request that gets more.
func TestBadRequestsAreRefused(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	for name, change := range map[string]func(*NodeRequest){
		"no name":           func(r *NodeRequest) { r.Name = "" },
		"a bad name":        func(r *NodeRequest) { r.Name = "Web" },
		"a path":            func(r *NodeRequest) { r.Name = "a/../b" },
		"two dots":          func(r *NodeRequest) { r.Name = "a..b" },
		"no key":            func(r *NodeRequest) { r.SigningKey = nil },
		"a short key":       func(r *NodeRequest) { r.SigningKey = r.SigningKey[:31] },
		"a weak key":        func(r *NodeRequest) { r.SigningKey = unhex(t, weakSigningKeys[1]) },
		"the issuer's key":  func(r *NodeRequest) { r.SigningKey = publicOf(testKey(seedIssuer)) },
		"no agreement key":  func(r *NodeRequest) { r.AgreementKey = [32]byte{} },
		"weak agreement":    func(r *NodeRequest) { r.AgreementKey = [32]byte{1} },
		"an unknown role":   func(r *NodeRequest) { r.Roles = []Role{"kepper"} },
		"an empty role":     func(r *NodeRequest) { r.Roles = []Role{""} },
		"a role twice":      func(r *NodeRequest) { r.Roles = []Role{RoleKeeper, RoleKeeper} },
		"a very short life": func(r *NodeRequest) { r.Life = time.Second },
	} {
		req := nodeRequest()
		change(&req)
		if _, err := c.issuer.Node(req, testNow); err == nil {
			t.Errorf("node with %s: issued", name)
		}
	}
	for name, change := range map[string]func(*ClientRequest){
		"no name":    func(r *ClientRequest) { r.Name = "" },
		"a bad name": func(r *ClientRequest) { r.Name = "alice\n" },
		"no key":     func(r *ClientRequest) { r.SigningKey = nil },
		"a weak key": func(r *ClientRequest) { r.SigningKey = unhex(t, weakSigningKeys[7]) },
	} {
		req := clientRequest()
		change(&req)
		if _, err := c.issuer.Client(req, testNow); err == nil {
			t.Errorf("client with %s: issued", name)
		}
	}
}

func TestOnlyTheRootMakesIssuers(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	if _, err := c.issuer.Issuer("keeper-2", publicOf(testKey(seedSpare)), testNow); err == nil {
		t.Error("an issuer made an issuer")
	}
	if _, err := c.root.Issuer("keeper-2", publicOf(testKey(seedRoot)), testNow); err == nil {
		t.Error("the root's own key became an issuer")
	}
	if _, err := c.root.Issuer("Keeper", publicOf(testKey(seedSpare)), testNow); err == nil {
		t.Error("an issuer with a bad name")
	}
	if _, err := c.root.Issuer("keeper-2", nil, testNow); err == nil {
		t.Error("an issuer without a key")
	}
	issuer := mustParse(t, c.issuerDER)
	if got := issuer.NotAfter.Sub(testNow); got != IssuerLife {
		t.Errorf("life: got %s, want %s", got, IssuerLife)
	}
	if late, err := c.root.Issuer("keeper-2", publicOf(testKey(seedSpare)), testNow.Add(RootLife-day)); err != nil {
		t.Error(err)
	} else if got := mustParse(t, late).NotAfter; !got.Equal(c.root.cert.NotAfter) {
		t.Errorf("ends %s, want with the root, %s", got, c.root.cert.NotAfter)
	}
}

func TestAuthorityNeedsItsOwnKeyAndCluster(t *testing.T) {
	c, other := newCluster(t, "prod", seedRoot), newCluster(t, "prod", seedOther)
	for _, test := range []struct {
		name  string
		cert  []byte
		key   ed25519.PrivateKey
		trust *Trust
		want  error
	}{
		{"root with another key", c.rootDER, testKey(seedSpare), c.trust, ErrMismatch},
		{"issuer with the root's key", c.issuerDER, testKey(seedRoot), c.trust, ErrMismatch},
		{"root of another cluster", other.rootDER, testKey(seedOther), c.trust, ErrForeign},
		{"issuer of another cluster", other.issuerDER, testKey(seedIssuer), c.trust, ErrForeign},
		{"a node", mustNode(t, c.root).Chain[0], testKey(seedNode), c.trust, ErrProfile},
		{"a spoilt issuer", spoilSignature(c.issuerDER), testKey(seedIssuer), c.trust, ErrForeign},
	} {
		if _, err := NewAuthority(mustParse(t, test.cert), test.key, test.trust); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
	if _, err := NewAuthority(mustParse(t, c.rootDER), ecdsaKey(t), c.trust); err == nil || errors.Is(err, ErrMismatch) {
		t.Errorf("an ECDSA key: got %v, want an error about its kind", err)
	}
}

func TestAuthorityGivesWhatTokensNeed(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	if !c.root.IsRoot() || c.issuer.IsRoot() {
		t.Error("IsRoot is the wrong way round")
	}
	for _, a := range []*Authority{c.root, c.issuer} {
		if public := a.Signer().Public().(ed25519.PublicKey); cose.KeyIDOf(public) != a.KeyID() {
			t.Errorf("KeyID %x is not that of the key", a.KeyID())
		}
		if a.Trust() != c.trust {
			t.Error("Trust is not the one given")
		}
	}
}

// failing is a key that cannot be used after so many signatures, as one in a
// token that was pulled out.
type failing struct {
	ed25519.PrivateKey
	left int
}

var errPulled = errors.New("no token")

func (f *failing) Sign(rand io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if f.left == 0 {
		return nil, errPulled
	}
	f.left--
	return f.PrivateKey.Sign(rand, message, opts)
}

func TestAKeyThatFailsGivesNoHalfIdentity(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	for left := range 2 {
		key := &failing{testKey(seedIssuer), left}
		a, err := NewAuthority(mustParse(t, c.issuerDER), key, c.trust)
		if err != nil {
			t.Fatal(err)
		}
		if issued, err := a.Node(nodeRequest(), testNow); issued != nil || !errors.Is(err, errPulled) {
			t.Errorf("after %d signatures: got %v, %v, want the key's error", left, issued, err)
		}
	}
}

func TestRootsHaveSoundNamesAndKeys(t *testing.T) {
	key := testKey(seedRoot)
	for _, name := range []Name{"", "Prod", "prod.", "a..b", "192.0.2.1", "prod/x"} {
		if _, err := NewRoot(name, key, testNow); err == nil {
			t.Errorf("cluster %q: made", name)
		}
	}
	if _, err := NewRoot("prod", ecdsaKey(t), testNow); err == nil {
		t.Error("a root with an ECDSA key: made")
	}
	raw, err := NewRoot("prod", key, testNow)
	if err != nil {
		t.Fatal(err)
	}
	root := mustParse(t, raw)
	if !root.NotBefore.Equal(testNow.Add(-Backdate)) || !root.NotAfter.Equal(testNow.Add(RootLife)) {
		t.Errorf("lives from %s to %s", root.NotBefore, root.NotAfter)
	}
}

func TestEveryFlippedBitOfACertificateIsRefused(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	raw := mustNode(t, c.root).Chain[0]
	for i := range len(raw) * 8 {
		bad := bytes.Clone(raw)
		bad[i/8] ^= 1 << (i % 8)
		cert, err := x509.ParseCertificate(bad)
		if err != nil {
			continue
		}
		if id, err := c.trust.VerifyChain([]*x509.Certificate{cert}, testNow, KindNode); err == nil {
			t.Errorf("bit %d flipped: accepted as %v", i, id)
		}
	}
}

func TestIdentityOfWantsALeafOfTheCluster(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	leaf := mustParse(t, mustNode(t, c.issuer).Chain[0])
	if id, err := IdentityOf(leaf, "prod"); err != nil || id.String() != "spiffe://prod/node/web-1" {
		t.Errorf("got %v, %v", id, err)
	}
	if _, err := IdentityOf(leaf, "test"); !errors.Is(err, ErrForeign) {
		t.Errorf("another cluster: got %v, want ErrForeign", err)
	}
	for name, raw := range map[string][]byte{"issuer": c.issuerDER, "root": c.rootDER} {
		if _, err := IdentityOf(mustParse(t, raw), "prod"); !errors.Is(err, ErrProfile) {
			t.Errorf("%s: got %v, want ErrProfile", name, err)
		}
	}
}
