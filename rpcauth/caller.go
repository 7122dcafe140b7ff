package rpcauth

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/secgossip/secgossip/pki"
)

// Principal is a caller who was let in.
type Principal struct {
	Name  pki.Name          // as certificate and token both have it
	Key   ed25519.PublicKey // likewise, 32 bytes
	Token *Token
}

type principalKey struct{}

// PrincipalFrom returns whom a gate let in, from the context of the request.
func PrincipalFrom(ctx context.Context) (*Principal, bool) {
	principal, ok := ctx.Value(principalKey{}).(*Principal)
	return principal, ok
}

var (
	errNoTLS     = errors.New("no TLS connection")
	errNoToken   = errors.New("no token")
	errOtherKey  = errors.New("the token is bound to another key than the certificate's")
	errOtherName = errors.New("the token is another client's")
)

// authenticate says who calls. If the certificate is good its name comes back
// even when the token is not, for the record alone.
//
// Threat K07: everything is checked before anything is refused, so that the time
// of a refusal does not tell what was wrong.
func (g *Gate) authenticate(r *http.Request, now time.Time) (*Principal, pki.Name, error) {
	raw, headerErr := bearerToken(r.Header)
	token, tokenErr := g.config.Verifier.VerifyToken(raw, now)
	// The listener has verified this chain. Doing it again for each request
	// makes the gate safe behind any listener, and ends a long connection when
	// its certificate ends.
	if r.TLS == nil || !r.TLS.HandshakeComplete {
		return nil, "", errNoTLS
	}
	caller, err := g.config.Verifier.trust.VerifyChain(r.TLS.PeerCertificates, now, pki.KindClient)
	if err != nil {
		return nil, "", err
	}
	if headerErr != nil {
		return nil, caller.Name, headerErr
	}
	if tokenErr != nil {
		return nil, caller.Name, tokenErr
	}
	if !token.Key.Equal(caller.Key) {
		return nil, caller.Name, errOtherKey
	}
	if token.Subject != caller.Name {
		return nil, caller.Name, errOtherName
	}
	return &Principal{Name: caller.Name, Key: caller.Key, Token: token}, caller.Name, nil
}

// bearerToken reads the one Authorization header, "Bearer sgt_...".
func bearerToken(header http.Header) ([]byte, error) {
	values := header.Values("Authorization")
	if len(values) != 1 {
		return nil, errNoToken
	}
	text, ok := strings.CutPrefix(values[0], "Bearer ")
	if !ok {
		return nil, errNoToken
	}
	return ParseTokenText(text)
}

// presentedKey is the key of the caller's certificate, whoever signed that: TLS
// has seen that the caller holds the key, which is all that standing asks.
func presentedKey(r *http.Request) callerKey {
	var out callerKey
	if r.TLS != nil && r.TLS.HandshakeComplete && len(r.TLS.PeerCertificates) > 0 {
		if key, ok := r.TLS.PeerCertificates[0].PublicKey.(ed25519.PublicKey); ok {
			copy(out[:], key)
		}
	}
	return out
}
