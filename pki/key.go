package pki

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
)

// checkSigningKey refuses Ed25519 public keys that are not 32 bytes, not in
// their only encoding, or of small order.
//
// Threat K11: under a point of small order anybody can make signatures that
// verify, so whoever has such a key certified lends its name to everybody.
// Threat K15: a key with a second encoding would come back after its first one
// was revoked.
func checkSigningKey(key ed25519.PublicKey) error {
	if len(key) != ed25519.PublicKeySize {
		return fmt.Errorf("an Ed25519 public key has %d bytes, not %d", ed25519.PublicKeySize, len(key))
	}
	y := [32]byte(key)
	y[31] &= 0x7f // the sign of x; no point of small order becomes better by it
	if !isReduced(y) {
		return errors.New("an Ed25519 public key is not in its only encoding")
	}
	switch hex.EncodeToString(y[:]) {
	case "0000000000000000000000000000000000000000000000000000000000000000", // order 4
		"0100000000000000000000000000000000000000000000000000000000000000", // order 1
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 2
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a": // order 8
		return errors.New("an Ed25519 public key is of small order")
	}
	return nil
}

// checkAgreementKey refuses X25519 public keys that are not in their only
// encoding or of small order: with those the result of an agreement does not
// depend on the secret (RFC 7748, section 6.1), so anybody can compute it.
func checkAgreementKey(key [32]byte) error {
	if key[31]&0x80 != 0 || !isReduced(key) {
		return errors.New("an X25519 public key is not in its only encoding")
	}
	switch hex.EncodeToString(key[:]) {
	case "0000000000000000000000000000000000000000000000000000000000000000", // also: none given
		"0100000000000000000000000000000000000000000000000000000000000000",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157":
		return errors.New("an X25519 public key is missing or of small order")
	}
	return nil
}

// isReduced reports whether the little-endian number n of 255 bits is below the
// field's prime 2^255 - 19.
func isReduced(n [32]byte) bool {
	if n[31] != 0x7f || n[0] < 0xed {
		return true
	}
	for _, b := range n[1:31] {
		if b != 0xff {
			return true
		}
	}
	return false
}
