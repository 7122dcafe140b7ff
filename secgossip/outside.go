package secgossip

import (
	"log/slog"
	"time"

	"github.com/secgossip/secgossip/pki"
)

// RevocationList is what a process believes of revocations that runs no node itself
// and is handed the statements by one. It believes none without its signature.
type RevocationList struct{ held *revocations }

// NewRevocationList makes trust ask it from now on.
func NewRevocationList(trust *pki.Trust, logger *slog.Logger) *RevocationList {
	l := &RevocationList{newRevocations(trust, logger, time.Now, func() {}, func([][]byte) {})}
	trust.SetRevoked(l.held.Revoked)
	return l
}

// Learn takes in pairs of revocation and credential. What does not verify is passed
// over.
func (l *RevocationList) Learn(items [][]byte) { l.held.Learn(items) }

// SignedRevocations returns the revocations that count as they are passed on: pairs
// of revocation and credential, the oldest first.
func (n *Node) SignedRevocations() [][]byte { return n.revocations.Revocations() }

// Since returns the time from which on the journal knows all that was accepted: it was
// new then, damaged or emptied. It is the zero time if nothing can be missing.
func (j *Journal) Since() time.Time { return j.since }
