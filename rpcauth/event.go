package rpcauth

import (
	"crypto"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
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

	// maxMillis is the end of the year 9999, as maxSeconds.
	maxMillis = maxSeconds * 1000
)

// Event is a verified event: what a client asks hosts to do.
type Event struct {
	ID       [16]byte
	Name     string
	Payload  []byte   // at most 512 bytes, nil when empty
	Nodes    []string // for these nodes only, ascending; none means all
	LTime    uint64   // the client's guess, zero when it has none
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
	ID       []byte   `cbor:"1,keyasint"`
	Name     string   `cbor:"2,keyasint"`
	Payload  []byte   `cbor:"3,keyasint,omitempty"`
	Nodes    []string `cbor:"4,keyasint,omitempty"`
	LTime    uint64   `cbor:"5,keyasint,omitempty"`
	Issued   uint64   `cbor:"6,keyasint"`
	Expires  uint64   `cbor:"7,keyasint"`
	Coalesce bool     `cbor:"8,keyasint,omitempty"`
	Token    []byte   `cbor:"9,keyasint"`
}

// EventRequest says what an event is to hold.
type EventRequest struct {
	Cluster  pki.ClusterID // the only cluster in which the event means anything
	Name     string
	Payload  []byte
	Nodes    []string // for these nodes only; none means all
	LTime    uint64
	Life     time.Duration // zero for DefaultEventLife
	Coalesce bool
}

// SignEvent signs an event with the client's key. It refuses what every node
// would refuse by its form; grants and the token's own signature are the nodes'
// to judge.
func SignEvent(key crypto.Signer, rawToken []byte, req EventRequest, now time.Time) ([]byte, error) {
	_, token, err := parseToken(rawToken)
	if err != nil {
		return nil, err
	}
	if public, ok := key.Public().(ed25519.PublicKey); !ok || !public.Equal(token.Key) {
		return nil, errors.New("the token is bound to another key than this client's")
	}
	life := req.Life
	if life == 0 {
		life = DefaultEventLife
	}
	nodes := slices.Clone(req.Nodes)
	slices.Sort(nodes)
	body := eventBody{
		ID:       randomID(),
		Name:     req.Name,
		Payload:  req.Payload,
		Nodes:    slices.Compact(nodes),
		LTime:    req.LTime,
		Issued:   uint64(now.UnixMilli()),
		Expires:  uint64(now.Add(life).UnixMilli()),
		Coalesce: req.Coalesce,
		Token:    rawToken,
	}
	if err := body.check(); err != nil {
		return nil, err
	}
	payload, err := cose.Marshal(body)
	if err != nil {
		return nil, err
	}
	raw, err := cose.Sign(key, cose.Context(eventLabel, req.Cluster), payload)
	if err != nil {
		return nil, err
	}
	if len(raw) > MaxEventSize {
		return nil, fmt.Errorf("an event of %d bytes: %d is the most; name fewer nodes", len(raw), MaxEventSize)
	}
	return raw, nil
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
	m, body, err := parseEvent(raw)
	if err != nil {
		return nil, err
	}
	known, err := v.knownTokenOrVerify(body.Token, now)
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	token := known.token
	v.checks.Add(1)
	if err := m.Verify(token.Key, v.eventContext); err != nil {
		return nil, fmt.Errorf("event: not signed by the key of the token's client %q: %w", token.Subject, err)
	}
	if err := v.checkToken(token, now); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	event := &Event{
		ID:       [16]byte(body.ID),
		Name:     body.Name,
		Payload:  body.Payload,
		Nodes:    body.Nodes,
		LTime:    body.LTime,
		Issued:   time.UnixMilli(int64(body.Issued)).UTC(),
		Expires:  time.UnixMilli(int64(body.Expires)).UTC(),
		Coalesce: body.Coalesce,
		Token:    token,
	}
	if err := event.checkTimes(now); err != nil {
		return nil, err
	}
	if err := token.Require(EventGrant(event.Name)); err != nil {
		return nil, err
	}
	return event, nil
}

// parseEvent reads an event strictly. Nothing in it may be believed yet.
func parseEvent(raw []byte) (cose.Message, *eventBody, error) {
	if len(raw) > MaxEventSize {
		return cose.Message{}, nil, fmt.Errorf("event of %d bytes: %w", len(raw), ErrMalformed)
	}
	m, err := cose.Parse(raw)
	if err != nil {
		return cose.Message{}, nil, fmt.Errorf("event: %w: %w", ErrMalformed, err)
	}
	var body eventBody
	if err := cose.Unmarshal(m.Payload, &body); err != nil {
		return cose.Message{}, nil, fmt.Errorf("event: %w: %w", ErrMalformed, err)
	}
	if err := body.check(); err != nil {
		return cose.Message{}, nil, fmt.Errorf("event: %w: %w", ErrMalformed, err)
	}
	return m, &body, nil
}

// check refuses what SignEvent would not have written.
func (b *eventBody) check() error {
	if len(b.ID) != 16 {
		return fmt.Errorf("id of %d bytes", len(b.ID))
	}
	if err := CheckEventName(b.Name); err != nil {
		return err
	}
	if len(b.Payload) > MaxEventPayload {
		return fmt.Errorf("payload of %d bytes: %d is the most", len(b.Payload), MaxEventPayload)
	}
	if len(b.Nodes) > MaxEventNodes {
		return fmt.Errorf("%d node names: %d is the most", len(b.Nodes), MaxEventNodes)
	}
	for i, node := range b.Nodes {
		if _, err := pki.ParseName(node); err != nil {
			return err
		}
		if i > 0 && b.Nodes[i-1] >= node {
			return errors.New("node names out of order")
		}
	}
	if b.Expires > maxMillis || b.Issued >= b.Expires {
		return errors.New("an event must expire after it was issued")
	}
	if life := b.Expires - b.Issued; life > uint64(MaxEventLife.Milliseconds()) {
		return fmt.Errorf("an event lives at most %v", MaxEventLife)
	}
	return nil
}

// checkTimes allows for a client's clock that is ahead. One that is behind only
// shortens the event's life: waking a host late is worse than not at all.
func (e *Event) checkTimes(now time.Time) error {
	if e.Issued.After(now.Add(pki.Tolerance)) {
		return fmt.Errorf("event %q: issued at %s: %w", e.Name, e.Issued.Format(time.RFC3339Nano), ErrNotYetValid)
	}
	if !now.Before(e.Expires) {
		return fmt.Errorf("event %q: ended at %s: %w", e.Name, e.Expires.Format(time.RFC3339Nano), ErrExpired)
	}
	return nil
}
