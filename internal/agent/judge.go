package agent

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
)

// judge decides for the runner which events and queries handlers are run for. It
// believes nothing that the network process says of one, only what the client signed.
type judge struct {
	verifier *rpcauth.Verifier
	node     pki.Name
	started  time.Time
	now      func() time.Time
	since    func() time.Time // what was run before it may be forgotten; zero: nothing is

	seen map[eventKey]int64 // until when each would be valid, in milliseconds since 1970
}

// eventKey is an event or a query as a node takes it once: a hash of the client's key and
// the id.
type eventKey [16]byte

// maxSeen is as many events as a node's journal holds, which is 12 MiB of memory then.
const maxSeen = 262_144

var (
	errOld        = errors.New("issued at a time of which it is not known what this agent ran")
	errElsewhere  = errors.New("for other nodes")
	errSeen       = errors.New("seen before")
	errManyEvents = errors.New("more events at once than can be told apart")
)

func newJudge(trust *pki.Trust, node pki.Name, since, now func() time.Time) *judge {
	return &judge{
		verifier: rpcauth.NewVerifier(trust), node: node, started: now(), now: now, since: since,
		seen: make(map[eventKey]int64),
	}
}

// event returns the event in raw if handlers may be run for it on a node of these tags,
// and remembers it. A payload that is beside the event becomes its payload.
//
// Threat L12: the network process keeps the journal of events, and could forget. Within
// a start this one remembers them; of what was run before, the runner's own journal of
// runs knows. What was issued before that journal is complete is refused, but for the
// time by which clocks may differ.
func (j *judge) event(raw, payload []byte, tags map[string]string) (*rpcauth.Event, error) {
	now := j.now()
	e, err := j.verifier.VerifyEvent(raw, now)
	if err != nil {
		return nil, err
	}
	if len(payload) > 0 || e.Size > 0 {
		if err := e.CheckPayload(payload); err != nil {
			return nil, err
		}
		e.Payload = payload
	}
	old := e.Issued.Before(j.since().Add(-pki.Tolerance))
	if err := j.admit(keyOfEvent(e), e.For(j.node, tags), old, e.Expires, now); err != nil {
		return nil, fmt.Errorf("event %q: %w", e.Name, err)
	}
	return e, nil
}

// query returns the query in raw if handlers may be run for it on a node of these tags,
// and remembers it. Whatever the journal says, none is from before this start: nobody
// waits for its answers any more.
func (j *judge) query(raw []byte, tags map[string]string) (*rpcauth.Query, error) {
	now := j.now()
	q, err := j.verifier.VerifyQuery(raw, now)
	if err != nil {
		return nil, err
	}
	old := q.Issued.Before(j.started.Add(-pki.Tolerance))
	if err := j.admit(eventKey(q.ID), q.For(j.node, tags), old, q.Expires, now); err != nil {
		return nil, fmt.Errorf("query %q: %w", q.Name, err)
	}
	return q, nil
}

// admit remembers what is genuine, if handlers may be run for it.
func (j *judge) admit(key eventKey, here, old bool, expires, now time.Time) error {
	_, seen := j.seen[key]
	switch {
	case !here:
		return errElsewhere
	case old:
		return errOld
	case seen:
		return errSeen
	case !j.room(now):
		return errManyEvents
	}
	j.seen[key] = expires.UnixMilli()
	return nil
}

func keyOfEvent(e *rpcauth.Event) eventKey {
	sum := sha256.Sum256(append([]byte(e.Token.Key), e.ID[:]...))
	return eventKey(sum[:])
}

// room makes room for one more event by forgetting those that would be refused as
// expired anyway.
func (j *judge) room(now time.Time) bool {
	if len(j.seen) < maxSeen {
		return true
	}
	// Later than it ends: a clock that is set back a little must not revive it.
	over := now.Add(-pki.Tolerance).UnixMilli()
	for key, expires := range j.seen {
		if over > expires {
			delete(j.seen, key)
		}
	}
	return len(j.seen) < maxSeen
}
