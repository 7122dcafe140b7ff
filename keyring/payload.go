package keyring

import (
	"bytes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"
)

// An age file is a header, which age wraps the key of the file in, a nonce of 16
// bytes, and the payload in chunks of 64 KiB. The header is left to age. The
// payload is sealed and opened here: age's own reader and writer keep a copy of
// the plaintext in buffers of 64 KiB that nobody can reach to wipe, and a secret
// that was read at the start of an agent would outlive its retirement there.
//
// A payload of one chunk is little code (https://c2sp.org/age, "Payload"):
//
//	key     = HKDF-SHA256(input: file key, salt: nonce, info: "payload")
//	payload = ChaCha20-Poly1305(key, nonce: 11 zero bytes, 1, plaintext)
//
// So larger files, which nobody here writes, are refused.
const (
	maxPlaintext  = 64 << 10
	headerNonce   = 16
	payloadLabel  = "payload"
	ageIntro      = "age-encryption.org/v1\n"
	ageAnyVersion = "age-encryption.org/"
)

// payloadNonce is that of the first chunk when it is also the last.
var payloadNonce = [chacha20poly1305.NonceSize]byte{chacha20poly1305.NonceSize - 1: 1}

// tap is an age recipient that remembers the key of the file it wraps.
type tap struct {
	recipient age.Recipient
	fileKey   []byte
}

func (t *tap) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	stanzas, _, err := t.WrapWithLabels(fileKey)
	return stanzas, err
}

func (t *tap) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	t.fileKey = fileKey // age's own slice, so that wiping it wipes age's
	if labelled, ok := t.recipient.(age.RecipientWithLabels); ok {
		return labelled.WrapWithLabels(fileKey)
	}
	stanzas, err := t.recipient.Wrap(fileKey)
	return stanzas, nil, err
}

// sealAge returns plaintext as an age file for recipient.
func sealAge(recipient age.Recipient, plaintext []byte) ([]byte, error) {
	if len(plaintext) < 1 || len(plaintext) > maxPlaintext {
		return nil, fmt.Errorf("sealing %d bytes: %w", len(plaintext), ErrSize)
	}
	t := &tap{recipient: recipient}
	defer func() { wipe(t.fileKey) }()
	var head bytes.Buffer
	if _, err := age.Encrypt(&head, t); err != nil { // it writes header and nonce; its writer is not used
		return nil, fmt.Errorf("sealing: %w", err)
	}
	raw := head.Bytes()
	aead, err := payloadCipher(t.fileKey, raw[len(raw)-headerNonce:])
	if err != nil {
		return nil, err
	}
	return aead.Seal(raw, payloadNonce[:], plaintext, nil), nil
}

// openAge returns the plaintext of an age file of one chunk, in locked memory.
// The errors are ErrForeign, ErrNewer, ErrWrongKey, ErrDamaged, ErrTooLarge and
// ErrLockedMemory. age's own texts quote what they could not parse, which may be
// a secret in the wrong file; so none of them is passed on.
func openAge(identity age.Identity, raw []byte) (locked, error) {
	if !bytes.HasPrefix(raw, []byte(ageIntro)) {
		return locked{}, notAge(raw)
	}
	header, err := age.ExtractHeader(bytes.NewReader(raw))
	if errors.Is(err, io.EOF) {
		return locked{}, fmt.Errorf("%w: it is truncated", ErrDamaged)
	}
	if err != nil || !bytes.HasPrefix(raw, header) { // age parses one encoding only, and writes that
		return locked{}, fmt.Errorf("%w: its header does not read", ErrDamaged)
	}
	payload := raw[len(header):]
	switch {
	case len(payload) <= headerNonce+chacha20poly1305.Overhead:
		return locked{}, fmt.Errorf("%w: it is truncated", ErrDamaged)
	case len(payload) > headerNonce+maxPlaintext+chacha20poly1305.Overhead:
		return locked{}, fmt.Errorf("%w: more than %d bytes are sealed in it", ErrTooLarge, maxPlaintext)
	}
	fileKey, err := age.DecryptHeader(header, identity)
	var noMatch *age.NoIdentityMatchError
	if errors.As(err, &noMatch) {
		return locked{}, fmt.Errorf("%w; it is sealed with %s", ErrWrongKey, sealedWith(noMatch.StanzaTypes))
	}
	if err != nil {
		return locked{}, fmt.Errorf("%w: its header was altered", ErrDamaged)
	}
	defer wipe(fileKey)
	aead, err := payloadCipher(fileKey, payload[:headerNonce])
	if err != nil {
		return locked{}, err
	}
	payload = payload[headerNonce:]
	plaintext, err := newLocked(len(payload) - chacha20poly1305.Overhead)
	if err != nil {
		return locked{}, err
	}
	if _, err := aead.Open(plaintext.buffer.Bytes()[:0], payloadNonce[:], payload, nil); err != nil {
		plaintext.destroy()
		return locked{}, fmt.Errorf("%w: it was truncated or altered after it was sealed", ErrDamaged)
	}
	return plaintext, nil
}

func payloadCipher(fileKey, nonce []byte) (cipher.AEAD, error) {
	key := derive(nonce, []byte(payloadLabel), chacha20poly1305.KeySize, fileKey)
	defer wipe(key)
	return chacha20poly1305.New(key)
}

// notAge says why raw is not one of our sealed files.
func notAge(raw []byte) error {
	switch {
	case len(raw) == 0:
		return fmt.Errorf("%w: it is empty", ErrDamaged)
	case bytes.HasPrefix([]byte(ageIntro), raw):
		return fmt.Errorf("%w: it is truncated", ErrDamaged)
	case bytes.HasPrefix(raw, []byte(ageAnyVersion)):
		return fmt.Errorf("%w: its age format is not version 1", ErrNewer)
	}
	return fmt.Errorf("%w: it is not a sealed file (binary age)", ErrForeign)
}

// sealedWith says in our words what a header claims to be sealed with.
func sealedWith(stanzas []string) string {
	switch {
	case slices.Contains(stanzas, "scrypt"):
		return "a passphrase"
	case slices.Contains(stanzas, "mlkem768x25519"):
		return "a machine key or another post-quantum age identity"
	case slices.Contains(stanzas, "X25519"):
		return "a classic age identity (X25519)"
	}
	return "a key of another kind"
}
