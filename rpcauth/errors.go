package rpcauth

import (
	"errors"
	"fmt"
	"strings"

	"github.com/secgossip/secgossip/internal/cose"
	"github.com/secgossip/secgossip/pki"
)

// What can be wrong with a token or an event. They come wrapped in the reason;
// branch on them with errors.Is. Where pki has the same complaint about a
// certificate it is the same error.
var (
	// ErrMalformed: the bytes are no token or event of this version.
	ErrMalformed = errors.New("malformed")
	// ErrUnknownSigner: neither this cluster's root nor an issuer known here. So
	// it is with every token of another cluster.
	ErrUnknownSigner = pki.ErrUnknownSigner
	// ErrSignature: the signature is not by the key it must be by.
	ErrSignature = cose.ErrSignature
	// ErrExpired: it was good until some time that has passed.
	ErrExpired = pki.ErrExpired
	// ErrNotYetValid: it is good from some time on that has not come.
	ErrNotYetValid = pki.ErrNotYetValid
	// ErrPayload: not the payload that the event announces.
	ErrPayload = errors.New("another payload")
	// ErrGrant: recognised, but the grant is missing. See GrantError.
	ErrGrant = errors.New("grant missing")
)

// GrantError says who lacks which grant. It matches ErrGrant.
type GrantError struct {
	Subject pki.Name // whose token it is
	Need    []Grant  // any one of these would do
	Have    []Grant  // what the token holds
}

func (e *GrantError) Error() string {
	return fmt.Sprintf("client %q needs the grant %s; its token holds %s", e.Subject, list(e.Need, " or "), list(e.Have, ", "))
}

// Is makes errors.Is(err, ErrGrant) work.
func (e *GrantError) Is(target error) bool { return target == ErrGrant }

func list(grants []Grant, separator string) string {
	var quoted []string
	for _, g := range grants {
		quoted = append(quoted, fmt.Sprintf("%q", g))
	}
	return strings.Join(quoted, separator)
}
