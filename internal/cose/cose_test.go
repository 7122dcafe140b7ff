package cose

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"

	gocose "github.com/veraison/go-cose"
)

type claims struct {
	Name string   `cbor:"1,keyasint"`
	When uint64   `cbor:"2,keyasint"`
	List []string `cbor:"3,keyasint,omitempty"`
}

func testKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func signed(t testing.TB) (raw, context, payload []byte) {
	t.Helper()
	payload, err := Marshal(claims{Name: "web-1", When: 1_700_000_000, List: []string{"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	context = Context("secgossip/1 test", [32]byte{1, 2, 3})
	raw, err = Sign(testKey(1), context, payload)
	if err != nil {
		t.Fatal(err)
	}
	return raw, context, payload
}

func public(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

func TestSignedMessageVerifies(t *testing.T) {
	raw, context, payload := signed(t)
	m, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Payload, payload) {
		t.Errorf("payload: got %x, want %x", m.Payload, payload)
	}
	if err := m.Verify(public(testKey(1)), context); err != nil {
		t.Errorf("Verify: %v", err)
	}
}

// Another implementation must read what we write, or "COSE_Sign1" is only a name.
func TestAnotherImplementationVerifiesOurMessage(t *testing.T) {
	raw, context, payload := signed(t)
	var m gocose.Sign1Message
	if err := m.UnmarshalCBOR(raw); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Payload, payload) {
		t.Errorf("payload: got %x, want %x", m.Payload, payload)
	}
	verifier, err := gocose.NewVerifier(gocose.AlgorithmEdDSA, public(testKey(1)))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(context, verifier); err != nil {
		t.Errorf("go-cose refuses our message: %v", err)
	}
}

func TestSignatureIsBoundToKeyPurposeAndCluster(t *testing.T) {
	raw, context, _ := signed(t)
	m, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		key     ed25519.PublicKey
		context []byte
	}{
		{"another key", public(testKey(2)), context},
		{"no key", nil, context},
		{"another purpose", public(testKey(1)), Context("secgossip/1 other", [32]byte{1, 2, 3})},
		{"another cluster", public(testKey(1)), Context("secgossip/1 test", [32]byte{9})},
		{"no context", public(testKey(1)), nil},
	} {
		if err := m.Verify(test.key, test.context); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: got %v, want ErrSignature", test.name, err)
		}
	}
}

func TestEveryFlippedBitIsRefused(t *testing.T) {
	raw, context, _ := signed(t)
	for i := range len(raw) * 8 {
		bad := bytes.Clone(raw)
		bad[i/8] ^= 1 << (i % 8)
		m, err := Parse(bad)
		if err == nil && m.Verify(public(testKey(1)), context) == nil {
			t.Errorf("bit %d flipped: accepted", i)
		}
	}
}

func TestEveryTruncationAndExtensionIsRefused(t *testing.T) {
	raw, _, _ := signed(t)
	for n := range raw {
		if _, err := Parse(raw[:n]); err == nil {
			t.Errorf("%d of %d bytes: accepted", n, len(raw))
		}
	}
	if _, err := Parse(append(bytes.Clone(raw), 0)); err == nil {
		t.Error("a trailing byte: accepted")
	}
}

func TestUnmarshalRefusesASecondEncoding(t *testing.T) {
	for _, test := range []struct {
		name string
		raw  []byte
	}{
		{"longer integer", []byte{0xa2, 0x01, 0x61, 'a', 0x02, 0x18, 0x05}},
		{"keys out of order", []byte{0xa2, 0x02, 0x05, 0x01, 0x61, 'a'}},
		{"repeated key", []byte{0xa3, 0x01, 0x61, 'a', 0x02, 0x05, 0x02, 0x05}},
		{"unknown key", []byte{0xa3, 0x01, 0x61, 'a', 0x02, 0x05, 0x09, 0x05}},
		{"indefinite length", []byte{0xbf, 0x01, 0x61, 'a', 0x02, 0x05, 0xff}},
		{"missing field", []byte{0xa1, 0x01, 0x61, 'a'}},
		{"trailing byte", []byte{0xa2, 0x01, 0x61, 'a', 0x02, 0x05, 0x00}},
		{"invalid UTF-8", []byte{0xa2, 0x01, 0x61, 0xff, 0x02, 0x05}},
		{"empty list instead of none", []byte{0xa3, 0x01, 0x61, 'a', 0x02, 0x05, 0x03, 0x80}},
		{"tag", []byte{0xa2, 0x01, 0x61, 'a', 0x02, 0xc1, 0x05}},
		{"nothing", nil},
	} {
		var c claims
		if err := Unmarshal(test.raw, &c); err == nil {
			t.Errorf("%s: accepted as %+v", test.name, c)
		}
	}
	var c claims
	if err := Unmarshal([]byte{0xa2, 0x01, 0x61, 'a', 0x02, 0x05}, &c); err != nil {
		t.Errorf("the only encoding: %v", err)
	}
}

// What Parse accepts has one encoding: rebuilding it gives the same bytes.
func FuzzParseHasOneEncoding(f *testing.F) {
	raw, _, _ := signed(f)
	f.Add(raw)
	f.Add(raw[:len(raw)-1])
	f.Add([]byte{tagSign1, 0x84})
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := Parse(raw)
		if err != nil {
			return
		}
		again, err := appendSign1(protectedHeader(m.KeyID), m.Payload, m.Signature[:])
		if err != nil || !bytes.Equal(raw, again) {
			t.Errorf("second encoding accepted: %x (%v)", raw, err)
		}
	})
}
