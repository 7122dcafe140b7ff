package pki

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
)

const (
	// maxRoots: one, and two while a root is replaced by the next.
	maxRoots = 2
	// maxIssuers: three keepers with a new issuer each every month for a year
	// are 36. Only the root can make issuers, so a stranger cannot fill this.
	maxIssuers = 64
	// maxCertificate bounds one certificate from outside. Ours have about 500
	// bytes with short names and less than 1 KiB with the longest.
	maxCertificate = 2048
)

// Trust is what a host believes about its cluster: the roots, issuers learned
// since, and what was revoked. Every verification asks it anew, so that a change
// applies at once and everywhere. It is safe for concurrent use.
type Trust struct {
	cluster ClusterID
	name    Name

	mu      sync.RWMutex
	roots   roots
	issuers []*x509.Certificate // one a key
	revoked Revoked
}

// roots are the certificates of a bundle. They are never changed, only replaced.
type roots struct {
	certs []*x509.Certificate
	pool  *x509.CertPool
}

// Revoked says whether an identity was taken back: the one of this kind, name and
// key that was issued then. It is asked at every verification and must be quick.
type Revoked func(kind Kind, name Name, key ed25519.PublicKey, issued time.Time) bool

// ParseBundle reads bundle.pem: the root's certificate, or two while a root is
// being replaced. The first one's key gives the cluster id.
func ParseBundle(text []byte) (*Trust, error) {
	certs, err := ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if len(certs) > maxRoots {
		return nil, fmt.Errorf("bundle: %d certificates, want the root or two roots", len(certs))
	}
	t := &Trust{roots: roots{certs: certs, pool: x509.NewCertPool()}}
	for i, root := range certs {
		who, err := checkRoot(root)
		if err != nil {
			return nil, fmt.Errorf("bundle: %w", err)
		}
		if i == 0 {
			t.name, t.cluster = who.cluster, clusterIDOf(root.PublicKey.(ed25519.PublicKey))
		}
		if who.cluster != t.name {
			return nil, fmt.Errorf("bundle: roots of two clusters, %q and %q", t.name, who.cluster)
		}
		if i > 0 && bytes.Equal(root.SubjectKeyId, certs[0].SubjectKeyId) {
			return nil, errors.New("bundle: two certificates of one root")
		}
		t.roots.pool.AddCert(root)
	}
	return t, nil
}

// Replace takes another bundle in the place of the roots: a second root comes, or
// goes. It must be of the same cluster, so the first root stays, whose key is the
// cluster's id. Issuers of a root that is gone are forgotten. After an error nothing
// has changed.
func (t *Trust) Replace(bundle []byte) error {
	next, err := ParseBundle(bundle)
	if err != nil {
		return err
	}
	if next.cluster != t.cluster || next.name != t.name {
		return fmt.Errorf("bundle is %w: it is of cluster %q with id %s", ErrForeign, next.name, next.cluster)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.roots = next.roots
	t.issuers = slices.DeleteFunc(t.issuers, func(issuer *x509.Certificate) bool {
		_, err := t.roots.verifyPath([]*x509.Certificate{issuer})
		return err != nil
	})
	return nil
}

// SetRevoked sets who is asked whether an identity was revoked.
func (t *Trust) SetRevoked(revoked Revoked) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.revoked = revoked
}

// CheckRevoked asks about an identity, or about what was signed for one, by the
// begin of its life, which lies Backdate before it was issued. The error is
// ErrRevoked.
func (t *Trust) CheckRevoked(kind Kind, name Name, key ed25519.PublicKey, notBefore time.Time) error {
	t.mu.RLock()
	revoked := t.revoked
	t.mu.RUnlock()
	if revoked != nil && revoked(kind, name, key, notBefore.Add(Backdate)) {
		return ErrRevoked
	}
	return nil
}

// rootsNow returns the roots in force.
func (t *Trust) rootsNow() roots {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.roots
}

func checkRoot(cert *x509.Certificate) (subject, error) {
	who, err := checkProfile(cert)
	if err != nil {
		return subject{}, err
	}
	if who.class != classRoot {
		return subject{}, fmt.Errorf("certificate of %s %w: it must be a root's", who, ErrProfile)
	}
	if !bytes.Equal(cert.RawIssuer, cert.RawSubject) || cert.CheckSignatureFrom(cert) != nil {
		return subject{}, fmt.Errorf("certificate of %s %w: a root signs itself", who, ErrProfile)
	}
	return who, nil
}

// checkIssuer checks a certificate whose path to a root is verified.
func (t *Trust) checkIssuer(cert *x509.Certificate) (subject, error) {
	who, err := checkProfile(cert)
	if err != nil {
		return subject{}, err
	}
	if who.cluster != t.name {
		return subject{}, fmt.Errorf("certificate of %s is %w: it is of cluster %q", who, ErrForeign, who.cluster)
	}
	if who.class != classIssuer {
		return subject{}, fmt.Errorf("certificate of %s %w: it must be an issuer's", who, ErrProfile)
	}
	return who, nil
}

// Cluster returns the cluster id.
func (t *Trust) Cluster() ClusterID { return t.cluster }

// ClusterName returns the cluster's name.
func (t *Trust) ClusterName() Name { return t.name }

// AddIssuer learns an issuer's certificate, in DER, from whatever source: what
// counts is a root's signature. It reports whether it was new. Of two with the
// same key the one that lives longer stays. Errors as for VerifyChain.
func (t *Trust) AddIssuer(raw []byte, now time.Time) (added bool, err error) {
	if len(raw) > maxCertificate {
		return false, fmt.Errorf("certificate %w: %d bytes, the limit is %d", ErrProfile, len(raw), maxCertificate)
	}
	// A copy: the parsed certificate would keep the caller's bytes alive.
	cert, err := x509.ParseCertificate(bytes.Clone(raw))
	if err != nil {
		return false, fmt.Errorf("certificate %w: %w", ErrProfile, err)
	}
	against := t.rootsNow()
	if _, err := against.verifyPath([]*x509.Certificate{cert}); err != nil {
		return false, err
	}
	who, err := t.checkIssuer(cert)
	if err != nil {
		return false, err
	}
	if err := checkCertificateTime(cert, now); err != nil {
		return false, fmt.Errorf("certificate of %s %w", who, err)
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	if t.roots.pool != against.pool { // replaced meanwhile
		if _, err := t.roots.verifyPath([]*x509.Certificate{cert}); err != nil {
			return false, err
		}
	}
	for i, known := range t.issuers {
		if bytes.Equal(known.SubjectKeyId, cert.SubjectKeyId) {
			if !cert.NotAfter.After(known.NotAfter) {
				return false, nil
			}
			t.issuers[i] = cert
			return true, nil
		}
	}
	if len(t.issuers) >= maxIssuers {
		t.issuers = slices.DeleteFunc(t.issuers, func(known *x509.Certificate) bool {
			return errors.Is(checkCertificateTime(known, now), ErrExpired)
		})
	}
	if len(t.issuers) >= maxIssuers {
		return false, fmt.Errorf("%d issuers are known already, which is the limit", maxIssuers)
	}
	t.issuers = append(t.issuers, cert)
	return true, nil
}

// Issuers returns the DER of every known issuer's certificate, to pass on.
func (t *Trust) Issuers() [][]byte {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out [][]byte
	for _, cert := range t.issuers {
		out = append(out, bytes.Clone(cert.Raw))
	}
	return out
}

// SignerKey returns the key with this id if a root or a known issuer has it and
// that one's certificate is valid now.
func (t *Trust) SignerKey(id cose.KeyID, now time.Time) (ed25519.PublicKey, bool) {
	key, err := t.signer(id, now)
	return key, err == nil
}

// signer is SignerKey with the reason: ErrUnknownSigner, ErrExpired or
// ErrNotYetValid.
func (t *Trust) signer(id cose.KeyID, now time.Time) (ed25519.PublicKey, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, list := range [][]*x509.Certificate{t.roots.certs, t.issuers} {
		for _, cert := range list {
			// The profile holds the subject key id to be the key's.
			if !bytes.Equal(cert.SubjectKeyId, id[:]) {
				continue
			}
			if err := checkCertificateTime(cert, now); err != nil {
				return nil, fmt.Errorf("the signing certificate: %w", err)
			}
			return bytes.Clone(cert.PublicKey.(ed25519.PublicKey)), nil
		}
	}
	return nil, ErrUnknownSigner
}

// SignerEnd returns when the certificate ends of whoever signed a credential; the
// zero time if nobody of that key is known.
func (t *Trust) SignerEnd(c *Credential) time.Time {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, list := range [][]*x509.Certificate{t.roots.certs, t.issuers} {
		for _, cert := range list {
			if bytes.Equal(cert.SubjectKeyId, c.signer[:]) {
				return cert.NotAfter
			}
		}
	}
	return time.Time{}
}
