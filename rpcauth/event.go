package rpcauth

import (
	"cmp"
	"crypto"
	"encoding/hex"
	"slices"
	"time"

	"github.com/secgossip/secgossip/pki"
)

// eventLabel is what an event's signature is for.
const eventLabel = "secgossip/1 event"

// Limits of events.
const (
	MaxEventPayload = 512 // what rides in gossip; Serf's default too
	MaxEventNodes   = 64

	// MaxEventSize holds the largest token (1,533 bytes), payload and name and
	// still 1,700 bytes of node names; an ordinary event has 500 bytes.
	MaxEventSize = 4096

	// DefaultEventLife is longer than gossip and a restart take. Whoever was
	// away for longer should not be woken by yesterday's event.
	DefaultEventLife = 5 * time.Minute
	// MaxEventLife bounds how long a node must remember ids to know a replay.
	MaxEventLife = time.Hour
)

// Event is a verified event: what a client asks hosts to do.
type Event struct {
	ID       [16]byte
	Name     string
	Payload  []byte   // at most 512 bytes, nil when empty
	Nodes    []string // for these nodes only, ascending; none means all
	LTime    uint64   // its Lamport time; see LamportTime
	Issued   time.Time
	Expires  time.Time // the first millisecond at which it is void
	Coalesce bool
	Token    *Token // whose event it is; shared, do not change it
}

// IDText is the id as people and logs have it: 32 hexadecimal digits.
func (e *Event) IDText() string { return hex.EncodeToString(e.ID[:]) }

// For reports whether the event is meant for the named node.
func (e *Event) For(node pki.Name) bool {
	return len(e.Nodes) == 0 || slices.Contains(e.Nodes, string(node))
}

// eventBody is the encoded form; the package comment explains the numbers. 10 is
// kept for a filter by tags.
type eventBody struct {
	requestBody
	Coalesce bool `cbor:"8,keyasint,omitempty"`
}

func (b *eventBody) checkOwn() error { return nil }

// eventKind is what makes a signed request an event.
var eventKind = requestKind{
	word:       "event",
	one:        "an event",
	label:      eventLabel,
	maxSize:    MaxEventSize,
	maxPayload: MaxEventPayload,
	maxNodes:   MaxEventNodes,
	maxLife:    MaxEventLife,
	checkName:  CheckEventName,
	grant:      EventGrant,
}

// EventRequest says what an event is to hold.
type EventRequest struct {
	Cluster  pki.ClusterID // the only cluster in which the event means anything
	Name     string
	Payload  []byte
	Nodes    []string      // for these nodes only; none means all
	LTime    uint64        // see LamportTime; zero for the time of now
	Life     time.Duration // zero for DefaultEventLife
	Coalesce bool
}

// SignEvent signs an event with the client's key. It refuses what every node
// would refuse by its form; grants and the token's own signature are the nodes'
// to judge.
func SignEvent(key crypto.Signer, rawToken []byte, req EventRequest, now time.Time) ([]byte, error) {
	life := req.Life
	if life == 0 {
		life = DefaultEventLife
	}
	body := eventBody{requestBody: newRequest(rawToken, req.Nodes, now, now.Add(life)), Coalesce: req.Coalesce}
	body.Name, body.Payload, body.LTime = req.Name, req.Payload, cmp.Or(req.LTime, LamportTime(now, 0))
	return eventKind.sign(key, req.Cluster, &body)
}

// VerifyEvent returns the event in raw if a client of this cluster signed it,
// may fire it and it is still good at now. Whether it was seen before and
// whether it is meant for this node is the caller's to ask.
//
// Errors: ErrMalformed, ErrUnknownSigner and ErrSignature say that raw is not
// what an honest client sends; ErrNotYetValid and ErrExpired that it is too early
// or too late; pki.ErrRevoked that its client was taken back; ErrGrant, a
// *GrantError, that the client may not.
func (v *Verifier) VerifyEvent(raw []byte, now time.Time) (*Event, error) {
	var body eventBody
	token, err := v.verify(&eventKind, v.eventContext, raw, &body, now)
	if err != nil {
		return nil, err
	}
	return &Event{
		ID:       [16]byte(body.ID),
		Name:     body.Name,
		Payload:  body.Payload,
		Nodes:    body.Nodes,
		LTime:    body.LTime,
		Issued:   fromMillis(body.Issued),
		Expires:  fromMillis(body.Expires),
		Coalesce: body.Coalesce,
		Token:    token,
	}, nil
}
