package pki

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// Identity is whom a node's or client's certificate names.
type Identity struct {
	Cluster Name
	Kind    Kind
	Name    Name
	Key     ed25519.PublicKey // 32 bytes; not to be written to
}

// String returns the SPIFFE id.
func (id Identity) String() string {
	return subject{id.Cluster, id.Kind.String(), id.Name}.uri()
}

// IdentityOf reads a node's or client's certificate of the named cluster. It
// checks every field (ErrProfile, ErrForeign) but neither a signature nor the
// time: whom the certificate names is true only after [Trust.VerifyChain].
func IdentityOf(cert *x509.Certificate, cluster Name) (Identity, error) {
	who, err := checkProfile(cert)
	if err != nil {
		return Identity{}, err
	}
	if who.cluster != cluster {
		return Identity{}, fmt.Errorf("certificate of %s is %w: it is of cluster %q", who, ErrForeign, who.cluster)
	}
	id := Identity{Cluster: who.cluster, Name: who.name, Key: cert.PublicKey.(ed25519.PublicKey)}
	switch who.class {
	case classNode:
		id.Kind = KindNode
	case classClient:
		id.Kind = KindClient
	default:
		return Identity{}, fmt.Errorf("certificate of %s %w: it must be a node's or a client's", who, ErrProfile)
	}
	return id, nil
}

// PeerIdentity returns who is at the other end of a finished handshake. The
// connection must have been made with [Trust.ServerTLS] or [Trust.ClientTLS],
// which have verified the chain.
func PeerIdentity(state tls.ConnectionState, cluster Name) (Identity, error) {
	// Before the handshake is complete the peer has shown a certificate, which
	// anybody can copy, and not yet that it holds the key.
	if !state.HandshakeComplete || len(state.PeerCertificates) == 0 {
		return Identity{}, errors.New("the peer has not proven an identity")
	}
	return IdentityOf(state.PeerCertificates[0], cluster)
}
