package pki

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
)

// credentialLabel is the purpose in a credential's signature context.
const credentialLabel = "secgossip/1 credential"

// MaxCredential is the longest credential in bytes. With 63-byte names and four
// roles one has 429; what is longer is refused unread.
const MaxCredential = 512

// Credential is a certificate small enough for a packet: what an authority says
// about a node or a client. It is a value that has been verified; nobody may
// change it.
type Credential struct {
	Cluster      Name
	Name         Name
	Kind         Kind
	Roles        []Role            // sorted; empty for a client
	SigningKey   ed25519.PublicKey // 32 bytes
	AgreementKey [32]byte          // X25519; zero for a client
	NotBefore    time.Time         // whole seconds, UTC
	NotAfter     time.Time
	ID           [16]byte // random

	signer cose.KeyID // who vouches for it
}

// claims is the credential as a CWT (RFC 8392). Negative numbers below -65536
// are private use and these are ours: -65537 is the Kind, -65538 the roles.
// Numbers are seconds since 1970. The cluster id is not among the claims; it is
// in the signature's context.
type claims struct {
	Issuer       string       `cbor:"1,keyasint"` // iss: the cluster's name
	Subject      string       `cbor:"2,keyasint"` // sub: the name
	Expires      int64        `cbor:"4,keyasint"` // exp
	NotBefore    int64        `cbor:"5,keyasint"` // nbf
	ID           []byte       `cbor:"7,keyasint"` // cti: 16 bytes
	Confirmation confirmation `cbor:"8,keyasint"` // cnf
	Kind         uint8        `cbor:"-65537,keyasint"`
	Roles        []string     `cbor:"-65538,keyasint,omitempty"`
}

// confirmation is a cnf claim (RFC 8747, section 3.1). Member 1 is the key whose
// possession is proven, as there. That RFC has room for one key, so the
// agreement key is a private member of the same shape.
type confirmation struct {
	Signing   coseKey  `cbor:"1,keyasint"`
	Agreement *coseKey `cbor:"-65537,keyasint,omitempty"`
}

// coseKey is a COSE_Key of type OKP (RFC 9053, section 7.2).
type coseKey struct {
	Type  int    `cbor:"1,keyasint"`  // kty
	Curve int    `cbor:"-1,keyasint"` // crv
	X     []byte `cbor:"-2,keyasint"` // x: 32 bytes
}

// Registered numbers: RFC 9053, tables 17 and 18.
const (
	keyTypeOKP   = 1
	curveX25519  = 4
	curveEd25519 = 6
)

// maxTime is the end of the year 9999, the last that X.509 can write.
const maxTime = 253402300799

// HasRole reports whether the credential gives role.
func (c *Credential) HasRole(role Role) bool { return slices.Contains(c.Roles, role) }

// Matches reports whether the credential and a certificate are about the same
// identity. A credential that came over a connection counts only if it matches
// that connection's certificate; otherwise anybody could offer anybody's. The
// error wraps ErrMismatch.
func (c *Credential) Matches(id Identity) error {
	if c.Cluster != id.Cluster || c.Kind != id.Kind || c.Name != id.Name {
		return fmt.Errorf("%w: a credential of %s %q beside a certificate of %s %q", ErrMismatch, c.Kind, c.Name, id.Kind, id.Name)
	}
	if !bytes.Equal(c.SigningKey, id.Key) {
		return fmt.Errorf("%w: the credential and the certificate of %s %q hold different keys", ErrMismatch, c.Kind, c.Name)
	}
	return nil
}

// VerifyCredential verifies and reads a credential. Errors wrap ErrProfile,
// ErrUnknownSigner, cose.ErrSignature, ErrForeign, ErrExpired, ErrNotYetValid or
// ErrRevoked.
func (t *Trust) VerifyCredential(raw []byte, now time.Time) (*Credential, error) {
	c, err := t.VerifyFormer(raw, now)
	if err != nil {
		return nil, err
	}
	if err := t.Recheck(c, now); err != nil {
		return nil, err
	}
	return c, nil
}

// VerifyFormer is VerifyCredential for what its holder said in the past: it does
// not ask whether the identity was revoked since.
func (t *Trust) VerifyFormer(raw []byte, then time.Time) (*Credential, error) {
	if len(raw) > MaxCredential {
		return nil, fmt.Errorf("credential %w: %d bytes, the limit is %d", ErrProfile, len(raw), MaxCredential)
	}
	message, err := cose.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("credential %w: %w", ErrProfile, err)
	}
	// A credential may name an end behind its signer's. It ends with the signer
	// all the same, because the signer must be valid now.
	key, err := t.signer(message.KeyID, then)
	if err != nil {
		return nil, fmt.Errorf("credential: %w", err)
	}
	if err := message.Verify(key, cose.Context(credentialLabel, t.cluster)); err != nil {
		return nil, fmt.Errorf("credential: %w", err)
	}
	c, err := t.read(message)
	if err != nil {
		return nil, err
	}
	if err := CheckTime(c.NotBefore, c.NotAfter, then); err != nil {
		return nil, fmt.Errorf("credential of %s %q %w", c.Kind, c.Name, err)
	}
	return c, nil
}

// ReadVerified reads a credential that this host has verified and kept: its signer
// may be one that is unknown, or has ended, by now. What comes from anybody else is
// for VerifyCredential. Errors wrap ErrProfile or ErrForeign.
func (t *Trust) ReadVerified(raw []byte) (*Credential, error) {
	if len(raw) > MaxCredential {
		return nil, fmt.Errorf("credential %w: %d bytes, the limit is %d", ErrProfile, len(raw), MaxCredential)
	}
	message, err := cose.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("credential %w: %w", ErrProfile, err)
	}
	return t.read(message)
}

// read reads the claims of a message whose signature is no question any more.
func (t *Trust) read(message cose.Message) (*Credential, error) {
	c, err := parseClaims(message.Payload)
	if err != nil {
		return nil, fmt.Errorf("credential %w: %w", ErrProfile, err)
	}
	if c.Cluster != t.name {
		return nil, fmt.Errorf("credential of %s %q is %w: it is of cluster %q", c.Kind, c.Name, ErrForeign, c.Cluster)
	}
	c.signer = message.KeyID
	return c, nil
}

// ClaimedKey is the signing key that a credential names. Nothing is verified: it tells
// what a statement beside it was signed with, and whether to believe that is another
// question. The error wraps ErrProfile.
func ClaimedKey(raw []byte) (ed25519.PublicKey, error) {
	message, err := cose.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("credential %w: %w", ErrProfile, err)
	}
	c, err := parseClaims(message.Payload)
	if err != nil {
		return nil, fmt.Errorf("credential %w: %w", ErrProfile, err)
	}
	return c.SigningKey, nil
}

// Recheck says whether a credential that was verified once still holds: its time
// goes by, its signer's too, and either may be revoked or forgotten meanwhile. It
// costs no signature. Errors are those of VerifyCredential.
func (t *Trust) Recheck(c *Credential, now time.Time) error {
	err := CheckTime(c.NotBefore, c.NotAfter, now)
	if err == nil {
		_, err = t.signer(c.signer, now)
	}
	if err == nil {
		err = t.CheckRevoked(c.Kind, c.Name, c.SigningKey, c.NotBefore)
	}
	if err != nil {
		return fmt.Errorf("credential of %s %q %w", c.Kind, c.Name, err)
	}
	return nil
}

// sign writes the credential.
func (c *Credential) sign(key crypto.Signer, cluster ClusterID) ([]byte, error) {
	payload, err := c.appendClaims(nil)
	if err != nil {
		return nil, err
	}
	return cose.Sign(key, cose.Context(credentialLabel, cluster), payload)
}

// newCredentialID draws an id that is never drawn again.
func newCredentialID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // documented never to fail
	return id
}

// appendClaims appends the only encoding of c's claims to out.
func (c *Credential) appendClaims(out []byte) ([]byte, error) {
	raw := claims{
		Issuer:       string(c.Cluster),
		Subject:      string(c.Name),
		Expires:      c.NotAfter.Unix(),
		NotBefore:    c.NotBefore.Unix(),
		ID:           c.ID[:],
		Confirmation: confirmation{Signing: coseKey{keyTypeOKP, curveEd25519, c.SigningKey}},
		Kind:         uint8(c.Kind),
	}
	if c.Kind == KindNode {
		raw.Confirmation.Agreement = &coseKey{keyTypeOKP, curveX25519, c.AgreementKey[:]}
	}
	for _, role := range c.Roles {
		raw.Roles = append(raw.Roles, string(role))
	}
	encoded, err := cose.Marshal(raw)
	if err != nil {
		return nil, fmt.Errorf("encoding a credential: %w", err)
	}
	return append(out, encoded...), nil
}

// parseClaims reads what appendClaims writes and nothing else.
func parseClaims(payload []byte) (*Credential, error) {
	var raw claims
	if err := cose.Unmarshal(payload, &raw); err != nil {
		return nil, err
	}
	c := &Credential{Kind: Kind(raw.Kind)}
	var err error
	if c.Cluster, err = ParseName(raw.Issuer); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if c.Name, err = ParseName(raw.Subject); err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	if raw.NotBefore < 0 || raw.NotBefore >= raw.Expires || raw.Expires > maxTime {
		return nil, errors.New("its times are out of order or out of range")
	}
	c.NotBefore, c.NotAfter = time.Unix(raw.NotBefore, 0).UTC(), time.Unix(raw.Expires, 0).UTC()
	if len(raw.ID) != len(c.ID) {
		return nil, fmt.Errorf("an id of %d bytes, want %d", len(raw.ID), len(c.ID))
	}
	c.ID = [16]byte(raw.ID)
	if c.SigningKey, err = raw.Confirmation.Signing.bytes(curveEd25519); err != nil {
		return nil, err
	}
	if err := checkSigningKey(c.SigningKey); err != nil {
		return nil, err
	}
	if err := c.parseKind(raw); err != nil {
		return nil, err
	}
	return c, nil
}

// parseKind reads what only a node has: an agreement key and roles.
func (c *Credential) parseKind(raw claims) error {
	switch c.Kind {
	case KindClient:
		if raw.Confirmation.Agreement != nil || len(raw.Roles) > 0 {
			return errors.New("a client has an agreement key or a role")
		}
		return nil
	case KindNode:
		if raw.Confirmation.Agreement == nil {
			return errors.New("a node has no agreement key")
		}
		key, err := raw.Confirmation.Agreement.bytes(curveX25519)
		if err != nil {
			return err
		}
		c.AgreementKey = [32]byte(key)
		for _, role := range raw.Roles {
			c.Roles = append(c.Roles, Role(role))
		}
		if err := checkAgreementKey(c.AgreementKey); err != nil {
			return err
		}
		return checkRoles(c.Roles)
	}
	return fmt.Errorf("unknown %s", c.Kind)
}

func (k coseKey) bytes(curve int) ([]byte, error) {
	if k.Type != keyTypeOKP || k.Curve != curve || len(k.X) != 32 {
		return nil, fmt.Errorf("a key is not 32 bytes of type %d on curve %d", keyTypeOKP, curve)
	}
	return k.X, nil
}
