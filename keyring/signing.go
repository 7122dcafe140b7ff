package keyring

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"slices"
)

// SigningKey is an Ed25519 private key held in locked memory. It implements
// crypto.Signer, so certificates, TLS and COSE sign with it without seeing it.
// It is safe for concurrent use. It prints as the fingerprint of its public key.
type SigningKey struct {
	nameplate
	memory locked // seed || public key, as crypto/ed25519 has it
	public ed25519.PublicKey
}

// NewSigningKey makes a key from fresh randomness. The error is ErrLockedMemory.
func NewSigningKey() (*SigningKey, error) {
	return newSigningKey(func(seed []byte) error {
		_, err := rand.Read(seed)
		return err
	})
}

func newSigningKey(fill func(seed []byte) error) (*SigningKey, error) {
	memory, err := newLocked(ed25519.PrivateKeySize)
	if err != nil {
		return nil, err
	}
	k := &SigningKey{memory: memory}
	err = memory.fill(func(raw []byte) error {
		if err := fill(raw[:ed25519.SeedSize]); err != nil {
			return err
		}
		erasing(func() {
			expanded := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
			copy(raw[ed25519.SeedSize:], expanded[ed25519.SeedSize:])
			wipe(expanded)
		})
		k.public = bytes.Clone(raw[ed25519.SeedSize:])
		k.text = fingerprint("secgossip/1 signing key", k.public)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return k, nil
}

// Public returns the public key, an ed25519.PublicKey.
func (k *SigningKey) Public() crypto.PublicKey { return slices.Clone(k.public) }

// Sign signs message, which must not be hashed; opts is nil or crypto.Hash(0).
// The reader is ignored: Ed25519 needs no randomness. The error is ErrDestroyed,
// or that opts asks for a variant (Ed25519ph, Ed25519ctx) that nothing here uses.
func (k *SigningKey) Sign(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts != nil && opts != crypto.Hash(0) {
		return nil, errors.New("signing: only plain Ed25519 is supported")
	}
	signature := make([]byte, ed25519.SignatureSize)
	err := k.memory.use(func(raw []byte) error {
		erasing(func() {
			// crypto/ed25519 remembers what it expands from a key under the key's
			// address, by a weak pointer. For memory outside the Go heap, which raw
			// is, the runtime ends the process there. The copy is the remedy, and the
			// package comment says what becomes of it.
			private := bytes.Clone(raw)
			copy(signature, ed25519.Sign(private, message))
			wipe(private)
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return signature, nil
}

// Fingerprint names the key for people: 8 hexadecimal digits of a hash of its
// public key.
func (k *SigningKey) Fingerprint() string { return k.String() }

// Destroy wipes the key. Doing it twice, or to nil, is harmless.
func (k *SigningKey) Destroy() {
	if k != nil {
		k.memory.destroy()
	}
}

// pem returns the key as PKCS #8 in PEM, in locked memory.
func (k *SigningKey) pem() (locked, error) { return encodePEM(k.memory, signingPrefix) }

// parseSigningKey reads what pem writes.
func parseSigningKey(text []byte) (*SigningKey, error) {
	return newSigningKey(func(seed []byte) error { return decodePEM(seed, text, signingPrefix) })
}

// StoreSigningKey writes k sealed with l to path, which must not exist. Its
// plaintext is PKCS #8 in PEM. The root's key is stored like any other, with a
// PassphraseLocker. The errors are those of Locker.WriteFile.
func StoreSigningKey(path string, l *Locker, k *SigningKey) error {
	return storePEM(path, l, k.pem)
}

// LoadSigningKey reads what StoreSigningKey wrote. The errors are those of
// Locker.ReadFile, and ErrForeign when the file holds something else.
func LoadSigningKey(path string, l *Locker) (*SigningKey, error) {
	return loadPEM(path, l, parseSigningKey)
}
