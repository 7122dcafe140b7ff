package pki

import (
	"crypto/tls"
	"fmt"
	"slices"
	"time"
)

// ServerTLS returns the settings of a listener that speaks to the given kinds
// only: TLS 1.3, a certificate demanded from the caller and verified against the
// roots, no session tickets. own is asked for this host's certificate at every
// handshake and t as well, so renewals and new issuers apply without a restart.
// Set NextProtos on the result. With no kind given nobody is let in.
//
// Under TLS 1.3 the dialler's handshake is over before the listener has judged
// the dialler's certificate: a dialler must wait for a first byte before it
// believes that it was let in.
func (t *Trust) ServerTLS(own func() (*tls.Certificate, error), accept []Kind, now func() time.Time) *tls.Config {
	accept = slices.Clone(accept)
	config := baseTLS()
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own() }
	// "Any": crypto/tls demands a certificate and leaves the judgement to
	// VerifyConnection. RequireAndVerify would add a second judge that knows
	// neither the tolerance nor the profile.
	config.ClientAuth = tls.RequireAnyClientCert
	config.VerifyConnection = func(state tls.ConnectionState) error {
		id, err := t.verifyChain(state.PeerCertificates, now())
		if err != nil {
			return err
		}
		if !slices.Contains(accept, id.Kind) {
			return fmt.Errorf("%w: a certificate of %s %q is not for this listener", ErrMismatch, id.Kind, id.Name)
		}
		return nil
	}
	return config
}

// ClientTLS returns the settings for dialling the node wantNode, or any node of
// the cluster if that is empty. own is asked for this host's certificate, a
// node's or a client's, at every handshake. Set NextProtos on the result.
func (t *Trust) ClientTLS(own func() (*tls.Certificate, error), wantNode Name, now func() time.Time) *tls.Config {
	config := baseTLS()
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own() }
	// This skips the verification of crypto/tls, which compares DNS names with
	// the address that was dialled. It is safe because VerifyConnection runs at
	// every handshake and does all of it: the chain, against our roots only, the
	// profile, the time, and the name in the SPIFFE id. No server name is set,
	// so none is sent in the clear.
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		id, err := t.VerifyChain(state.PeerCertificates, now(), KindNode)
		if err != nil {
			return err
		}
		if wantNode != "" && id.Name != wantNode {
			return fmt.Errorf("%w: node %q answers where node %q was dialled", ErrMismatch, id.Name, wantNode)
		}
		return nil
	}
	return config
}

// baseTLS is what both ends have in common.
//
// VerifyConnection and not VerifyPeerCertificate, because only the former also
// runs when a session is resumed. It runs before the peer's signature over the
// handshake is checked: it must decide and change nothing else.
func baseTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The hybrid first. crypto/tls prefers it in any order; X25519 alone
		// remains for callers that are not ours.
		CurvePreferences:       []tls.CurveID{tls.X25519MLKEM768, tls.X25519},
		SessionTicketsDisabled: true,
	}
}
