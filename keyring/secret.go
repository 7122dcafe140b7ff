package keyring

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
)

// SecretSize is the length of a secret in bytes.
const SecretSize = 32

// What the package itself derives from a secret. No caller may use these labels.
const (
	commitmentLabel  = "secgossip/1 commitment"
	fingerprintLabel = "secgossip/1 fingerprint"
)

// Secret is SecretSize random bytes, held in locked memory, from which keys are
// derived. It is safe for concurrent use. It prints as its fingerprint.
type Secret struct {
	nameplate
	memory     locked
	commitment [32]byte
}

// NewSecret makes a secret from fresh randomness. The error is ErrLockedMemory.
func NewSecret() (*Secret, error) {
	return newSecret(func(raw []byte) error {
		_, err := rand.Read(raw)
		return err
	})
}

// SecretFrom takes over raw, which must be SecretSize bytes, and wipes it, also
// when it fails. The errors are ErrSize and ErrLockedMemory.
func SecretFrom(raw []byte) (*Secret, error) {
	defer wipe(raw)
	return copySecret(raw)
}

// copySecret is SecretFrom for bytes that somebody else will wipe.
func copySecret(raw []byte) (*Secret, error) {
	if len(raw) != SecretSize {
		return nil, fmt.Errorf("a secret of %d bytes: %w", len(raw), ErrSize)
	}
	return newSecret(func(memory []byte) error {
		copy(memory, raw)
		return nil
	})
}

func newSecret(fill func(raw []byte) error) (*Secret, error) {
	memory, err := newLocked(SecretSize)
	if err != nil {
		return nil, err
	}
	s := &Secret{memory: memory}
	err = memory.fill(func(raw []byte) error {
		if err := fill(raw); err != nil {
			return err
		}
		// The commitment is public, and kept so that a destroyed secret still has
		// its name.
		s.commitment = [32]byte(derive(nil, []byte(commitmentLabel), len(s.commitment), raw))
		s.text = fingerprint(fingerprintLabel, s.commitment[:])
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Derive returns size bytes of key: HKDF-SHA256 with prefix || secret as the
// input, no salt, and info. prefix is another secret that both sides have, such
// as an agreement, or nil; info says what the key is for. The key is the
// caller's to wipe. The errors are ErrDestroyed and ErrSize (size is not between
// 1 and 8,160).
func (s *Secret) Derive(prefix, info []byte, size int) ([]byte, error) {
	if size < 1 || size > maxDerived {
		return nil, fmt.Errorf("deriving %d bytes: %w", size, ErrSize)
	}
	var key []byte
	err := s.use(func(raw []byte) error {
		key = derive(nil, info, size, prefix, raw)
		return nil
	})
	return key, err
}

// Commitment says which secret this is without giving anything of it away. Two
// secrets are equal when their commitments are. It outlives Destroy; a nil
// secret's is zero.
func (s *Secret) Commitment() [32]byte {
	if s == nil {
		return [32]byte{}
	}
	return s.commitment
}

// WriteTo writes the SecretSize bytes of the secret itself. It is the one way by
// which they leave this package unsealed, and has one lawful destination: a TLS
// stream to a member whose certificate, credential and standing have just been
// checked. A writer that blocks does not hold up Destroy.
func (s *Secret) WriteTo(w io.Writer) (int64, error) {
	raw := make([]byte, 0, SecretSize)
	raw, err := s.appendTo(raw)
	if err != nil {
		return 0, err
	}
	defer wipe(raw)
	n, err := w.Write(raw)
	return int64(n), err
}

// appendTo appends the secret's bytes to dst, which must have room for them.
func (s *Secret) appendTo(dst []byte) ([]byte, error) {
	err := s.use(func(raw []byte) error {
		dst = append(dst, raw...)
		return nil
	})
	return dst, err
}

// Fingerprint names the secret for people: 8 hexadecimal digits of a hash of its
// commitment. It outlives Destroy; a nil secret's is "none".
func (s *Secret) Fingerprint() string {
	if s == nil {
		return nameplate{}.String()
	}
	return s.String()
}

// Destroy wipes the secret. Doing it twice, or to nil, is harmless.
func (s *Secret) Destroy() {
	if s != nil {
		s.memory.destroy()
	}
}

func (s *Secret) use(f func(raw []byte) error) error {
	if s == nil {
		return ErrDestroyed
	}
	return s.memory.use(f)
}

// fingerprint is the first 4 bytes of SHA-256(label || 0 || public), in hex:
// enough to tell a handful of keys apart at a glance, and nothing is decided by
// it.
func fingerprint(label string, public []byte) string {
	sum := sha256.Sum256(append([]byte(label+"\x00"), public...))
	return hex.EncodeToString(sum[:4])
}
