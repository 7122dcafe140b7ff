package keyring

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
)

// A private key at rest is PKCS #8 (RFC 8410, section 7) in PEM. For both kinds
// of key that is a constant of 16 bytes and 32 bytes of key, and 119 bytes of
// text in all: so it is put together here, in locked memory, and not by
// crypto/x509, which would work in the heap and pull in the network.
const (
	signingPrefix   = "\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"
	agreementPrefix = "\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x6e\x04\x22\x04\x20"

	pemType   = "PRIVATE KEY"
	pemHeader = "-----BEGIN " + pemType + "-----\n"
	pemFooter = "\n-----END " + pemType + "-----\n"

	seedSize = 32
	derSize  = len(signingPrefix) + seedSize
	pemSize  = len(pemHeader) + derSize/3*4 + len(pemFooter)
)

// encodePEM returns pemSize bytes of text, in locked memory, for the key whose
// first 32 bytes private holds.
func encodePEM(private locked, prefix string) (locked, error) {
	der, err := newLocked(derSize)
	if err != nil {
		return locked{}, err
	}
	defer der.destroy()
	text, err := newLocked(pemSize)
	if err != nil {
		return locked{}, err
	}
	copy(der.buffer.Bytes(), prefix)
	if err := private.use(func(raw []byte) error {
		copy(der.buffer.Bytes()[len(prefix):], raw[:seedSize])
		return nil
	}); err != nil {
		text.destroy()
		return locked{}, err
	}
	out := text.buffer.Bytes()
	copy(out, pemHeader)
	base64.StdEncoding.Encode(out[len(pemHeader):], der.buffer.Bytes())
	copy(out[pemSize-len(pemFooter):], pemFooter)
	return text, nil
}

// decodePEM sets seed to the 32 bytes of key in text. The errors are ErrForeign,
// for anything that is not one PKCS #8 key of the kind that prefix says, and
// ErrDamaged. They say nothing of what is there instead.
func decodePEM(seed, text []byte, prefix string) error {
	block, rest := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("%w: it holds no PEM block", ErrForeign)
	}
	defer wipe(block.Bytes)
	switch {
	case block.Type != pemType || len(block.Headers) != 0:
		return fmt.Errorf("%w: it does not hold a plain PKCS #8 private key", ErrForeign)
	case len(bytes.TrimSpace(rest)) != 0:
		return fmt.Errorf("%w: it holds more than one private key", ErrForeign)
	case len(block.Bytes) != derSize:
		return fmt.Errorf("%w: it does not hold %s", ErrForeign, kindOfKey(prefix))
	case !bytes.HasPrefix(block.Bytes, []byte(prefix)):
		return fmt.Errorf("%w: it does not hold %s", ErrForeign, kindOfKey(prefix))
	}
	copy(seed, block.Bytes[len(prefix):])
	return nil
}

func kindOfKey(prefix string) string {
	if prefix == signingPrefix {
		return "an Ed25519 key"
	}
	return "an X25519 key"
}

func storePEM(path string, l *Locker, encode func() (locked, error)) error {
	text, err := encode()
	if err != nil {
		return err
	}
	defer text.destroy()
	return l.WriteFile(path, text.buffer.Bytes())
}

func loadPEM[K any](path string, l *Locker, parse func([]byte) (*K, error)) (*K, error) {
	text, err := l.ReadFile(path)
	if err != nil {
		return nil, err
	}
	defer text.Destroy()
	key, err := parse(text.Bytes())
	if err != nil {
		return nil, named(path, err)
	}
	return key, nil
}

// WriteClientKeyFile writes a client's key to path, which must not exist, as
// ordinary PKCS #8 PEM, 0600 and not sealed: operators give the file to curl.
func WriteClientKeyFile(path string, k *SigningKey) error {
	text, err := k.pem()
	if err != nil {
		return err
	}
	defer text.destroy()
	return writeNew(path, text.buffer.Bytes())
}

// ReadClientKeyFile reads a client's key as WriteClientKeyFile or "openssl
// genpkey -algorithm ed25519" writes it. The errors are those of
// CheckSecretFile, ErrTooLarge and ErrForeign.
func ReadClientKeyFile(path string) (*SigningKey, error) {
	text, err := readLocked(path, checkSecret)
	if err != nil {
		return nil, err
	}
	defer text.destroy()
	key, err := parseSigningKey(text.buffer.Bytes())
	if err != nil {
		return nil, named(path, err)
	}
	return key, nil
}
