package keyring

import (
	"crypto/ecdh"
	"crypto/rand"
	"errors"
)

// AgreementKey is an X25519 private key held in locked memory. It is safe for
// concurrent use. It prints as the fingerprint of its public key.
type AgreementKey struct {
	nameplate
	memory locked
	public [32]byte
}

// NewAgreementKey makes a key from fresh randomness. The error is
// ErrLockedMemory.
func NewAgreementKey() (*AgreementKey, error) {
	return newAgreementKey(func(raw []byte) error {
		_, err := rand.Read(raw)
		return err
	})
}

func newAgreementKey(fill func(raw []byte) error) (*AgreementKey, error) {
	memory, err := newLocked(seedSize)
	if err != nil {
		return nil, err
	}
	k := &AgreementKey{memory: memory}
	err = memory.fill(func(raw []byte) (err error) {
		if err := fill(raw); err != nil {
			return err
		}
		erasing(func() {
			var private *ecdh.PrivateKey
			if private, err = ecdh.X25519().NewPrivateKey(raw); err == nil {
				k.public = [32]byte(private.PublicKey().Bytes())
			}
		})
		k.text = fingerprint("secgossip/1 agreement key", k.public[:])
		return err
	})
	if err != nil {
		return nil, err
	}
	return k, nil
}

// Public returns the public key.
func (k *AgreementKey) Public() [32]byte { return k.public }

// Agree returns the 32 bytes that only this key and the holder of peer's private
// key can compute. They are secret, and the caller's to wipe. A peer key of low
// order, for which everybody could compute them, is an error; so is a destroyed
// key, ErrDestroyed.
func (k *AgreementKey) Agree(peer [32]byte) ([]byte, error) {
	shared := make([]byte, 32)
	err := k.memory.use(func(raw []byte) (err error) {
		erasing(func() { err = agree(shared, raw, peer) })
		return err
	})
	if err != nil {
		return nil, err
	}
	return shared, nil
}

func agree(shared, raw []byte, peer [32]byte) error {
	private, err := ecdh.X25519().NewPrivateKey(raw)
	if err != nil {
		return err
	}
	public, err := ecdh.X25519().NewPublicKey(peer[:])
	if err != nil {
		return err
	}
	agreed, err := private.ECDH(public)
	if err != nil {
		return errors.New("agreement: the peer's key is of low order")
	}
	copy(shared, agreed)
	wipe(agreed)
	return nil
}

// Fingerprint names the key for people: 8 hexadecimal digits of a hash of its
// public key.
func (k *AgreementKey) Fingerprint() string { return k.String() }

// Destroy wipes the key. Doing it twice, or to nil, is harmless.
func (k *AgreementKey) Destroy() {
	if k != nil {
		k.memory.destroy()
	}
}

// pem returns the key as PKCS #8 in PEM, in locked memory.
func (k *AgreementKey) pem() (locked, error) { return encodePEM(k.memory, agreementPrefix) }

// parseAgreementKey reads what pem writes.
func parseAgreementKey(text []byte) (*AgreementKey, error) {
	return newAgreementKey(func(raw []byte) error { return decodePEM(raw, text, agreementPrefix) })
}

// StoreAgreementKey writes k sealed with l to path, which must not exist. Its
// plaintext is PKCS #8 in PEM. The errors are those of Locker.WriteFile.
func StoreAgreementKey(path string, l *Locker, k *AgreementKey) error {
	return storePEM(path, l, k.pem)
}

// LoadAgreementKey reads what StoreAgreementKey wrote. The errors are those of
// Locker.ReadFile, and ErrForeign when the file holds something else.
func LoadAgreementKey(path string, l *Locker) (*AgreementKey, error) {
	return loadPEM(path, l, parseAgreementKey)
}
