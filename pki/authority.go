package pki

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
)

// Authority signs identities: the root, or an issuer that the root made. Its key
// may be any [crypto.Signer], in memory, in a file that is open for a moment or
// in a token. An Authority is safe for concurrent use if its key is.
type Authority struct {
	cert  *x509.Certificate
	who   subject
	key   crypto.Signer
	trust *Trust
}

// NewAuthority joins a certificate with its key. The certificate must be a root
// of trust or be signed by one, and the key must be its key. An issuer's
// certificate is not added to trust by this: AddIssuer does, and needs the time.
func NewAuthority(cert *x509.Certificate, key crypto.Signer, trust *Trust) (*Authority, error) {
	public, err := signingKeyOf(key)
	if err != nil {
		return nil, err
	}
	who := subject{trust.name, classRoot, trust.name}
	if !slices.ContainsFunc(trust.rootsNow().certs, cert.Equal) {
		if _, err := trust.rootsNow().verifyPath([]*x509.Certificate{cert}); err != nil {
			return nil, err
		}
		if who, err = trust.checkIssuer(cert); err != nil {
			return nil, err
		}
	}
	if !public.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%w: the key is not that of the certificate of %s", ErrMismatch, who)
	}
	return &Authority{cert: cert, who: who, key: key, trust: trust}, nil
}

// NodeRequest is what an authority may be asked to sign for a node. It has no
// room for more; from a certificate request only the key would be taken.
type NodeRequest struct {
	Name         Name
	SigningKey   ed25519.PublicKey // 32 bytes
	AgreementKey [32]byte          // X25519
	Roles        []Role
	Life         time.Duration // 0 is NodeLife; at least MinLife; cut to the authority's own
}

// ClientRequest is what an authority may be asked to sign for a client.
type ClientRequest struct {
	Name       Name
	SigningKey ed25519.PublicKey // 32 bytes
	Life       time.Duration     // 0 is ClientLife; at least MinLife; cut to the authority's own
}

// Issued is a signed identity. Certificate and credential end together.
type Issued struct {
	Chain      [][]byte // DER: the leaf, and then the issuer unless the root signed
	Credential []byte
}

// Issuer signs an issuer's certificate for IssuerLife and returns its DER. Only
// the root can: an issuer's own signature would be refused by everybody.
func (a *Authority) Issuer(name Name, key ed25519.PublicKey, now time.Time) ([]byte, error) {
	if !a.IsRoot() {
		return nil, fmt.Errorf("only the root signs issuers, and this is %s", a.who)
	}
	notBefore, notAfter, err := a.Validity(now, IssuerLife)
	if err != nil {
		return nil, err
	}
	return a.certificate(subject{a.trust.name, classIssuer, name}, key, notBefore, notAfter)
}

// Node signs a node's certificate and credential.
func (a *Authority) Node(req NodeRequest, now time.Time) (*Issued, error) {
	roles, err := rolesToSign(req.Roles)
	if err != nil {
		return nil, err
	}
	if err := checkAgreementKey(req.AgreementKey); err != nil {
		return nil, err
	}
	return a.issue(Credential{
		Name:         req.Name,
		Kind:         KindNode,
		Roles:        roles,
		SigningKey:   req.SigningKey,
		AgreementKey: req.AgreementKey,
	}, now, req.Life, NodeLife)
}

// Client signs a client's certificate and credential.
func (a *Authority) Client(req ClientRequest, now time.Time) (*Issued, error) {
	return a.issue(Credential{Name: req.Name, Kind: KindClient, SigningKey: req.SigningKey}, now, req.Life, ClientLife)
}

func (a *Authority) issue(c Credential, now time.Time, life, usual time.Duration) (*Issued, error) {
	if life == 0 {
		life = usual
	}
	var err error
	if c.NotBefore, c.NotAfter, err = a.Validity(now, life); err != nil {
		return nil, err
	}
	leaf, err := a.certificate(subject{a.trust.name, c.Kind.String(), c.Name}, c.SigningKey, c.NotBefore, c.NotAfter)
	if err != nil {
		return nil, err
	}
	c.Cluster, c.ID = a.trust.name, newCredentialID()
	credential, err := c.sign(a.key, a.trust.cluster)
	if err != nil {
		return nil, fmt.Errorf("signing the credential of %s %q: %w", c.Kind, c.Name, err)
	}
	issued := &Issued{Chain: [][]byte{leaf}, Credential: credential}
	if !a.IsRoot() {
		issued.Chain = append(issued.Chain, bytes.Clone(a.cert.Raw))
	}
	return issued, nil
}

// certificate checks name and key, which came from outside, and signs.
func (a *Authority) certificate(who subject, key ed25519.PublicKey, notBefore, notAfter time.Time) ([]byte, error) {
	if _, err := ParseName(string(who.name)); err != nil {
		return nil, err
	}
	if err := checkSigningKey(key); err != nil {
		return nil, fmt.Errorf("key of %s: %w", who, err)
	}
	// An authority's key is used seldom and kept apart. As a node's key it would
	// lie open on a network for as long as that node runs.
	if key.Equal(a.cert.PublicKey) {
		return nil, errors.New("the key to be signed is the signing key itself")
	}
	signed, err := x509.CreateCertificate(rand.Reader, who.template(key, a.cert.SubjectKeyId, notBefore, notAfter), a.cert, key, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of %s: %w", who, err)
	}
	return signed, nil
}

// Validity returns the life of something that a signs now to last life: it
// begins Backdate earlier and ends with the authority's own certificate at the
// latest. It is an error below MinLife and when less than that is left.
func (a *Authority) Validity(now time.Time, life time.Duration) (notBefore, notAfter time.Time, err error) {
	return validity(a.cert, now, life)
}

// IsRoot reports whether the authority is the root and not an issuer.
func (a *Authority) IsRoot() bool { return a.who.class == classRoot }

// Signer returns the key, for the other things that an authority signs.
func (a *Authority) Signer() crypto.Signer { return a.key }

// KeyID returns the id by which [Trust.SignerKey] finds the key.
func (a *Authority) KeyID() cose.KeyID { return cose.KeyID(a.cert.SubjectKeyId) }

// Trust returns what the authority's cluster trusts.
func (a *Authority) Trust() *Trust { return a.trust }
