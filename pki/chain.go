package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// maxPresented is the longest chain anybody sends: a leaf and its issuer.
const maxPresented = 2

// VerifyChain verifies what a TLS peer presented, the leaf first and then, if
// the root did not sign it, its issuer. It returns whom the leaf names. Nothing
// is learned or changed: crypto/tls asks before the peer has shown that it
// holds the key. Errors wrap ErrForeign, ErrProfile, ErrExpired, ErrNotYetValid,
// ErrRevoked, or ErrMismatch when the leaf is of another kind.
func (t *Trust) VerifyChain(certs []*x509.Certificate, now time.Time, kind Kind) (Identity, error) {
	id, err := t.verifyChain(certs, now)
	if err != nil {
		return Identity{}, err
	}
	if id.Kind != kind {
		return Identity{}, fmt.Errorf("%w: a certificate of %s %q where a %s was wanted", ErrMismatch, id.Kind, id.Name, kind)
	}
	return id, nil
}

func (t *Trust) verifyChain(certs []*x509.Certificate, now time.Time) (Identity, error) {
	path, err := t.rootsNow().verifyPath(certs)
	if err != nil {
		return Identity{}, err
	}
	id, err := IdentityOf(path[0], t.name)
	if err != nil {
		return Identity{}, err
	}
	if len(path) == 3 {
		if _, err := t.checkIssuer(path[1]); err != nil {
			return Identity{}, err
		}
	}
	for _, cert := range path {
		if err := checkCertificateTime(cert, now); err != nil {
			return Identity{}, fmt.Errorf("certificate of %q %w", cert.Subject.CommonName, err)
		}
	}
	if err := t.CheckRevoked(id.Kind, id.Name, id.Key, path[0].NotBefore); err != nil {
		return Identity{}, fmt.Errorf("certificate of %s %q %w", id.Kind, id.Name, err)
	}
	return id, nil
}

// verifyPath verifies the signatures from certs[0] up to a root, using all of
// certs, and returns the path with the root.
//
// It asks crypto/x509 about the last moment of certs[0], not about now. All
// above must be valid then too, since nothing outlives its signer, and the
// caller compares with now itself, with Tolerance and with errors that say on
// which side of the life now lies.
func (r roots) verifyPath(certs []*x509.Certificate) ([]*x509.Certificate, error) {
	// OpenSSL, and curl with it, also sends the root it was told to trust. It
	// proves nothing and says nothing new: we have our own.
	if last := len(certs) - 1; last > 0 && slices.ContainsFunc(r.certs, certs[last].Equal) {
		certs = certs[:last]
	}
	if len(certs) == 0 || len(certs) > maxPresented {
		return nil, fmt.Errorf("certificate chain %w: %d certificates, want 1 to %d", ErrProfile, len(certs), maxPresented)
	}
	intermediates := x509.NewCertPool()
	for i, cert := range certs {
		if _, err := onlyEd25519(cert); err != nil {
			return nil, fmt.Errorf("certificate %w: %w", ErrProfile, err)
		}
		if i > 0 {
			intermediates.AddCert(cert)
		}
	}
	paths, err := certs[0].Verify(x509.VerifyOptions{
		Roots:         r.pool,
		Intermediates: intermediates,
		CurrentTime:   certs[0].NotAfter,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // the profile compares them exactly
	})
	if err != nil {
		return nil, verifyError(err)
	}
	path := paths[0]
	if len(path) != len(certs)+1 {
		return nil, fmt.Errorf("certificate chain %w: it holds a certificate that is no part of it", ErrProfile)
	}
	for i, cert := range path[:len(path)-1] {
		if !bytes.Equal(cert.AuthorityKeyId, path[i+1].SubjectKeyId) {
			return nil, fmt.Errorf("certificate %w: its authority key id is not its signer's", ErrProfile)
		}
	}
	return path, nil
}

// verifyError sorts the errors of crypto/x509. Their texts quote what came from
// outside with %q.
func verifyError(err error) error {
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return fmt.Errorf("certificate is %w: %w", ErrForeign, err)
	}
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) {
		switch invalid.Reason {
		case x509.CANotAuthorizedForThisName:
			return fmt.Errorf("certificate is %w: %w", ErrForeign, err)
		case x509.Expired:
			return fmt.Errorf("certificate %w: it lives longer than its signer", ErrProfile)
		}
	}
	return fmt.Errorf("certificate %w: %w", ErrProfile, err)
}
