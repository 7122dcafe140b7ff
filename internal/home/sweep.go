package home

import "github.com/secgossip/secgossip/keyring"

// Sweep removes what an agent that was killed left half-written in node/. Only
// the holder of Lock may call it: those of a running agent look the same.
func (h Home) Sweep() error { return keyring.RemoveTemporary(h.path(fileKeyring)) }
