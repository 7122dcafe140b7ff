package pki

import "errors"

// What can be wrong with an identity. Commands branch on these to say what to
// do next; the error around one says which identity and which field.
var (
	// ErrExpired: renew or enrol again, or this host's clock is ahead.
	ErrExpired = errors.New("expired")
	// ErrNotYetValid: almost always a clock, here or where it was signed.
	ErrNotYetValid = errors.New("not yet valid")
	// ErrForeign: signed under another root, or for another cluster's name.
	ErrForeign = errors.New("not of this cluster")
	// ErrProfile: a field is not exactly as an Authority writes it.
	ErrProfile = errors.New("does not fit its profile")
	// ErrMismatch: a good identity, but not the one that was asked for.
	ErrMismatch = errors.New("somebody else's identity")
	// ErrUnknownSigner: signed by an issuer this Trust has not heard of. The
	// issuer's certificate, from any member, may cure it: see AddIssuer.
	ErrUnknownSigner = errors.New("signed by an issuer not known here")
	// ErrRevoked: a keeper has taken it back. Another must be issued.
	ErrRevoked = errors.New("revoked")
)
