package secgossip

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
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
		// What waits goes faster than by the interval, and not at once: a burst
		// must leave room on the way for membership.
		for n.eventGossip.queue.NumQueued() > burst && n.pause(burstPause) {
			n.gossipOnce()
		}
	}
}

// With more events than burst queued, a round of gossip follows the other after
// burstPause: 1,500 datagrams a second to three members.
const (
	burst      = 16
	burstPause = 2 * time.Millisecond
)

// pause waits. It is false when the node is closing.
func (n *Node) pause(d time.Duration) bool {
	select {
	case <-n.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (n *Node) gossipOnce() {
	all := []*gossip{n.revocationGossip, n.epochGossip, n.removalGossip, n.queryGossip, n.eventGossip}
	// Nearly always, and then nobody need be picked.
	if !slices.ContainsFunc(all, func(g *gossip) bool { return g.queue.NumQueued() > 0 }) {
		return
	}
	for _, peer := range n.randomPeers(n.settings.GossipNodes) {
		for _, g := range all {
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

// randomPeers picks up to k live members other than us. It looks at no more of them than
// it must: of a large cluster that is done hundreds of times a second.
func (n *Node) randomPeers(k int) []*guard.Peer {
	var peers []*guard.Peer
	names := n.members.alive()
	for last := len(names); last > 0 && len(peers) < k; last-- {
		i := rand.IntN(last)
		if p := n.livePeer(names[i]); p != nil {
			peers = append(peers, p)
		}
		names[i] = names[last-1]
	}
	return peers
}

// Fire takes in an event from the client with the given key, spreads it and
// delivers it here if it is for us. On return the event is on disk and on its
// way. Errors: ErrNotYours, ErrBusy, ErrDuplicate, and what the verifier says.
func (n *Node) Fire(raw []byte, client ed25519.PublicKey) (Event, error) {
	return n.FireLarge(raw, nil, client)
}

// FireLarge is Fire for an event with a payload beside it, which is on disk as well on
// return. Errors: ErrPayload too.
func (n *Node) FireLarge(raw, payload []byte, client ed25519.PublicKey) (Event, error) {
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
	if n.isStale(event, false) {
		return Event{}, ErrStale
	}
	event.Origin = string(n.config.Identity.Name)
	event.elsewhere = !event.isFor(event.Origin, n.currentTags())
	if len(payload) > 0 && event.Size == 0 {
		return Event{}, ErrPayload
	}
	if err := n.acceptFired(raw, payload, event); err != nil {
		return event, err
	}
	n.lamport.witness(eventClock, event.LTime, n.now())
	return event, nil
}

// incoming is an event from a packet, with its mark.
type incoming struct {
	from     pki.Name // who has sent it; empty: a stream, which waits for its turn
	raw      []byte
	repaired bool // brought because we lacked it: whoever else does asks for itself
}

// receiveEvents takes events from a packet. It runs where packets are received:
// it only queues. When the queue is full the event is dropped and counted; its
// sender and others will send it again, and in the end repair brings it.
//
// Threat C10: one member, whatever it sends, leaves room in the queue for others.
func (n *Node) receiveEvents(from pki.Name, items [][]byte, repaired bool) {
	for _, raw := range items {
		if !n.senders.take(from, incomingOfOne) {
			n.counts.eventsOverflow.Add(1)
			continue
		}
		select {
		case n.incoming <- incoming{from, raw, repaired}:
		default:
			n.senders.give(from)
			n.counts.eventsOverflow.Add(1)
		}
	}
}

// incomingQueue bounds the events that were opened and not yet verified: at
// 0.2 ms for the three signatures of each, 200 ms of work.
const incomingQueue = 1024

// incomingOfOne is how many of them came from one member at most.
const incomingOfOne = incomingQueue * 3 / 4

// eventLoop verifies events that came from members, and lets through those whose
// turn it is.
func (n *Node) eventLoop() {
	var verified recent
	ticker := time.NewTicker(gapInterval)
	defer ticker.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-ticker.C:
			ready, lost := n.store.tick(n.now())
			n.arrive(ready)
			for _, m := range lost {
				n.logger.Warn("events are missing that nobody brought", slog.String("node", n.originName(m.origin)), slog.Uint64("count", m.count))
			}
		case event := <-n.pulled:
			if !n.now().Before(event.Expires) {
				continue // it was long on the way; tick forgets it
			}
			ready, waited := n.store.complete(event.key(), n.now())
			if !waited {
				// It had no turn to wait for: late, or of an origin that is forgotten.
				event.lacking = false
				ready = []Event{event}
			}
			n.arrive(ready)
		case in := <-n.incoming:
			n.senders.give(in.from)
			n.lookAt(in, &verified)
		case in := <-n.brought:
			if len(in.raw) > 0 {
				n.lookAt(in, &verified)
			}
		}
	}
}

// lookAt takes one event from a member unless it was just verified.
func (n *Node) lookAt(in incoming, verified *recent) {
	digest := sha256.Sum256(in.raw)
	if !verified.has(digest) && n.takeEvent(in) {
		verified.add(digest)
	}
}

// takeEvent verifies one event from a member. It reports whether it was authentic,
// and so need not be looked at again.
//
// Threat C04: the mark is the origin's, the event the client's, and neither vouches
// for the other.
func (n *Node) takeEvent(in incoming) bool {
	marked, err := wire.ParseMarkedEvent(in.raw)
	if err != nil {
		n.counts.eventsRefused.Add(1)
		return false
	}
	origin := n.originOf(marked.Origin)
	if origin == nil {
		// Its record is still on its way. Repair brings the event again.
		n.counts.marksUnknown.Add(1)
		return false
	}
	if err := marked.Verify(origin.Key(), n.config.Trust.Cluster()); err != nil {
		n.counts.eventsRefused.Add(1)
		return false
	}
	event, err := n.config.Verifier.VerifyEvent(marked.Event, n.now())
	if err != nil {
		n.counts.eventsRefused.Add(1)
		return false
	}
	event.Origin = string(origin.Name)
	n.lamport.witness(eventClock, event.LTime, n.now())
	stale := n.isStale(event, in.repaired)
	accepted := n.journal.has(event.key())
	if in.repaired && !accepted {
		n.counts.eventsRepaired.Add(1)
	}
	event.elsewhere = !event.isFor(string(n.config.Identity.Name), n.currentTags())
	event.lacking = event.Size > 0 && !event.elsewhere && !stale && !accepted && !n.payloads.has(event.Digest, event.Size)
	if event.lacking && !n.pulls.want(event, time.Now()) {
		n.counts.eventsOverflow.Add(1)
		return false // repair brings it again
	}
	ready, fresh := n.store.add(marked, in.raw, event, !stale, n.before(marked.Mark), n.now())
	// Threat C10: what was passed on under one mark is not passed on under another,
	// so that a member without a client's key cannot multiply events.
	if fresh && !stale && !accepted && !in.repaired {
		n.eventGossip.spread(in.raw)
		n.hurry()
	}
	if stale {
		n.counts.eventsRefused.Add(1)
	}
	n.arrive(ready)
	return true
}

// isStale reports whether an event may have been accepted by this node before it
// lost its journal.
//
// Threat C05: a node that lost its journal takes nothing that may have been fired
// before it began another, however often it starts again. Clocks may be pki.Tolerance
// apart, so that much is let through; it is the most that can be run twice after a loss
// of the journal. Repair brings old events by itself, and so none of what it brings is
// let through. All of it is when the operator asks for what was fired before.
func (n *Node) isStale(event Event, repaired bool) bool {
	tolerance := pki.Tolerance
	if repaired {
		tolerance = 0
	}
	return !n.config.Replay && event.Issued.Before(n.journal.Since().Add(-tolerance))
}

// counts are the node's own counters.
type counts struct {
	eventsAccepted  atomic.Uint64
	eventsRefused   atomic.Uint64 // did not verify
	eventsOverflow  atomic.Uint64 // dropped unread: queue full
	eventsUnkept    atomic.Uint64 // times that the journal took no more
	queriesAccepted atomic.Uint64
	queriesRefused  atomic.Uint64 // did not verify
	queriesOverflow atomic.Uint64 // dropped: too many at once, or the journal took no more
	repliesTaken    atomic.Uint64 // for clients of this node
	repliesRefused  atomic.Uint64 // forged, or to a query that nobody here asked
	repliesLate     atomic.Uint64 // after the time of their query
	repliesRelayed  atomic.Uint64 // passed on for others

	noticesDropped atomic.Uint64 // the observer did not keep up
	convictions    atomic.Uint64 // members that came into quarantine
	flaps          atomic.Uint64 // members that came back within flapWindow of failing
	rotations      atomic.Uint64 // times that another epoch came into use
	statementsBad  atomic.Uint64 // packets of epoch statements or revocations that do not pair up

	removalsRefused  atomic.Uint64 // did not verify
	removalsOverflow atomic.Uint64 // dropped unread: queue full
	eventsRepaired   atomic.Uint64 // brought because our tally lacked them
	eventsMissing    atomic.Uint64 // an origin counted them and nobody brought them
	eventsForked     atomic.Uint64 // an origin used a sequence twice
	marksUnknown     atomic.Uint64 // by an origin without a record
	talliesDropped   atomic.Uint64 // came too fast
	payloadsPulled   atomic.Uint64 // came by stream
	payloadsMissing  atomic.Uint64 // nobody gave them until their events expired
	receiptsDropped  atomic.Uint64 // asked for too fast
	eventsUnordered  atomic.Uint64 // handed on although one before them was lacking
}
