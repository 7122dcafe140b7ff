package rpcauth

import (
	"cmp"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
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

	// MaxLargePayload is what travels beside an event, which then holds its digest and
	// its size: a script with its data, and no image of a disk. As an answer to a query.
	MaxLargePayload = 1 << 20

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
	Payload  []byte      // at most 512 bytes, nil when empty or beside the event
	Nodes    []string    // for these nodes only, ascending; none means all
	Tags     []TagFilter // for nodes only that all of these fit
	LTime    uint64      // its Lamport time; see LamportTime
	Issued   time.Time
	Expires  time.Time // the first millisecond at which it is void
	Coalesce bool
	Token    *Token // whose event it is; shared, do not change it

	Digest [sha256.Size]byte // of a payload that is beside the event
	Size   int               // and its bytes; 0 when there is none

	matcher tagMatcher
}

// CheckPayload says whether this is the payload that the event announces.
func (e *Event) CheckPayload(payload []byte) error {
	if len(payload) != e.Size || sha256.Sum256(payload) != e.Digest {
		return fmt.Errorf("event %q: a payload of %d bytes that is not the one it announces: %w", e.Name, len(payload), ErrPayload)
	}
	return nil
}

// IDText is the id as people and logs have it: 32 hexadecimal digits.
func (e *Event) IDText() string { return hex.EncodeToString(e.ID[:]) }

// For reports whether the event is meant for a node of that name and those tags.
func (e *Event) For(node pki.Name, tags map[string]string) bool {
	return (len(e.Nodes) == 0 || slices.Contains(e.Nodes, string(node))) && e.matcher.match(tags)
}

// eventBody is the encoded form; the package comment explains the numbers.
type eventBody struct {
	requestBody
	Coalesce bool        `cbor:"8,keyasint,omitempty"`
	Tags     []TagFilter `cbor:"10,keyasint,omitempty"`
	Digest   []byte      `cbor:"11,keyasint,omitempty"`
	Size     uint64      `cbor:"12,keyasint,omitempty"`
}

// checkOwn allows a payload one place: in the event as long as it fits there.
func (b *eventBody) checkOwn() error {
	if err := checkTagFilters(b.Tags); err != nil {
		return err
	}
	switch {
	case b.Size == 0 && len(b.Digest) == 0:
		return nil
	case len(b.Digest) != sha256.Size:
		return fmt.Errorf("digest of %d bytes: want %d", len(b.Digest), sha256.Size)
	case b.Size <= MaxEventPayload || b.Size > MaxLargePayload:
		return fmt.Errorf("a payload of %d bytes beside the event: %d to %d are allowed", b.Size, MaxEventPayload+1, MaxLargePayload)
	case len(b.Payload) > 0:
		return errors.New("a payload in the event, and another beside it")
	}
	return nil
}

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
	Payload  []byte        // at most MaxLargePayload; beside the event if longer than MaxEventPayload
	Nodes    []string      // for these nodes only; none means all
	Tags     []TagFilter   // for nodes only that all of these fit
	LTime    uint64        // see LamportTime; zero for the time of now
	Life     time.Duration // zero for DefaultEventLife
	Coalesce bool
}

// Check refuses what no node would take, before anybody is asked anything.
func (r *EventRequest) Check() error {
	probe := *r
	probe.LTime = 0 // the agent has a say in it
	_, err := probe.body(nil, time.UnixMilli(1))
	return err
}

// body makes the body of the event and checks it.
func (r *EventRequest) body(rawToken []byte, now time.Time) (*eventBody, error) {
	if len(r.Payload) > MaxLargePayload {
		return nil, fmt.Errorf("payload of %d bytes: %d, 1 MiB, is the most that an event may have", len(r.Payload), MaxLargePayload)
	}
	if _, err := compileTagFilters(r.Tags); err != nil {
		return nil, err
	}
	expires := now.Add(cmp.Or(r.Life, DefaultEventLife))
	body := &eventBody{requestBody: newRequest(rawToken, r.Nodes, now, expires), Coalesce: r.Coalesce}
	body.Name, body.LTime, body.Tags = r.Name, cmp.Or(r.LTime, LamportTime(now, 0)), sortTagFilters(r.Tags)
	if len(r.Payload) > MaxEventPayload {
		digest := sha256.Sum256(r.Payload)
		body.Digest, body.Size = digest[:], uint64(len(r.Payload))
	} else {
		body.Payload = r.Payload
	}
	return body, eventKind.check(body)
}

// SignEvent signs an event with the client's key. It refuses what every node
// would refuse by its form; grants and the token's own signature are the nodes'
// to judge. A payload that is longer than MaxEventPayload is not in what it returns:
// whoever fires the event hands it over beside it.
func SignEvent(key crypto.Signer, rawToken []byte, req EventRequest, now time.Time) ([]byte, error) {
	body, err := req.body(rawToken, now)
	if err != nil {
		return nil, err
	}
	return eventKind.sign(key, req.Cluster, body)
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
	matcher, err := compileTagFilters(body.Tags)
	if err != nil {
		return nil, fmt.Errorf("event: %w: %w", ErrMalformed, err)
	}
	e := &Event{
		ID:       [16]byte(body.ID),
		Name:     body.Name,
		Payload:  body.Payload,
		Nodes:    body.Nodes,
		Tags:     body.Tags,
		LTime:    body.LTime,
		Issued:   fromMillis(body.Issued),
		Expires:  fromMillis(body.Expires),
		Coalesce: body.Coalesce,
		Token:    token,
		Size:     int(body.Size),
		matcher:  matcher,
	}
	copy(e.Digest[:], body.Digest)
	return e, nil
}

// EventID reads the id of an event that its own client has signed, as people have it.
// Nothing of it is verified.
func EventID(raw []byte) (string, error) {
	var body eventBody
	if _, err := eventKind.parse(raw, &body); err != nil {
		return "", err
	}
	return hex.EncodeToString(body.ID), nil
}
