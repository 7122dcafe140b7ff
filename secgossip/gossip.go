package secgossip

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// gossip spreads one kind of signed item (events, epoch statements, revocations) to a few
// random members at a time, each item a bounded number of times, newest first.
// It has packets of its own: a flood of events takes no room from membership.
type gossip struct {
	kind  wire.PacketType
	batch wire.Batch
	queue memberlist.TransmitLimitedQueue
}

// maxQueued bounds a queue; beyond it the item sent most often goes first.
const maxQueued = 1024

func newGossip(kind wire.PacketType, batch wire.Batch, retransmit int, members func() int) *gossip {
	return &gossip{kind: kind, batch: batch, queue: memberlist.TransmitLimitedQueue{NumNodes: members, RetransmitMult: retransmit}}
}

// spread takes items in that belong together: they travel in one packet, of which it
// returns the payload.
func (g *gossip) spread(items ...[]byte) []byte {
	payload, err := g.batch.Append(nil, items)
	if err != nil {
		panic("internal error: an item larger than its limit: " + err.Error())
	}
	g.queue.QueueBroadcast(&broadcast{payload: payload})
	g.queue.Prune(maxQueued)
	return payload
}

// next returns one packet's payload, nil when there is nothing. Batches joined
// are a batch again.
func (g *gossip) next() []byte {
	var payload []byte
	for _, b := range g.queue.GetBroadcasts(0, wire.MaxPayload) {
		payload = append(payload, b...)
	}
	return payload
}

// broadcast is one entry of memberlist's queue. Nothing replaces an earlier one.
type broadcast struct{ payload []byte }

func (b *broadcast) Invalidates(memberlist.Broadcast) bool { return false }
func (b *broadcast) Message() []byte                       { return b.payload }
func (b *broadcast) Finished()                             {}

// gossipLoop sends what is queued until ctx ends: at every interval, and at once
// when something new came in.
func (n *Node) gossipLoop() {
	ticker := time.NewTicker(n.settings.GossipInterval)
	defer ticker.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-ticker.C:
		case <-n.kick:
		}
		n.gossipOnce()
	}
}

func (n *Node) gossipOnce() {
	for _, peer := range n.randomPeers(n.settings.GossipNodes) {
		for _, g := range []*gossip{n.revocationGossip, n.epochGossip, n.removalGossip, n.queryGossip, n.eventGossip} {
			if payload := g.next(); payload != nil {
				n.transport.Send(peer, g.kind, payload)
			}
		}
	}
}

// hurry makes the next round of gossip start now.
func (n *Node) hurry() { wake(n.kick) }

// wake tells whoever reads from c, which has room for one, that there is something to
// do. One word is enough for several things.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// randomPeers picks up to k live members other than us.
func (n *Node) randomPeers(k int) []*guard.Peer {
	peers := n.livePeers()
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	return peers[:min(k, len(peers))]
}

// Fire takes in an event from the client with the given key, spreads it and
// delivers it here if it is for us. On return the event is on disk and on its
// way. Errors: ErrNotYours, ErrBusy, ErrDuplicate, and what the verifier says.
func (n *Node) Fire(raw []byte, client ed25519.PublicKey) (Event, error) {
	event, err := n.config.Verifier.VerifyEvent(raw, n.now())
	if err != nil {
		n.counts.eventsRefused.Add(1)
		return Event{}, err
	}
	if !client.Equal(ed25519.PublicKey(event.ClientKey[:])) {
		return Event{}, ErrNotYours
	}
	if len(raw) > wire.MaxEventRaw {
		return Event{}, fmt.Errorf("%w: %d bytes with signature and token, at most %d", ErrTooLarge, len(raw), wire.MaxEventRaw)
	}
	if err := n.acceptEvent(raw, event); err != nil {
		return Event{}, err
	}
	return event, nil
}

// receiveEvents takes events from a packet. It runs where packets are received:
// it only queues. When the queue is full the event is dropped and counted; its
// sender and others will send it again.
func (n *Node) receiveEvents(items [][]byte) {
	for _, raw := range items {
		select {
		case n.incoming <- raw:
		default:
			n.counts.eventsOverflow.Add(1)
		}
	}
}

// incomingQueue bounds the events that were opened and not yet verified: at
// 0.15 ms for the two signatures of each, 150 ms of work.
const incomingQueue = 1024

// eventLoop verifies events that came by gossip.
func (n *Node) eventLoop() {
	var accepted recent
	for {
		select {
		case <-n.ctx.Done():
			return
		case raw := <-n.incoming:
			digest := sha256.Sum256(raw)
			if !accepted.has(digest) && n.relayEvent(raw) {
				accepted.add(digest)
			}
		}
	}
}

// relayEvent verifies and accepts one event from gossip. It reports whether the
// event was authentic, and so need not be looked at again.
func (n *Node) relayEvent(raw []byte) bool {
	event, err := n.config.Verifier.VerifyEvent(raw, n.now())
	if err != nil {
		n.counts.eventsRefused.Add(1)
		return false
	}
	err = n.acceptEvent(raw, event)
	switch {
	case err == nil, errors.Is(err, ErrDuplicate):
		return true
	case errors.Is(err, ErrStale):
		n.counts.eventsRefused.Add(1)
		return true
	}
	// A full journal or disk refuses every copy of every event: a line a
	// second is enough to say so.
	n.counts.eventsUnkept.Add(1)
	if now := time.Now(); now.Sub(n.lastUnkept) >= time.Second {
		n.lastUnkept = now
		n.logger.Error("event not accepted", slog.String("event", event.Name), slog.Any("error", err))
	}
	return false
}

// acceptEvent journals a verified event, and then spreads and delivers it.
//
// Threat C05: a node whose journal has gaps takes nothing that may have been fired
// before it started. Clocks may be pki.Tolerance apart, so that much is let
// through; it is the most that can be run twice after a loss of the journal.
func (n *Node) acceptEvent(raw []byte, event Event) error {
	if n.journal.gaps && event.Issued.Before(n.started.Add(-pki.Tolerance)) {
		return ErrStale
	}
	fresh, err := n.journal.Accept(event.key(), event.Expires, n.now())
	if err != nil {
		return err
	}
	if !fresh {
		return ErrDuplicate
	}
	n.counts.eventsAccepted.Add(1)
	n.eventGossip.spread(raw)
	n.hurry()
	if event.isFor(string(n.config.Identity.Name)) {
		n.notify(func(o Observer) { o.UserEvent(event) })
	}
	return nil
}

// counts are the node's own counters.
type counts struct {
	eventsAccepted  atomic.Uint64
	eventsRefused   atomic.Uint64 // did not verify
	eventsOverflow  atomic.Uint64 // dropped unread: queue full
	eventsUnkept    atomic.Uint64 // authentic, and the journal took no more
	queriesAccepted atomic.Uint64
	queriesRefused  atomic.Uint64 // did not verify
	queriesOverflow atomic.Uint64 // dropped: too many at once, or the journal took no more
	repliesTaken    atomic.Uint64 // for clients of this node
	repliesRefused  atomic.Uint64 // forged, or to a query that nobody here asked
	repliesLate     atomic.Uint64 // after the time of their query
	repliesRelayed  atomic.Uint64 // passed on for others

	noticesDropped atomic.Uint64 // the observer did not keep up
	flaps          atomic.Uint64 // members that came back within flapWindow of failing
	rotations      atomic.Uint64 // times that another epoch came into use
	statementsBad  atomic.Uint64 // packets of epoch statements or revocations that do not pair up

	removalsRefused  atomic.Uint64 // did not verify
	removalsOverflow atomic.Uint64 // dropped unread: queue full
}
