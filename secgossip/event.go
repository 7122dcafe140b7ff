package secgossip

import (
	"crypto/sha256"
	"errors"
	"slices"
	"time"
)

// Event is a user event that was verified: who fired it, what it says, and for
// whom. Every node that delivers it has checked signature, token, grant and times
// itself.
type Event struct {
	ID        [16]byte // chosen by the client, unique among its events
	Name      string
	Payload   []byte // of one beside the event nil until it is delivered
	LTime     uint64 // the same number on every node; grows with time
	Issued    time.Time
	Expires   time.Time
	Coalesce  bool
	Nodes     []string // names of the nodes it is for; empty: all
	Principal string   // name of the client that signed it
	ClientKey [32]byte // its Ed25519 key
	TokenID   [16]byte // the token it was fired with
	Raw       []byte   // as it was signed, for whoever checks it again; not to be changed
	Origin    string   // name of the node that took it in from the client

	// Digest is the SHA-256 of a payload that travels beside the event, and Size its
	// bytes; 0 when there is none.
	Digest [32]byte
	Size   int

	// For reports whether it is meant for a node of that name and those tags. Nil goes
	// by Nodes alone.
	For func(node string, tags map[string]string) bool

	elsewhere bool // it is for other nodes: passed on, and not delivered
	lacking   bool // its payload is still to come
}

// Verifier decides whether a signed event or query may be relayed and delivered.
type Verifier interface {
	// VerifyEvent checks raw, one signed event, at the given time. It must
	// check everything: signature, token, grant, times, limits.
	VerifyEvent(raw []byte, now time.Time) (Event, error)
	// VerifyQuery does the same for a signed query, and sets all but Deadline.
	VerifyQuery(raw []byte, now time.Time) (Query, error)
	// VerifyRemoval checks raw, one signed removal, likewise.
	VerifyRemoval(raw []byte, now time.Time) (Removal, error)
}

// ErrBusy says that events come faster than this node can take them in. The
// event was not accepted; firing it again later is safe.
var ErrBusy = errors.New("too many events at once; try again")

// ErrTooLarge says that an event does not fit one datagram. A shorter payload
// fits, or a token with fewer grants: the token travels with the event.
var ErrTooLarge = errors.New("event is too large")

// ErrPayload says that the payload that was handed over is not the one that the event
// announces.
var ErrPayload = errors.New("payload is not the one that the event announces by digest and size")

// ErrNotYours says that a client handed in an event that another one signed.
var ErrNotYours = errors.New("event was signed by another client")

// ErrStale says that an event was issued before this node began its journal, so that it
// does not know what it accepted before: its journal is in memory, lost or damaged.
var ErrStale = errors.New("event was fired before this node began its journal, which does not say whether it was accepted; fire another")

// ErrDuplicate says that this very event was accepted before.
var ErrDuplicate = errors.New("event was accepted before")

// key identifies an event in the journal: its id among the events of its client.
// The client is part of it, so that nobody can use up another's ids.
func (e *Event) key() journalKey {
	h := sha256.New()
	h.Write(e.ClientKey[:])
	h.Write(e.ID[:])
	return journalKey(h.Sum(nil)[:16])
}

// isFor reports whether the event is addressed to a node of that name and those tags.
func (e *Event) isFor(name string, tags map[string]string) bool {
	if e.For != nil {
		return e.For(name, tags)
	}
	return len(e.Nodes) == 0 || slices.Contains(e.Nodes, name)
}
