package pki

import (
	"crypto/x509"
	"fmt"
	"time"
)

// How long things live. Nobody is told when a key was copied; short lives are
// what ends the copy's use.
const (
	RootLife   = 10 * 365 * 24 * time.Hour
	IssuerLife = 365 * 24 * time.Hour
	NodeLife   = 7 * 24 * time.Hour  // default
	ClientLife = 90 * 24 * time.Hour // default
	MinLife    = 5 * time.Minute     // below it, renewal itself becomes the risk
)

const (
	// Backdate is how long before its making a certificate begins, so that a
	// host whose clock is behind can use it at once.
	Backdate = 5 * time.Minute
	// Tolerance is how far two clocks may be apart.
	Tolerance = 2 * time.Minute
)

// CheckTime reports whether now lies between notBefore and notAfter, give or
// take Tolerance. The error wraps ErrNotYetValid or ErrExpired and tells both
// times, because the fault is as often in the clock as in the certificate.
func CheckTime(notBefore, notAfter, now time.Time) error {
	if now.Add(Tolerance).Before(notBefore) {
		return fmt.Errorf("%w: begins %s, here it is %s", ErrNotYetValid, stamp(notBefore), stamp(now))
	}
	if now.Add(-Tolerance).After(notAfter) {
		return fmt.Errorf("%w: ended %s, here it is %s", ErrExpired, stamp(notAfter), stamp(now))
	}
	return nil
}

func checkCertificateTime(cert *x509.Certificate, now time.Time) error {
	return CheckTime(cert.NotBefore, cert.NotAfter, now)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// validity returns the life of something made now to last life, in whole
// seconds (X.509 and CWT have no more), cut to the life of the certificate that
// signs it.
func validity(signer *x509.Certificate, now time.Time, life time.Duration) (notBefore, notAfter time.Time, err error) {
	if err := checkCertificateTime(signer, now); err != nil {
		return time.Time{}, time.Time{}, fmt.Errorf("the signing certificate: %w", err)
	}
	if life < MinLife {
		return time.Time{}, time.Time{}, fmt.Errorf("a life of %s is below the shortest, %s", life, MinLife)
	}
	if now.Add(MinLife).After(signer.NotAfter) {
		return time.Time{}, time.Time{}, fmt.Errorf("the signing certificate is about to be %w: it ends %s", ErrExpired, stamp(signer.NotAfter))
	}
	notBefore = now.UTC().Add(-Backdate).Truncate(time.Second)
	if notBefore.Before(signer.NotBefore) {
		notBefore = signer.NotBefore
	}
	notAfter = now.UTC().Add(life).Truncate(time.Second)
	if notAfter.After(signer.NotAfter) {
		notAfter = signer.NotAfter
	}
	return notBefore, notAfter, nil
}
