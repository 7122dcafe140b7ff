package rpcauth

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
	"github.com/secgossip/secgossip/pki"
)

// tokenLabel is what a token's signature is for.
const tokenLabel = "secgossip/1 token"

const (
	// DefaultTokenLife is a client certificate's: one renewal covers both.
	DefaultTokenLife = pki.ClientLife

	tokenPrefix = "sgt_"
	// maxTokenText bounds what is decoded for a caller who has proved nothing
	// yet. A token with a dozen grants has about 500 characters.
	maxTokenText = 2048
	// maxTokenSize is what the text form holds: 3 bytes in 4 characters.
	maxTokenSize = (maxTokenText - len(tokenPrefix)) * 3 / 4

	// maxSeconds is the end of the year 9999: beyond it times do not print.
	maxSeconds = 253402300799
)

// Token is a verified token. It is shared between calls: do not change it.
type Token struct {
	Subject   pki.Name
	Key       ed25519.PublicKey // the client's, 32 bytes
	Grants    []Grant           // ascending, each once
	NotBefore time.Time         // whole seconds, UTC
	NotAfter  time.Time
	ID        [16]byte
}

// IDText is the id as operators read and type it: 32 hexadecimal digits.
func (t *Token) IDText() string { return hex.EncodeToString(t.ID[:]) }

// Require returns nil if the token allows need, else a *GrantError.
func (t *Token) Require(need Grant) error {
	if allowed(t.Grants, need) {
		return nil
	}
	return &GrantError{Subject: t.Subject, Need: []Grant{need}, Have: t.Grants}
}

// claims is the encoded form; the package comment explains the numbers.
type claims struct {
	Subject   string       `cbor:"2,keyasint"`
	Expires   uint64       `cbor:"4,keyasint"`
	NotBefore uint64       `cbor:"5,keyasint"`
	ID        []byte       `cbor:"7,keyasint"`
	Confirm   confirmation `cbor:"8,keyasint"`
	Grants    []Grant      `cbor:"-65539,keyasint"`
}

// confirmation is the proof-of-possession claim of RFC 8747, section 3.2.
type confirmation struct {
	Key okpKey `cbor:"1,keyasint"`
}

// okpKey is a COSE_Key (RFC 9053, section 7.2) that holds an Ed25519 key.
type okpKey struct {
	Type  int    `cbor:"1,keyasint"`
	Curve int    `cbor:"-1,keyasint"`
	X     []byte `cbor:"-2,keyasint"`
}

const (
	keyTypeOKP   = 1
	curveEd25519 = 6
)

// TokenRequest says what a token is to hold.
type TokenRequest struct {
	Subject pki.Name
	Key     ed25519.PublicKey
	Grants  []Grant       // at least one; order and repetition do not matter
	Life    time.Duration // zero for DefaultTokenLife
}

// Mint signs a token with a's key. A token never outlives a's certificate: a
// longer life is cut short; InspectToken shows what came out.
func Mint(a *pki.Authority, req TokenRequest, now time.Time) (text string, raw []byte, err error) {
	if _, err := pki.ParseName(string(req.Subject)); err != nil {
		return "", nil, err
	}
	if len(req.Key) != ed25519.PublicKeySize {
		return "", nil, fmt.Errorf("a token is bound to an Ed25519 key, not to %d bytes", len(req.Key))
	}
	grants, err := ParseGrants(req.Grants)
	if err != nil {
		return "", nil, err
	}
	life := req.Life
	if life == 0 {
		life = DefaultTokenLife
	}
	notBefore, notAfter, err := a.Validity(now, life)
	if err != nil {
		return "", nil, fmt.Errorf("token for %q: %w", req.Subject, err)
	}
	payload, err := cose.Marshal(claims{
		Subject:   string(req.Subject),
		Expires:   uint64(notAfter.Unix()),
		NotBefore: uint64(notBefore.Unix()),
		ID:        randomID(),
		Confirm:   confirmation{okpKey{keyTypeOKP, curveEd25519, req.Key}},
		Grants:    grants,
	})
	if err != nil {
		return "", nil, err
	}
	raw, err = cose.Sign(a.Signer(), cose.Context(tokenLabel, a.Trust().Cluster()), payload)
	if err != nil {
		return "", nil, err
	}
	if len(raw) > maxTokenSize {
		return "", nil, fmt.Errorf("a token of %d bytes: %d is the most; use globs or fewer grants", len(raw), maxTokenSize)
	}
	return TokenText(raw), raw, nil
}

// TokenText is the text form of a token's bytes.
func TokenText(raw []byte) string {
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(raw)
}

// ParseTokenText returns the bytes of a token's text form. They are not verified
// yet, not even read. The error never repeats the text.
func ParseTokenText(s string) ([]byte, error) {
	if len(s) > maxTokenText {
		return nil, fmt.Errorf("token of %d characters: %w", len(s), ErrMalformed)
	}
	body, ok := strings.CutPrefix(s, tokenPrefix)
	if !ok || body == "" {
		return nil, fmt.Errorf("a token begins with %q: %w", tokenPrefix, ErrMalformed)
	}
	raw, err := base64.RawURLEncoding.DecodeString(body)
	// The decoder skips line breaks and ignores spare bits in the last
	// character; writing the text again finds both.
	if err != nil || TokenText(raw) != s {
		return nil, fmt.Errorf("token is not base64url in its only form: %w", ErrMalformed)
	}
	return raw, nil
}

// InspectToken reads a token's claims and verifies nothing: for showing to the
// person who holds it, never for a decision.
func InspectToken(raw []byte) (*Token, error) {
	_, token, err := parseToken(raw)
	return token, err
}

// parseToken reads a token strictly. Nothing in it may be believed before the
// message's signature is verified.
func parseToken(raw []byte) (cose.Message, *Token, error) {
	if len(raw) > maxTokenSize {
		return cose.Message{}, nil, fmt.Errorf("token of %d bytes: %w", len(raw), ErrMalformed)
	}
	m, err := cose.Parse(raw)
	if err != nil {
		return cose.Message{}, nil, fmt.Errorf("token: %w: %w", ErrMalformed, err)
	}
	var c claims
	if err := cose.Unmarshal(m.Payload, &c); err != nil {
		return cose.Message{}, nil, fmt.Errorf("token: %w: %w", ErrMalformed, err)
	}
	if err := c.check(); err != nil {
		return cose.Message{}, nil, fmt.Errorf("token: %w: %w", ErrMalformed, err)
	}
	return m, &Token{
		Subject:   pki.Name(c.Subject),
		Key:       c.Confirm.Key.X,
		Grants:    c.Grants,
		NotBefore: time.Unix(int64(c.NotBefore), 0).UTC(),
		NotAfter:  time.Unix(int64(c.Expires), 0).UTC(),
		ID:        [16]byte(c.ID),
	}, nil
}

// check refuses claims that Mint would not have written.
func (c *claims) check() error {
	if _, err := pki.ParseName(c.Subject); err != nil {
		return err
	}
	if k := c.Confirm.Key; k.Type != keyTypeOKP || k.Curve != curveEd25519 || len(k.X) != ed25519.PublicKeySize {
		return errors.New("not bound to an Ed25519 key")
	}
	if len(c.ID) != 16 {
		return fmt.Errorf("id of %d bytes", len(c.ID))
	}
	if c.Expires > maxSeconds || c.NotBefore >= c.Expires {
		return errors.New("impossible times")
	}
	if len(c.Grants) == 0 || len(c.Grants) > MaxGrants {
		return fmt.Errorf("%d grants", len(c.Grants))
	}
	for i, g := range c.Grants {
		if _, err := ParseGrant(string(g)); err != nil {
			return err
		}
		if i > 0 && c.Grants[i-1] >= g {
			return errors.New("grants out of order")
		}
	}
	return nil
}

// checkTimes allows for clocks that are apart, at both ends.
func (t *Token) checkTimes(now time.Time) error {
	if err := pki.CheckTime(t.NotBefore, t.NotAfter, now); err != nil {
		return fmt.Errorf("token of %q: %w", t.Subject, err)
	}
	return nil
}

func randomID() []byte {
	id := make([]byte, 16)
	rand.Read(id) // never fails: crypto/rand ends the process instead
	return id
}
