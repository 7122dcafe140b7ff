package pki

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/netip"
	"time"
)

// NewRoot starts a cluster: it returns the DER of a certificate in which key, an
// Ed25519 key, signs itself. The key's hash becomes the [ClusterID]; whoever
// loses the key loses the cluster, and whoever copies it is the cluster.
func NewRoot(cluster Name, key crypto.Signer, now time.Time) ([]byte, error) {
	if _, err := ParseName(string(cluster)); err != nil {
		return nil, fmt.Errorf("cluster name: %w", err)
	}
	// RFC 5280, section 4.2.1.10: a URI constraint cannot be an IP address, so
	// such a root could not be held to its own cluster.
	if _, err := netip.ParseAddr(string(cluster)); err == nil {
		return nil, fmt.Errorf("cluster name %q is an IP address", cluster)
	}
	public, err := signingKeyOf(key)
	if err != nil {
		return nil, err
	}
	notBefore := now.UTC().Add(-Backdate).Truncate(time.Second)
	who := subject{cluster, classRoot, cluster}
	template := who.template(public, nil, notBefore, now.UTC().Add(RootLife).Truncate(time.Second))
	return x509.CreateCertificate(rand.Reader, template, template, public, key)
}

// template puts the profile of s into a form that crypto/x509 signs. Everything
// is in ExtraExtensions, so that what is written and what is checked come from
// the same lines; a missing serial number is drawn by crypto/x509.
func (s subject) template(key ed25519.PublicKey, signer []byte, notBefore, notAfter time.Time) *x509.Certificate {
	var extensions []pkix.Extension
	for _, e := range s.profile(key, signer) {
		extensions = append(extensions, e.Extension)
	}
	return &x509.Certificate{
		RawSubject:      s.distinguishedName(),
		NotBefore:       notBefore,
		NotAfter:        notAfter,
		ExtraExtensions: extensions,
	}
}

// signingKeyOf returns the public half of key if it is a sound Ed25519 key.
func signingKeyOf(key crypto.Signer) (ed25519.PublicKey, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("an authority signs with an Ed25519 key, not %T", key.Public())
	}
	return public, checkSigningKey(public)
}
