package home

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
)

// What an operator does about a file that does not serve. Each is one sentence
// with a command where there is one.
const (
	againNode   = "issue a new home for this node on a keeper: `secgossip pki issue node NAME --out DIR`"
	againClient = "make a client on a keeper: `secgossip pki issue client NAME --grant GRANT --out DIR`"
	oneWhole    = "this home was put together from several: copy one whole home here"
)

// again is how to come by the file called name once more.
func again(name string) string {
	switch {
	case strings.HasPrefix(name, "client/"):
		return againClient
	case strings.HasPrefix(name, "ca/"):
		return "restore ca/ from its backup: nothing else brings the root back"
	}
	return againNode
}

// explain adds the next step to what is wrong with the file called name. The
// error names the file already.
func (h Home) explain(name string, err error) error {
	var next string
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return h.missing(name)
	case errors.Is(err, pki.ErrExpired):
		next = again(name) + "; if the date here is wrong, set the clock"
	case errors.Is(err, pki.ErrNotYetValid):
		next = "set the clock of this host"
	case errors.Is(err, pki.ErrRevoked):
		next = again(name)
	case errors.Is(err, pki.ErrForeign), errors.Is(err, pki.ErrUnknownSigner), errors.Is(err, pki.ErrMismatch),
		errors.Is(err, keyring.ErrWrongKey):
		next = oneWhole
	case errors.Is(err, keyring.ErrNewer):
		next = "install the version of secgossip that wrote it, or a later one"
	case errors.Is(err, keyring.ErrPermissions), errors.Is(err, fs.ErrPermission):
		next = "check who could reach it meanwhile: what others could read or change may be theirs by now"
		if errors.Is(err, fs.ErrPermission) {
			next = "run this as the user the home belongs to"
		}
	case errors.Is(err, keyring.ErrLockedMemory):
		return err // it says itself which limit to raise
	case strings.HasPrefix(name, "ca/"):
		next = again(name)
	default:
		next = "restore it from a backup of this host, or " + again(name)
	}
	return &Problem{Err: err, Next: next}
}

// refused is explain for errors of pki and rpcauth, which know no files.
func (h Home) refused(name string, err error) error {
	return h.explain(name, fmt.Errorf("%q: %w", h.path(name), err))
}

// damaged says that the file called name does not read.
func (h Home) damaged(name string, err error) error {
	return h.refused(name, fmt.Errorf("%w: %w", keyring.ErrDamaged, err))
}

// strange says that a key is not the one its certificate and credential name.
func (h Home) strange(name string) error {
	return h.refused(name, fmt.Errorf("%w: not the key that the certificate names", pki.ErrMismatch))
}

// missing is the answer when a file of a home is not there.
func (h Home) missing(name string) *Problem {
	p := &Problem{Err: fmt.Errorf("%s is %w: no %s", h, ErrMissing, name)}
	switch {
	case !exists(h.path(fileBundle)) && !exists(h.path("node")) && !exists(h.path("client")):
		p.Next = "make a new cluster here with `secgossip init --cluster NAME --node NAME`, " +
			"or copy a home here that `secgossip pki issue` made on a keeper"
	case strings.HasPrefix(name, "client/") && !exists(h.path("client")):
		p.Next = againClient
	case strings.HasPrefix(name, "node/") && !exists(h.path("node")):
		p.Next = "this is the home of a client, which calls agents and runs none; " + againNode
	default:
		p.Next = "a part is missing: copy the whole home here again, or " + again(name)
	}
	return p
}
