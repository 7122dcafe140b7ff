package pki

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"testing"
)

func hexOf(raw []byte) string { return hex.EncodeToString(raw) }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// The points whose order divides 8, in their proper encodings.
var weakSigningKeys = []string{
	"0100000000000000000000000000000000000000000000000000000000000000",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0000000000000000000000000000000000000000000000000000000000000080",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
}

// This is why: the signature below was made without any key, and crypto/ed25519
// accepts it for at least one message in eight or so.
func TestWeakSigningKeysVerifyForgeriesAndAreRefused(t *testing.T) {
	forgery := make([]byte, ed25519.SignatureSize)
	forgery[0] = 1 // R is the neutral point, S is 0
	for _, text := range weakSigningKeys {
		key := ed25519.PublicKey(unhex(t, text))
		forged := false
		for i := uint64(0); i < 500 && !forged; i++ {
			forged = ed25519.Verify(key, binary.BigEndian.AppendUint64(nil, i), forgery)
		}
		if !forged {
			t.Errorf("%s: no forgery found, so it proves nothing here", text)
		}
		if checkSigningKey(key) == nil {
			t.Errorf("%s: accepted", text)
		}
	}
}

func TestSigningKeysOfOtherLengthsOrEncodingsAreRefused(t *testing.T) {
	good := publicOf(testKey(seedNode))
	if err := checkSigningKey(good); err != nil {
		t.Fatalf("a sound key: %v", err)
	}
	for name, key := range map[string][]byte{
		"none":                   nil,
		"short":                  good[:31],
		"long":                   append(append([]byte{}, good...), 0),
		"p":                      unhex(t, "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
		"p + 1":                  unhex(t, "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
		"p + 18, largest number": unhex(t, "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
		"p + 3, with sign":       unhex(t, "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"),
	} {
		if checkSigningKey(key) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, below := range []string{
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p - 1
		"fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe7f",
		"ff00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7e",
	} {
		if !isReduced([32]byte(unhex(t, below))) {
			t.Errorf("%s: counts as not below p", below)
		}
	}
}

func TestWeakAgreementKeysAreRefused(t *testing.T) {
	if err := checkAgreementKey(testAgreementKey); err != nil {
		t.Fatalf("a sound key: %v", err)
	}
	secret, err := ecdh.X25519().NewPrivateKey(testKey(seedNode).Seed())
	if err != nil {
		t.Fatal(err)
	}
	if err := checkAgreementKey([32]byte(secret.PublicKey().Bytes())); err != nil {
		t.Errorf("a generated key: %v", err)
	}
	for _, text := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		// crypto/ecdh says that the agreement's result is zero for all of them.
		peer, err := ecdh.X25519().NewPublicKey(unhex(t, text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := secret.ECDH(peer); err == nil {
			t.Errorf("%s: agreement worked, so it is not weak", text)
		}
		if checkAgreementKey([32]byte(unhex(t, text))) == nil {
			t.Errorf("%s: accepted", text)
		}
	}
	second := testAgreementKey
	second[31] |= 0x80 // X25519 ignores this bit
	if checkAgreementKey(second) == nil {
		t.Error("a second encoding: accepted")
	}
}
