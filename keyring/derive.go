package keyring

import (
	"crypto/sha256"
	"hash"
)

// maxDerived is the most HKDF can give: 255 blocks (RFC 5869, section 2.3).
const maxDerived = 255 * sha256.Size

// kdf is HKDF with SHA-256 (RFC 5869) that leaves nothing behind. crypto/hkdf
// would do, but it drops the states of its hashes as garbage, and one of them
// holds the last bytes it was given: the secret.
type kdf struct {
	inner, outer hash.Hash
	pad          [sha256.BlockSize]byte
	key, sum     [sha256.Size]byte
}

// derive returns size bytes, at most maxDerived, from the secret, which is given
// in parts so that nobody has to join them in a buffer. salt is at most one
// block. The result is the caller's to wipe.
func derive(salt, info []byte, size int, secret ...[]byte) []byte {
	out := make([]byte, 0, size)
	erasing(func() {
		k := &kdf{inner: sha256.New(), outer: sha256.New()}
		defer k.wipe()

		k.mac(salt, secret...) // HKDF-Extract
		k.key = k.sum

		k.mac(k.key[:], info, []byte{1}) // HKDF-Expand
		out = append(out, k.sum[:min(size, len(k.sum))]...)
		for counter := byte(2); len(out) < size; counter++ {
			k.mac(k.key[:], k.sum[:], info, []byte{counter})
			out = append(out, k.sum[:min(size-len(out), len(k.sum))]...)
		}
	})
	return out
}

// mac sets sum to the HMAC (RFC 2104) of the parts. A missing key is a key of
// zeros, in HMAC and in HKDF alike.
func (k *kdf) mac(key []byte, parts ...[]byte) {
	k.keyed(k.inner, 0x36, key)
	for _, part := range parts {
		k.inner.Write(part)
	}
	k.inner.Sum(k.sum[:0])

	k.keyed(k.outer, 0x5c, key)
	k.outer.Write(k.sum[:])
	k.outer.Sum(k.sum[:0])
}

func (k *kdf) keyed(h hash.Hash, pad byte, key []byte) {
	clear(k.pad[:])
	copy(k.pad[:], key)
	for i := range k.pad {
		k.pad[i] ^= pad
	}
	h.Reset()
	h.Write(k.pad[:])
}

// wipe overwrites all that saw the secret. A hash has no method for that, and
// Reset leaves its block buffer as it was; so it hashes zeros instead, in two
// halves, because a whole block would pass the buffer by. Summing that puts it
// where the last Sum had the derived key, on the stack.
func (k *kdf) wipe() {
	wipe(k.key[:])
	wipe(k.pad[:])
	for _, h := range []hash.Hash{k.inner, k.outer} {
		h.Reset()
		h.Write(k.pad[:sha256.BlockSize/2])
		h.Write(k.pad[sha256.BlockSize/2:])
		h.Sum(k.sum[:0])
	}
	wipe(k.sum[:])
}
