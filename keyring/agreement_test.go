package keyring

import (
	"bytes"
	"encoding/hex"
	"testing"
)

var basePoint = [32]byte{9}

func testAgreementKey(t testing.TB, raw string) *AgreementKey {
	t.Helper()
	seed := must(hex.DecodeString(raw))(t)
	k := must(newAgreementKey(func(raw []byte) error { copy(raw, seed); return nil }))(t)
	t.Cleanup(k.Destroy)
	return k
}

// RFC 7748, section 6.1.
func TestAgreementKeyIsX25519(t *testing.T) {
	alice := testAgreementKey(t, "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
	bob := testAgreementKey(t, "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
	const want = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
	public := alice.Public()
	if got := hex.EncodeToString(public[:]); got != "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a" {
		t.Errorf("public key: got %s", got)
	}
	for name, shared := range map[string][]byte{
		"alice": must(alice.Agree(bob.Public()))(t),
		"bob":   must(bob.Agree(alice.Public()))(t),
	} {
		if got := hex.EncodeToString(shared); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// With one of these, everybody would know the agreement.
func TestAgreementRefusesKeysOfLowOrder(t *testing.T) {
	k := must(NewAgreementKey())(t)
	defer k.Destroy()
	for _, peer := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"0000000000000000000000000000000000000000000000000000000000000080",
	} {
		if shared, err := k.Agree([32]byte(must(hex.DecodeString(peer))(t))); err == nil || shared != nil {
			t.Errorf("%s: got %x, %v, want an error", peer, shared, err)
		}
	}
}

func TestTwoKeysAreTwoKeys(t *testing.T) {
	a, b := must(NewAgreementKey())(t), must(NewAgreementKey())(t)
	x, y := must(NewSigningKey())(t), must(NewSigningKey())(t)
	defer func() { a.Destroy(); b.Destroy(); x.Destroy(); y.Destroy() }()
	if a.Public() == b.Public() || a.Fingerprint() == b.Fingerprint() || x.Fingerprint() == y.Fingerprint() {
		t.Error("two new keys are one")
	}
	if bytes.Equal(must(a.Agree(b.Public()))(t), must(a.Agree(basePoint))(t)) {
		t.Error("two agreements are one")
	}
}
