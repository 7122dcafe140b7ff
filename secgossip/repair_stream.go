package secgossip

import (
	"log/slog"
	"slices"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// This file mends by stream what packets do not: two members that meet on a stream
// tell their tallies and bring each other what one of them lacks. memberlist has them
// meet when one joins, twice a minute, and when a probe by datagram is not answered. So
// whoever was away for long, or whom no datagram reaches, has everything soon.

const (
	// morePause is between two streams for that: 9,000 events a second, and of a member
	// that lies about what it has ten handshakes a second at most.
	morePause = 100 * time.Millisecond

	// takeTimeout is how long what a stream brought waits for those that verify
	// events. Whoever wants something else of the stream waits as well.
	takeTimeout = time.Second
)

// streamRepair is a node as syncs see it.
type streamRepair struct{ n *Node }

func (r streamRepair) Tally() wire.Tally { return r.n.store.whole() }

func (r streamRepair) Lacking(theirs wire.Tally, most int) [][]byte {
	items, _ := r.n.store.answer(theirs, most)
	for i, item := range items { // their lengths count too
		if most -= wire.LengthSize + len(item); most < 0 || i >= wire.MaxRepairItems {
			return items[:i]
		}
	}
	return items
}

// Take has events verified. They have a way of their own to eventLoop, so that gossip
// gets half of its time whatever a stream brings.
func (r streamRepair) Take(from *guard.Peer, mine, theirs wire.Tally, items [][]byte) {
	if len(items) == 0 {
		r.n.settle(theirs)
		return
	}
	deadline := time.NewTimer(takeTimeout)
	defer deadline.Stop()
	// The empty one at the end is taken when those before it were dealt with.
	for i, item := range append(items, nil) {
		select {
		case r.n.brought <- incoming{raw: item, repaired: true}:
		case <-deadline.C:
			r.n.counts.eventsOverflow.Add(uint64(len(items) - i))
			return
		case <-r.n.ctx.Done():
			return
		}
	}
	// Threat C10: whoever says that it has more is asked again only as long as it
	// brings something.
	if r.n.store.lacks(theirs) && !slices.Equal(r.n.store.whole().Entries, mine.Entries) {
		select {
		case r.n.more <- from:
		default: // somebody else is asked
		}
	}
}

// moreLoop opens streams to those who have more than they brought.
func (n *Node) moreLoop() {
	for {
		select {
		case <-n.ctx.Done():
			return
		case from := <-n.more:
			if err := n.transport.Repair(n.ctx, from); err != nil { // at the next meeting
				n.logger.Debug("events not brought", slog.String("node", string(from.Name)), slog.Any("error", err))
			}
		}
		if !n.pause(morePause) {
			return
		}
	}
}
