package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
)

// recipe is a certificate about to be made by crypto/x509, from its own fields:
// nothing of the code under test is in the baking.
type recipe struct {
	x509.Certificate
	key    crypto.Signer // the subject's
	public any           // the subject's, if not key's
	signer *x509.Certificate
	by     crypto.Signer
}

func (r *recipe) bake(t testing.TB) []byte {
	t.Helper()
	if r.public == nil {
		r.public = r.key.Public()
	}
	signer := r.signer
	if signer == nil {
		signer = &r.Certificate
	}
	raw, err := x509.CreateCertificate(rand.Reader, &r.Certificate, signer, r.public, r.by)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func spiffe(t testing.TB, id string) []*url.URL {
	t.Helper()
	u, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	return []*url.URL{u}
}

func distinguished(class, name string) pkix.Name {
	return pkix.Name{Organization: []string{"prod"}, OrganizationalUnit: []string{class}, CommonName: name}
}

func leafRecipe(t testing.TB, signer *x509.Certificate, by crypto.Signer) *recipe {
	return &recipe{
		Certificate: x509.Certificate{
			SerialNumber:          big.NewInt(77),
			Subject:               distinguished("node", "web-1"),
			NotBefore:             testNow.Add(-time.Minute),
			NotAfter:              testNow.Add(day),
			KeyUsage:              x509.KeyUsageDigitalSignature,
			ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			BasicConstraintsValid: true,
			DNSNames:              []string{"web-1"},
			URIs:                  spiffe(t, "spiffe://prod/node/web-1"),
		},
		key: testKey(seedNode), signer: signer, by: by,
	}
}

func caRecipe(t testing.TB, class, name, id string, key, by ed25519.PrivateKey, signer *x509.Certificate) *recipe {
	keyID := cose.KeyIDOf(publicOf(key))
	return &recipe{
		Certificate: x509.Certificate{
			SerialNumber:                big.NewInt(7),
			Subject:                     distinguished(class, name),
			NotBefore:                   testNow.Add(-5 * time.Minute),
			NotAfter:                    testNow.Add(2 * day),
			KeyUsage:                    x509.KeyUsageCertSign,
			BasicConstraintsValid:       true,
			IsCA:                        true,
			MaxPathLenZero:              class == "issuer",
			SubjectKeyId:                keyID[:],
			URIs:                        spiffe(t, id),
			PermittedURIDomains:         []string{"prod"},
			PermittedDNSDomainsCritical: true, // crypto/x509's name for "constraints are critical"
		},
		key: key, signer: signer, by: by,
	}
}

func issuerRecipe(t testing.TB, root *x509.Certificate) *recipe {
	return caRecipe(t, "issuer", "keeper-1", "spiffe://prod/issuer/keeper-1", testKey(seedIssuer), testKey(seedRoot), root)
}

func rootRecipe(t testing.TB) *recipe {
	r := caRecipe(t, "root", "prod", "spiffe://prod", testKey(seedRoot), testKey(seedRoot), nil)
	r.MaxPathLen = 1
	return r
}

// What crypto/x509 makes from its own fields is the profile, to the byte.
func TestProfileIsWhatTheStandardLibraryWrites(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	root := mustParse(t, c.rootDER)
	if _, err := ParseBundle(EncodeCertificates([][]byte{rootRecipe(t).bake(t)})); err != nil {
		t.Errorf("root: %v", err)
	}
	issuer := issuerRecipe(t, root).bake(t)
	if _, err := c.trust.AddIssuer(issuer, testNow); err != nil {
		t.Errorf("issuer: %v", err)
	}
	leaf := leafRecipe(t, mustParse(t, issuer), testKey(seedIssuer)).bake(t)
	if _, err := c.trust.VerifyChain(mustParseAll(t, [][]byte{leaf, issuer}), testNow, KindNode); err != nil {
		t.Errorf("node: %v", err)
	}
	client := leafRecipe(t, root, testKey(seedRoot))
	client.asClient(t)
	if _, err := c.trust.VerifyChain(mustParseAll(t, [][]byte{client.bake(t)}), testNow, KindClient); err != nil {
		t.Errorf("client: %v", err)
	}
}

func (r *recipe) asClient(t testing.TB) {
	r.URIs = spiffe(t, "spiffe://prod/client/web-1")
	r.Subject = distinguished("client", "web-1")
	r.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
}

// extra puts an extension into r, in place of crypto/x509's own if it has one.
func (r *recipe) extra(t testing.TB, critical bool, value any, id ...int) {
	t.Helper()
	raw, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	r.ExtraExtensions = append(r.ExtraExtensions, pkix.Extension{Id: id, Critical: critical, Value: raw})
}

type badCertificate struct {
	name string
	want error
	bad  func(t testing.TB, r *recipe)
}

// Every row is a node's certificate by a genuine issuer that differs from the
// profile, or from a valid one, in one way.
func badLeaves() []badCertificate {
	uri := func(id string) func(testing.TB, *recipe) {
		return func(t testing.TB, r *recipe) { r.URIs = spiffe(t, id) }
	}
	return []badCertificate{
		{"no URI", ErrProfile, func(_ testing.TB, r *recipe) { r.URIs = nil }},
		{"two URIs", ErrProfile, func(t testing.TB, r *recipe) { r.URIs = append(r.URIs, spiffe(t, "spiffe://prod/node/web-2")...) }},
		{"its URI twice", ErrProfile, func(_ testing.TB, r *recipe) { r.URIs = append(r.URIs, r.URIs[0]) }},
		{"URI of another name", ErrProfile, uri("spiffe://prod/node/web-2")},
		{"URI of another cluster", ErrForeign, uri("spiffe://test/node/web-1")},
		{"URI below the cluster", ErrForeign, func(t testing.TB, r *recipe) {
			// crypto/x509 lets a constraint pass subdomains of its host.
			r.URIs = spiffe(t, "spiffe://eu.prod/node/web-1")
			r.Subject.Organization = []string{"eu.prod"}
		}},
		{"URI with https", ErrProfile, uri("https://prod/node/web-1")},
		{"URI with a port", ErrProfile, uri("spiffe://prod:443/node/web-1")},
		{"URI with a user", ErrProfile, uri("spiffe://a@prod/node/web-1")},
		{"URI with a query", ErrProfile, uri("spiffe://prod/node/web-1?a")},
		{"URI with a fragment", ErrProfile, uri("spiffe://prod/node/web-1#a")},
		{"URI with a last slash", ErrProfile, uri("spiffe://prod/node/web-1/")},
		{"URI with an escape", ErrProfile, uri("spiffe://prod/node/web%2D1")},
		{"URI in capitals", ErrProfile, uri("spiffe://PROD/node/web-1")},
		{"URI with a scheme in capitals", ErrProfile, func(t testing.TB, r *recipe) {
			r.extra(t, false, []asn1.RawValue{
				{Class: 2, Tag: 2, Bytes: []byte("web-1")},
				{Class: 2, Tag: 6, Bytes: []byte("SPIFFE://prod/node/web-1")},
			}, 2, 5, 29, 17)
		}},
		{"URI of a name in capitals", ErrProfile, uri("spiffe://prod/node/Web-1")},
		{"URI without a name", ErrProfile, uri("spiffe://prod/node/")},
		{"URI of an unknown class", ErrProfile, uri("spiffe://prod/keeper/web-1")},
		{"URI of an issuer", ErrProfile, uri("spiffe://prod/issuer/web-1")},
		{"URI of the root", ErrProfile, uri("spiffe://prod")},
		{"no DNS name", ErrProfile, func(_ testing.TB, r *recipe) { r.DNSNames = nil }},
		{"another DNS name", ErrProfile, func(_ testing.TB, r *recipe) { r.DNSNames = []string{"web-2"} }},
		{"a second DNS name", ErrProfile, func(_ testing.TB, r *recipe) { r.DNSNames = append(r.DNSNames, "bank.example") }},
		{"a wildcard DNS name", ErrProfile, func(_ testing.TB, r *recipe) { r.DNSNames = append(r.DNSNames, "*") }},
		{"an IP address", ErrProfile, func(_ testing.TB, r *recipe) { r.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} }},
		{"an e-mail address", ErrProfile, func(_ testing.TB, r *recipe) { r.EmailAddresses = []string{"root@prod"} }},
		{"a name of a kind nobody reads", ErrProfile, func(t testing.TB, r *recipe) {
			r.extra(t, false, []asn1.RawValue{
				{Class: 2, Tag: 2, Bytes: []byte("web-1")},
				{Class: 2, Tag: 6, Bytes: []byte("spiffe://prod/node/web-1")},
				{Class: 2, Tag: 8, Bytes: []byte{42, 3}}, // registeredID
			}, 2, 5, 29, 17)
		}},
		{"names in another order", ErrProfile, func(t testing.TB, r *recipe) {
			r.extra(t, false, []asn1.RawValue{
				{Class: 2, Tag: 6, Bytes: []byte("spiffe://prod/node/web-1")},
				{Class: 2, Tag: 2, Bytes: []byte("web-1")},
			}, 2, 5, 29, 17)
		}},
		{"names marked critical", ErrProfile, func(t testing.TB, r *recipe) {
			r.extra(t, true, []asn1.RawValue{
				{Class: 2, Tag: 2, Bytes: []byte("web-1")},
				{Class: 2, Tag: 6, Bytes: []byte("spiffe://prod/node/web-1")},
			}, 2, 5, 29, 17)
		}},
		{"CA: TRUE", ErrProfile, func(_ testing.TB, r *recipe) { r.IsCA = true }},
		{"CA: TRUE and certSign", ErrProfile, func(_ testing.TB, r *recipe) {
			r.IsCA, r.KeyUsage = true, x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign
		}},
		{"no basic constraints", ErrProfile, func(_ testing.TB, r *recipe) { r.BasicConstraintsValid = false }},
		{"no key usage", ErrProfile, func(_ testing.TB, r *recipe) { r.KeyUsage = 0 }},
		{"key usage certSign too", ErrProfile, func(_ testing.TB, r *recipe) { r.KeyUsage |= x509.KeyUsageCertSign }},
		{"key usage keyEncipherment too", ErrProfile, func(_ testing.TB, r *recipe) { r.KeyUsage |= x509.KeyUsageKeyEncipherment }},
		{"key usage not critical", ErrProfile, func(t testing.TB, r *recipe) {
			r.extra(t, false, asn1.BitString{Bytes: []byte{0x80}, BitLength: 1}, 2, 5, 29, 15)
		}},
		{"no extended usage", ErrProfile, func(_ testing.TB, r *recipe) { r.ExtKeyUsage = nil }},
		{"no client auth", ErrProfile, func(_ testing.TB, r *recipe) { r.ExtKeyUsage = r.ExtKeyUsage[:1] }},
		{"no server auth", ErrProfile, func(_ testing.TB, r *recipe) { r.ExtKeyUsage = r.ExtKeyUsage[1:] }},
		{"any extended usage", ErrProfile, func(_ testing.TB, r *recipe) { r.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }},
		{"code signing too", ErrProfile, func(_ testing.TB, r *recipe) {
			r.ExtKeyUsage = append(r.ExtKeyUsage, x509.ExtKeyUsageCodeSigning)
		}},
		{"a usage of its own too", ErrProfile, func(_ testing.TB, r *recipe) {
			r.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}}
		}},
		{"client that may serve", ErrProfile, func(t testing.TB, r *recipe) {
			usages := r.ExtKeyUsage
			r.asClient(t)
			r.ExtKeyUsage = usages
		}},
		{"a client where a node is wanted", ErrMismatch, func(t testing.TB, r *recipe) { r.asClient(t) }},
		{"unknown critical extension", ErrProfile, func(t testing.TB, r *recipe) { r.extra(t, true, "x", 1, 2, 3, 4) }},
		{"unknown extension", ErrProfile, func(t testing.TB, r *recipe) { r.extra(t, false, "x", 1, 2, 3, 4) }},
		{"a subject key id", ErrProfile, func(_ testing.TB, r *recipe) { r.SubjectKeyId = make([]byte, 16) }},
		{"a place to fetch the issuer", ErrProfile, func(_ testing.TB, r *recipe) { r.IssuingCertificateURL = []string{"http://192.0.2.1/"} }},
		{"a policy", ErrProfile, func(t testing.TB, r *recipe) {
			policy, err := x509.OIDFromInts([]uint64{1, 2, 3})
			if err != nil {
				t.Fatal(err)
			}
			r.Policies = []x509.OID{policy}
		}},
		{"name constraints", ErrProfile, func(_ testing.TB, r *recipe) { r.PermittedURIDomains = []string{"prod"} }},
		{"another common name", ErrProfile, func(_ testing.TB, r *recipe) { r.Subject = distinguished("node", "web-2") }},
		{"another class in the subject", ErrProfile, func(_ testing.TB, r *recipe) { r.Subject = distinguished("issuer", "web-1") }},
		{"an empty subject", ErrProfile, func(_ testing.TB, r *recipe) { r.Subject = pkix.Name{} }},
		{"a country in the subject", ErrProfile, func(_ testing.TB, r *recipe) { r.Subject.Country = []string{"AQ"} }},
		{"serial number 0", ErrProfile, func(_ testing.TB, r *recipe) { r.SerialNumber = new(big.Int) }},
		{"no authority key id", ErrProfile, func(t testing.TB, r *recipe) {
			signer := *r.signer
			signer.SubjectKeyId = nil
			r.signer = &signer
		}},
		{"authority key id of another", ErrProfile, func(t testing.TB, r *recipe) {
			signer := *r.signer
			signer.SubjectKeyId = make([]byte, 16)
			r.signer = &signer
		}},
		{"expired", ErrExpired, func(_ testing.TB, r *recipe) {
			r.NotBefore, r.NotAfter = testNow.Add(-4*time.Minute), testNow.Add(-Tolerance-time.Second)
		}},
		{"not yet valid", ErrNotYetValid, func(_ testing.TB, r *recipe) { r.NotBefore = testNow.Add(Tolerance + time.Second) }},
		{"ends before it begins", ErrProfile, func(_ testing.TB, r *recipe) { r.NotBefore = r.NotAfter.Add(time.Second) }},
		{"lives longer than its issuer", ErrProfile, func(_ testing.TB, r *recipe) { r.NotAfter = r.signer.NotAfter.Add(time.Second) }},
		{"RSA key", ErrProfile, func(_ testing.TB, r *recipe) {
			r.public = &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 2047, 1), E: 65537}
		}},
		{"ECDSA key", ErrProfile, func(t testing.TB, r *recipe) { r.key = ecdsaKey(t) }},
		{"weak Ed25519 key", ErrProfile, func(t testing.TB, r *recipe) {
			r.public = ed25519.PublicKey(unhex(t, weakSigningKeys[0]))
		}},
		{"signed by a key that is not the issuer's", ErrForeign, func(_ testing.TB, r *recipe) {
			r.by = testKey(seedSpare)
			signer := *r.signer
			signer.PublicKey = publicOf(testKey(seedSpare))
			r.signer = &signer
		}},
		{"signed by itself", ErrForeign, func(_ testing.TB, r *recipe) { r.signer, r.by = nil, testKey(seedNode) }},
	}
}

func ecdsaKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Rows for the issuer: each differs in one way from a genuine one, is signed by
// the root, and has signed a perfect leaf.
func badIssuers() []badCertificate {
	return []badCertificate{
		{"CA: FALSE", ErrForeign, func(_ testing.TB, r *recipe) { r.IsCA, r.MaxPathLenZero = false, false }},
		{"no basic constraints", ErrForeign, func(_ testing.TB, r *recipe) { r.BasicConstraintsValid, r.MaxPathLenZero = false, false }},
		{"no certSign", ErrForeign, func(_ testing.TB, r *recipe) { r.KeyUsage = x509.KeyUsageDigitalSignature }},
		{"no key usage", ErrProfile, func(_ testing.TB, r *recipe) { r.KeyUsage = 0 }},
		{"digital signatures too", ErrProfile, func(_ testing.TB, r *recipe) { r.KeyUsage |= x509.KeyUsageDigitalSignature }},
		{"path length 1", ErrProfile, func(_ testing.TB, r *recipe) { r.MaxPathLen, r.MaxPathLenZero = 1, false }},
		{"no path length", ErrProfile, func(_ testing.TB, r *recipe) { r.MaxPathLen, r.MaxPathLenZero = -1, false }},
		{"no name constraints", ErrProfile, func(_ testing.TB, r *recipe) { r.PermittedURIDomains = nil }},
		{"constraints not critical", ErrProfile, func(_ testing.TB, r *recipe) { r.PermittedDNSDomainsCritical = false }},
		{"constraints of another cluster", ErrForeign, func(_ testing.TB, r *recipe) { r.PermittedURIDomains = []string{"test"} }},
		{"constraints of two clusters", ErrProfile, func(_ testing.TB, r *recipe) { r.PermittedURIDomains = []string{"prod", "test"} }},
		{"id of another cluster", ErrForeign, func(t testing.TB, r *recipe) { r.URIs = spiffe(t, "spiffe://test/issuer/keeper-1") }},
		{"id of a node", ErrProfile, func(t testing.TB, r *recipe) { r.URIs = spiffe(t, "spiffe://prod/node/keeper-1") }},
		{"id of the root", ErrProfile, func(t testing.TB, r *recipe) { r.URIs = spiffe(t, "spiffe://prod") }},
		{"no id", ErrProfile, func(t testing.TB, r *recipe) { r.URIs = nil }},
		{"a DNS name", ErrProfile, func(_ testing.TB, r *recipe) { r.DNSNames = []string{"keeper-1"} }},
		{"extended usage", ErrProfile, func(_ testing.TB, r *recipe) { r.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }},
		{"unknown critical extension", ErrProfile, func(t testing.TB, r *recipe) { r.extra(t, true, "x", 1, 2, 3, 4) }},
		{"unknown extension", ErrProfile, func(t testing.TB, r *recipe) { r.extra(t, false, "x", 1, 2, 3, 4) }},
		{"another subject", ErrProfile, func(_ testing.TB, r *recipe) { r.Subject = distinguished("issuer", "keeper-2") }},
		{"another key id", ErrProfile, func(_ testing.TB, r *recipe) { r.SubjectKeyId = make([]byte, 16) }},
		{"expired", ErrProfile, func(_ testing.TB, r *recipe) { r.NotAfter = testNow.Add(-3 * time.Minute) }},
		{"not yet valid", ErrNotYetValid, func(_ testing.TB, r *recipe) { r.NotBefore = testNow.Add(3 * time.Minute) }},
		{"ECDSA key", ErrProfile, func(t testing.TB, r *recipe) { r.key = ecdsaKey(t) }},
		{"signed by an issuer", ErrForeign, func(t testing.TB, r *recipe) {
			r.signer, r.by = mustParse(t, issuerRecipe(t, r.signer).bake(t)), testKey(seedIssuer)
			keyID := cose.KeyIDOf(publicOf(testKey(seedSpare)))
			r.key, r.SubjectKeyId = testKey(seedSpare), keyID[:]
		}},
		{"signed by itself", ErrForeign, func(_ testing.TB, r *recipe) { r.signer, r.by = nil, r.key }},
	}
}

// badChain is a chain that must be refused, and the leaf's key if there is one.
type badChain struct {
	name  string
	want  error
	chain [][]byte
	key   crypto.Signer
}

func badChains(t testing.TB, c *cluster) (chains []badChain) {
	t.Helper()
	root := mustParse(t, c.rootDER)
	issuer := issuerRecipe(t, root).bake(t)
	for _, row := range badLeaves() {
		leaf := leafRecipe(t, mustParse(t, issuer), testKey(seedIssuer))
		row.bad(t, leaf)
		key := leaf.key
		if leaf.public != nil {
			key = nil
		}
		chains = append(chains, badChain{"leaf: " + row.name, row.want, [][]byte{leaf.bake(t), issuer}, key})
	}
	for _, row := range badIssuers() {
		signer := issuerRecipe(t, root)
		row.bad(t, signer)
		raw := signer.bake(t)
		leaf := leafRecipe(t, mustParse(t, raw), signer.key)
		chains = append(chains, badChain{"issuer: " + row.name, row.want, [][]byte{leaf.bake(t), raw}, leaf.key})
	}

	good := leafRecipe(t, mustParse(t, issuer), testKey(seedIssuer)).bake(t)
	byRoot := leafRecipe(t, root, testKey(seedRoot)).bake(t)
	other := newCluster(t, "prod", seedOther)
	key := testKey(seedNode)
	byNode := leafRecipe(t, mustParse(t, mustNode(t, c.root).Chain[0]), testKey(seedNode))
	byNode.key = testKey(seedSpare)
	// Nothing here but its keys is wrong enough to be refused unseen.
	slow := caRecipe(t, "issuer", "keeper-1", "spiffe://prod/issuer/keeper-1", testKey(seedIssuer), nil, nil)
	slowKey := ecdsaKey(t)
	slow.key, slow.by = slowKey, slowKey
	slowDER := slow.bake(t)
	bySlow := leafRecipe(t, mustParse(t, slowDER), slowKey)
	slowKeyed := leafRecipe(t, nil, testKey(seedOther))
	slowKeyed.signer, slowKeyed.key = mustParse(t, newCluster(t, "prod", seedOther).rootDER), slowKey
	return append(chains,
		badChain{"of keys that are not tried", ErrProfile, [][]byte{bySlow.bake(t), slowDER}, key},
		badChain{"of a signature that is not tried", ErrProfile, [][]byte{bySlow.bake(t)}, key},
		badChain{"of a key that is not tried", ErrProfile, [][]byte{slowKeyed.bake(t)}, slowKey},
		badChain{"without its issuer", ErrForeign, [][]byte{good}, key},
		badChain{"with another issuer", ErrForeign, [][]byte{good, other.issuerDER}, key},
		badChain{"with the root in place of its issuer", ErrForeign, [][]byte{good, c.rootDER}, key},
		badChain{"with an issuer it does not need", ErrProfile, [][]byte{byRoot, issuer}, key},
		badChain{"with the root twice behind it", ErrProfile, [][]byte{byRoot, c.rootDER, c.rootDER}, key},
		badChain{"with its issuer twice", ErrProfile, [][]byte{good, issuer, issuer}, key},
		badChain{"with a foreign root behind it", ErrProfile, [][]byte{byRoot, other.rootDER}, key},
		badChain{"with three foreign certificates, unread", ErrProfile, append(mustNode(t, other.issuer).Chain, other.rootDER), key},
		badChain{"by a node", ErrForeign, [][]byte{byNode.bake(t), mustNode(t, c.root).Chain[0]}, byNode.key},
		badChain{"of a cluster with our name", ErrForeign, mustNode(t, other.root).Chain, key},
		badChain{"of an issuer of a cluster with our name", ErrForeign, mustNode(t, other.issuer).Chain, key},
		badChain{"the issuer itself", ErrProfile, [][]byte{issuer}, testKey(seedIssuer)},
		badChain{"the root itself", ErrProfile, [][]byte{c.rootDER}, testKey(seedRoot)},
	)
}

// Threats K11 and K12.
func TestBadCertificatesAreRefused(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	for _, row := range badChains(t, c) {
		if id, err := c.trust.VerifyChain(mustParseAll(t, row.chain), testNow, KindNode); !errors.Is(err, row.want) {
			t.Errorf("%s: got %v, %v, want %v", row.name, id, err, row.want)
		}
	}
	if _, err := c.trust.VerifyChain(nil, testNow, KindNode); !errors.Is(err, ErrProfile) {
		t.Errorf("no certificate: got %v, want ErrProfile", err)
	}
}

// OpenSSL, and curl with it, sends the root it was told to trust as well.
func TestChainWithOurRootBehindItIsAccepted(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	for name, chain := range map[string][][]byte{
		"leaf and root":         append(mustNode(t, c.root).Chain, c.rootDER),
		"leaf, issuer and root": append(mustNode(t, c.issuer).Chain, c.rootDER),
	} {
		if _, err := c.trust.VerifyChain(mustParseAll(t, chain), testNow, KindNode); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Threats K11 and K12, where it counts: on a listener and on a dialler. That the
// listener wants a node's certificate and nothing else is part of the table.
func TestBadCertificatesEndHandshakesInBothDirections(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	good := own(mustNode(t, c.issuer), testKey(seedNode))
	for _, row := range badChains(t, c) {
		if row.key == nil {
			continue // nobody holds the key
		}
		bad := func() (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: row.chain, PrivateKey: row.key}, nil
		}
		server, _ := handshake(t, c.trust.ServerTLS(good, []Kind{KindNode}, clock), c.trust.ClientTLS(bad, "", clock))
		if !errors.Is(server, row.want) {
			t.Errorf("%s, dialling: got %v, want %v", row.name, server, row.want)
		}
		_, client := handshake(t, c.trust.ServerTLS(bad, []Kind{KindNode}, clock), c.trust.ClientTLS(good, "", clock))
		if !errors.Is(client, row.want) {
			t.Errorf("%s, listening: got %v, want %v", row.name, client, row.want)
		}
	}
}

func TestBadRootsAreRefused(t *testing.T) {
	for name, bad := range map[string]func(*recipe){
		"CA: FALSE":               func(r *recipe) { r.IsCA, r.MaxPathLen = false, 0 },
		"path length 0":           func(r *recipe) { r.MaxPathLen, r.MaxPathLenZero = 0, true },
		"path length 2":           func(r *recipe) { r.MaxPathLen = 2 },
		"no name constraints":     func(r *recipe) { r.PermittedURIDomains = nil },
		"constraints of another":  func(r *recipe) { r.PermittedURIDomains = []string{"test"} },
		"CRL signing too":         func(r *recipe) { r.KeyUsage |= x509.KeyUsageCRLSign },
		"another subject":         func(r *recipe) { r.Subject = distinguished("root", "test") },
		"another key id":          func(r *recipe) { r.SubjectKeyId = make([]byte, 16) },
		"an authority key id":     func(r *recipe) { r.AuthorityKeyId = r.SubjectKeyId },
		"an issuer's id":          func(r *recipe) { r.URIs = spiffe(t, "spiffe://prod/issuer/prod") },
		"id with a path":          func(r *recipe) { r.URIs = spiffe(t, "spiffe://prod/") },
		"unknown extension":       func(r *recipe) { r.extra(t, false, "x", 1, 2, 3, 4) },
		"a DNS name":              func(r *recipe) { r.DNSNames = []string{"prod"} },
		"ECDSA":                   func(r *recipe) { key := ecdsaKey(t); r.key, r.by = key, key },
		"signed by somebody else": func(r *recipe) { r.signer, r.by = &x509.Certificate{Subject: r.Subject}, testKey(seedSpare) },
	} {
		r := rootRecipe(t)
		bad(r)
		if _, err := ParseBundle(EncodeCertificates([][]byte{r.bake(t)})); !errors.Is(err, ErrProfile) {
			t.Errorf("%s: got %v, want ErrProfile", name, err)
		}
	}
}
