package home

import (
	"errors"

	"github.com/secgossip/secgossip/keyring"
)

// Sweep removes what an agent that was killed left half-written in node/, and
// finishes or undoes a Reseal that was. Only the holder of Lock may call it: those
// of a running agent look the same.
func (h Home) Sweep() error {
	err := h.finishReseal()
	if !exists(h.path("node")) {
		return err // a client's home
	}
	return errors.Join(err, keyring.RemoveTemporary(h.path(fileKeyring)))
}
