package pki

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
)

func TestCredentialSaysWhatWasIssued(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	got, err := c.trust.VerifyCredential(mustNode(t, c.root).Credential, testNow)
	if err != nil {
		t.Fatal(err)
	}
	want := &Credential{
		Cluster: "prod", Name: "web-1", Kind: KindNode, Roles: []Role{RoleKeeper},
		SigningKey: publicOf(testKey(seedNode)), AgreementKey: testAgreementKey,
		NotBefore: testNow.Add(-5 * time.Minute), NotAfter: testNow.Add(7 * day),
		ID: got.ID, signer: got.signer,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("node: got %+v, want %+v", got, want)
	}
	if !got.HasRole(RoleKeeper) || got.HasRole("other") {
		t.Error("HasRole does not go by the roles")
	}

	got, err = c.trust.VerifyCredential(mustClient(t, c.root).Credential, testNow)
	if err != nil {
		t.Fatal(err)
	}
	want = &Credential{
		Cluster: "prod", Name: "alice", Kind: KindClient, SigningKey: publicOf(testKey(seedClient)),
		NotBefore: testNow.Add(-5 * time.Minute), NotAfter: testNow.Add(90 * day),
		ID: got.ID, signer: got.signer,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("client: got %+v, want %+v", got, want)
	}
	if got.HasRole(RoleKeeper) {
		t.Error("a client is a keeper")
	}
}

func TestCredentialsHaveTheirOwnIDs(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	seen := map[[16]byte]bool{}
	for range 20 {
		got, err := c.trust.VerifyCredential(mustClient(t, c.root).Credential, testNow)
		if err != nil {
			t.Fatal(err)
		}
		if seen[got.ID] || got.ID == [16]byte{} {
			t.Fatalf("id %x: zero or repeated", got.ID)
		}
		seen[got.ID] = true
	}
}

// The bytes of a credential, for whoever writes another reader. Signing is
// deterministic; only the id is drawn, and here it is given.
func TestCredentialBytes(t *testing.T) {
	c := Credential{
		Cluster: "prod", Name: "web-1", Kind: KindNode, Roles: []Role{RoleKeeper},
		SigningKey: publicOf(testKey(seedNode)), AgreementKey: testAgreementKey,
		NotBefore: time.Unix(1_800_000_000, 0), NotAfter: time.Unix(1_800_604_800, 0),
		ID: [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
	}
	got, err := c.appendClaims(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := unhex(t, "a8"+
		"01"+"6470726f64"+ // iss: "prod"
		"02"+"657765622d31"+ // sub: "web-1"
		"04"+"1a6b530c80"+ // exp
		"05"+"1a6b49d200"+ // nbf
		"07"+"500102030405060708090a0b0c0d0e0f10"+ // cti
		"08"+"a2"+ // cnf
		"01"+"a3"+"0101"+"2006"+"215820"+hexOf(c.SigningKey)+
		"3a00010000"+"a3"+"0101"+"2004"+"215820"+hexOf(c.AgreementKey[:])+
		"3a00010000"+"01"+ // kind: node
		"3a00010001"+"81"+"666b6565706572") // roles: ["keeper"]
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

func TestLongestCredentialFits(t *testing.T) {
	long := Name(strings.Repeat("a", 63))
	c := Credential{
		Cluster: long, Name: long, Kind: KindNode,
		SigningKey: publicOf(testKey(seedNode)), AgreementKey: testAgreementKey,
		NotBefore: testNow.Add(100 * 365 * day), NotAfter: testNow.Add(200 * 365 * day), ID: [16]byte{1},
	}
	for i := range maxRoles {
		c.Roles = append(c.Roles, Role(strings.Repeat(string(rune('a'+i)), maxRole)))
	}
	trust := newCluster(t, long, seedRoot).trust
	raw, err := c.sign(testKey(seedRoot), trust.cluster)
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) != 429 || len(raw) > MaxCredential {
		t.Errorf("it has %d bytes, documented are 429", len(raw))
	}
	if _, err := trust.VerifyCredential(raw, c.NotBefore); !errors.Is(err, ErrExpired) {
		// The root has expired by then; what matters is that nothing else is wrong.
		t.Errorf("got %v, want ErrExpired", err)
	}
	payload, err := c.appendClaims(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseClaims(payload); err != nil {
		t.Errorf("unknown roles of the longest kind: %v", err)
	}
}

func TestCredentialOfAnUnknownIssuerVerifiesOnceItIsLearned(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	raw := mustNode(t, c.issuer).Credential
	if _, err := c.trust.VerifyCredential(raw, testNow); !errors.Is(err, ErrUnknownSigner) {
		t.Errorf("before: got %v, want ErrUnknownSigner", err)
	}
	if _, err := c.trust.AddIssuer(c.issuerDER, testNow); err != nil {
		t.Fatal(err)
	}
	if _, err := c.trust.VerifyCredential(raw, testNow); err != nil {
		t.Errorf("after: %v", err)
	}
}

func TestCredentialLivesFromBeginToEndGiveOrTakeTolerance(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	if _, err := c.trust.AddIssuer(c.issuerDER, testNow); err != nil {
		t.Fatal(err)
	}
	// A year later the issuer's own end cuts the life short.
	late := testNow.Add(IssuerLife - day)
	atEnd, err := c.issuer.Node(nodeRequest(), late)
	if err != nil {
		t.Fatal(err)
	}
	raw := mustNode(t, c.issuer).Credential
	for _, test := range []struct {
		name string
		raw  []byte
		now  time.Time
		want error
	}{
		{"first moment", raw, testNow.Add(-Backdate - Tolerance), nil},
		{"a second earlier", raw, testNow.Add(-Backdate - Tolerance - time.Second), ErrNotYetValid},
		{"last moment", raw, testNow.Add(NodeLife + Tolerance), nil},
		{"a second later", raw, testNow.Add(NodeLife + Tolerance + time.Second), ErrExpired},
		{"ten years later", raw, testNow.Add(10 * 365 * day), ErrExpired},
		{"ten years earlier", raw, testNow.Add(-10 * 365 * day), ErrNotYetValid},
		{"its issuer's last moment", atEnd.Credential, testNow.Add(IssuerLife + Tolerance), nil},
		{"a second after that", atEnd.Credential, testNow.Add(IssuerLife + Tolerance + time.Second), ErrExpired},
	} {
		if _, err := c.trust.VerifyCredential(test.raw, test.now); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
}

func TestCredentialIsBoundToSignerPurposeAndCluster(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	payload := func(change func(*Credential)) []byte {
		body := Credential{
			Cluster: "prod", Name: "alice", Kind: KindClient, SigningKey: publicOf(testKey(seedClient)),
			NotBefore: testNow, NotAfter: testNow.Add(day), ID: [16]byte{1},
		}
		change(&body)
		out, err := body.appendClaims(nil)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	same := func(*Credential) {}
	sign := func(key ed25519.PrivateKey, context, payload []byte) []byte {
		raw, err := cose.Sign(key, context, payload)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	root, here := testKey(seedRoot), cose.Context(credentialLabel, c.trust.cluster)
	if _, err := c.trust.VerifyCredential(sign(root, here, payload(same)), testNow); err != nil {
		t.Fatalf("the sound one: %v", err)
	}
	for _, test := range []struct {
		name string
		raw  []byte
		want error
	}{
		{"signed by another root", sign(testKey(seedOther), here, payload(same)), ErrUnknownSigner},
		{"signed by a node", sign(testKey(seedNode), here, payload(same)), ErrUnknownSigner},
		{"signed by itself", sign(testKey(seedClient), here, payload(same)), ErrUnknownSigner},
		{"for another purpose", sign(root, cose.Context("secgossip/1 token", c.trust.cluster), payload(same)), cose.ErrSignature},
		{"for another cluster id", sign(root, cose.Context(credentialLabel, ClusterID{1}), payload(same)), cose.ErrSignature},
		{"for no cluster", sign(root, nil, payload(same)), cose.ErrSignature},
		{"for another cluster name", sign(root, here, payload(func(b *Credential) { b.Cluster = "test" })), ErrForeign},
		{"no claims", sign(root, here, nil), ErrProfile},
		{"other claims", sign(root, here, []byte{0xa0}), ErrProfile},
		{"too long to be read", sign(testKey(seedOther), here, make([]byte, MaxCredential)), ErrProfile},
		{"nothing", nil, ErrProfile},
	} {
		if got, err := c.trust.VerifyCredential(test.raw, testNow); got != nil || !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, %v, want %v", test.name, got, err, test.want)
		}
	}
}

func TestClaimsThatNoAuthorityWritesAreRefused(t *testing.T) {
	node := func() claims {
		return claims{
			Issuer: "prod", Subject: "web-1", Expires: 2000, NotBefore: 1000, ID: make([]byte, 16), Kind: 1,
			Confirmation: confirmation{
				Signing:   coseKey{keyTypeOKP, curveEd25519, publicOf(testKey(seedNode))},
				Agreement: &coseKey{keyTypeOKP, curveX25519, bytes.Clone(testAgreementKey[:])},
			},
		}
	}
	encode := func(c claims) []byte {
		raw, err := cose.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	if _, err := parseClaims(encode(node())); err != nil {
		t.Fatalf("the sound ones: %v", err)
	}
	for name, change := range map[string]func(*claims){
		"no cluster":               func(c *claims) { c.Issuer = "" },
		"cluster in capitals":      func(c *claims) { c.Issuer = "Prod" },
		"no name":                  func(c *claims) { c.Subject = "" },
		"name with a slash":        func(c *claims) { c.Subject = "web/1" },
		"ends as it begins":        func(c *claims) { c.Expires = c.NotBefore },
		"ends before it begins":    func(c *claims) { c.Expires = 1 },
		"begins before 1970":       func(c *claims) { c.NotBefore = -1 },
		"ends after the year 9999": func(c *claims) { c.Expires = maxTime + 1 },
		"no id":                    func(c *claims) { c.ID = nil },
		"short id":                 func(c *claims) { c.ID = make([]byte, 15) },
		"long id":                  func(c *claims) { c.ID = make([]byte, 17) },
		"kind 0":                   func(c *claims) { c.Kind = 0 },
		"kind 3":                   func(c *claims) { c.Kind = 3 },
		"client with agreement":    func(c *claims) { c.Kind = 2 },
		"client with a role":       func(c *claims) { c.Kind, c.Confirmation.Agreement, c.Roles = 2, nil, []string{"keeper"} },
		"node without agreement":   func(c *claims) { c.Confirmation.Agreement = nil },
		"no signing key":           func(c *claims) { c.Confirmation.Signing.X = nil },
		"short signing key":        func(c *claims) { c.Confirmation.Signing.X = make([]byte, 31) },
		"weak signing key":         func(c *claims) { c.Confirmation.Signing.X = unhex(t, weakSigningKeys[4]) },
		"signing key of a type":    func(c *claims) { c.Confirmation.Signing.Type = 2 },
		"signing key for X25519":   func(c *claims) { c.Confirmation.Signing.Curve = curveX25519 },
		"long agreement key":       func(c *claims) { c.Confirmation.Agreement.X = make([]byte, 33) },
		"weak agreement key":       func(c *claims) { c.Confirmation.Agreement.X = make([]byte, 32) },
		"agreement key of a type":  func(c *claims) { c.Confirmation.Agreement.Type = 4 },
		"agreement key, Ed25519":   func(c *claims) { c.Confirmation.Agreement.Curve = curveEd25519 },
		"role twice":               func(c *claims) { c.Roles = []string{"keeper", "keeper"} },
		"roles not sorted":         func(c *claims) { c.Roles = []string{"keeper", "a"} },
		"role without a name":      func(c *claims) { c.Roles = []string{""} },
		"role that is no name":     func(c *claims) { c.Roles = []string{"Keeper"} },
		"long role":                func(c *claims) { c.Roles = []string{strings.Repeat("a", maxRole+1)} },
		"many roles":               func(c *claims) { c.Roles = []string{"a", "b", "c", "d", "e"} },
	} {
		c := node()
		change(&c)
		if got, err := parseClaims(encode(c)); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
}

// Package cose has the tests of what counts as a second encoding; this one sees
// that it is asked.
func TestClaimsInAnotherEncodingAreRefused(t *testing.T) {
	c := Credential{
		Cluster: "prod", Name: "alice", Kind: KindClient, SigningKey: publicOf(testKey(seedClient)),
		NotBefore: testNow, NotAfter: testNow.Add(day), ID: [16]byte{1},
	}
	good, err := c.appendClaims(nil)
	if err != nil {
		t.Fatal(err)
	}
	longer := append([]byte{0xb8, good[0] & 0x1f}, good[1:]...)              // the map's length in a byte of its own
	unknown := append(bytes.Clone(good), 0x3a, 0x00, 0x01, 0x00, 0x02, 0x01) // -65539: 1
	unknown[0]++
	for name, bad := range map[string][]byte{
		"a trailing byte":  append(bytes.Clone(good), 0),
		"a longer length":  longer,
		"an unknown claim": unknown,
	} {
		if got, err := parseClaims(bad); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
}

func TestEveryFlippedBitOfACredentialIsRefused(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	raw := mustNode(t, c.root).Credential
	for i := range len(raw) * 8 {
		bad := bytes.Clone(raw)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := c.trust.VerifyCredential(bad, testNow); err == nil {
			t.Errorf("bit %d flipped: accepted", i)
		}
	}
	for n := range raw {
		if _, err := c.trust.VerifyCredential(raw[:n], testNow); err == nil {
			t.Errorf("%d of %d bytes: accepted", n, len(raw))
		}
	}
	if _, err := c.trust.VerifyCredential(append(bytes.Clone(raw), 0), testNow); err == nil {
		t.Error("a trailing byte: accepted")
	}
}

func TestCredentialAndCertificateMustAgree(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	issued := mustNode(t, c.root)
	credential, err := c.trust.VerifyCredential(issued.Credential, testNow)
	if err != nil {
		t.Fatal(err)
	}
	id, err := c.trust.VerifyChain(mustParseAll(t, issued.Chain), testNow, KindNode)
	if err != nil {
		t.Fatal(err)
	}
	if err := credential.Matches(id); err != nil {
		t.Fatalf("issued together: %v", err)
	}
	for name, change := range map[string]func(*Identity){
		"cluster": func(id *Identity) { id.Cluster = "test" },
		"kind":    func(id *Identity) { id.Kind = KindClient },
		"name":    func(id *Identity) { id.Name = "web-2" },
		"key":     func(id *Identity) { id.Key = publicOf(testKey(seedSpare)) },
		"no key":  func(id *Identity) { id.Key = nil },
	} {
		other := id
		change(&other)
		if err := credential.Matches(other); !errors.Is(err, ErrMismatch) {
			t.Errorf("another %s: got %v, want ErrMismatch", name, err)
		}
	}
}

func FuzzCredentialHasOneEncoding(f *testing.F) {
	c := newCluster(f, "prod", seedRoot)
	for _, raw := range [][]byte{mustNode(f, c.root).Credential, mustClient(f, c.root).Credential} {
		message, err := cose.Parse(raw)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(message.Payload)
	}
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, err := parseClaims(payload)
		if err != nil {
			return
		}
		again, err := got.appendClaims(nil)
		if err != nil || !bytes.Equal(again, payload) {
			t.Errorf("a second encoding is accepted: %x, proper %x (%v)", payload, again, err)
		}
	})
}
