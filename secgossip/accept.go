package secgossip

import (
	"errors"
	"log/slog"
	"math"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// arrival is a verified event that waits to be accepted.
type arrival struct {
	event Event
	raw   []byte     // as signed; of fired ones
	done  chan error // for whoever fired it; nil: it came from a member
}

const (
	// fireQueue bounds the clients that wait for the disk. Whoever is beyond is told
	// that we are busy.
	fireQueue = 256

	// arrivalQueue bounds the events of others that wait for the disk. When it is
	// full eventLoop waits, its own queue fills, and what is dropped there is repaired.
	arrivalQueue = 1024

	// maxGroup is how many events share one sync: 28 KiB of journal.
	maxGroup = 1024

	// acceptTimeout is how long a client waits for a slow disk.
	acceptTimeout = 10 * time.Second

	// acceptRetry is how soon a journal is tried again that took nothing.
	acceptRetry = time.Second

	// observeTimeout is how long an accepted event waits for room in the observer's
	// queue. Meanwhile nothing more is accepted, and clients hear that we are busy.
	observeTimeout = 10 * time.Second
)

// acceptFired has an event of a client accepted: on disk, marked, on its way. It is
// refused before that when gossip does not keep up: what is queued beyond that would
// push out what others have not yet got.
func (n *Node) acceptFired(raw, payload []byte, event Event) error {
	if n.eventGossip.queue.NumQueued() >= maxQueued/2 {
		return ErrBusy
	}
	if event.Size > 0 {
		if n.journal.has(event.key()) {
			return ErrDuplicate
		}
		if err := n.keepPayload(event, payload); err != nil {
			return err
		}
	}
	fired := arrival{event: event, raw: raw, done: make(chan error, 1)}
	select {
	case n.fires <- fired:
	default:
		return ErrBusy
	}
	deadline := time.NewTimer(acceptTimeout)
	defer deadline.Stop()
	select {
	case err := <-fired.done:
		return err
	case <-deadline.C:
		return ErrBusy
	case <-n.ctx.Done():
		return n.ctx.Err()
	}
}

// arrive queues events of others whose turn it is. One whose payload is still to come
// has its turn then.
func (n *Node) arrive(events []Event) {
	for _, event := range events {
		if event.lacking {
			continue
		}
		select {
		case n.arrivals <- arrival{event: event}:
		case <-n.ctx.Done():
			return
		}
	}
}

// acceptLoop puts events into the journal, as many as wait share one sync, and hands
// them on. It is the only one that waits for the disk: whoever receives packets does
// not.
func (n *Node) acceptLoop() {
	var kept []arrival // of others; the journal did not take them yet
	var sequence uint32
	for {
		arrivals, retry := n.arrivals, (<-chan time.Time)(nil)
		if len(kept) > 0 {
			arrivals, retry = nil, time.After(acceptRetry) // in order: the kept ones first
		}
		var group []arrival
		select {
		case <-n.ctx.Done():
			return
		case a := <-n.fires:
			group = append(group, a)
		case a := <-arrivals:
			group = append(group, a)
		case <-retry:
			group, kept = n.unexpired(kept), nil
		}
		group = gather(group, n.fires, arrivals)
		if len(group) == 0 {
			continue
		}
		entries := make([]journalEntry, len(group))
		for i, a := range group {
			entries[i] = journalEntry{a.event.key(), a.event.Expires}
		}
		fresh, err := n.journal.acceptAll(entries, n.now())
		if !errors.Is(err, ErrBusy) {
			n.unwritten.mark(journalFile, err)
		}
		if err != nil {
			n.sayUnkept(group[0].event, err)
		}
		for i, a := range group {
			switch {
			case a.done == nil && err != nil:
				kept = append(kept, a)
			case a.done == nil && fresh[i]:
				n.deliver(a.event)
			case a.done == nil:
			case err != nil:
				a.done <- err
			case !fresh[i]:
				a.done <- ErrDuplicate
			case sequence == math.MaxUint32:
				a.done <- ErrBusy // 4,294,967,295 events of one start: restart
			default:
				sequence++
				a.done <- n.originate(a, sequence)
			}
		}
	}
}

// gather adds what waits to a group.
func gather(group []arrival, queues ...<-chan arrival) []arrival {
	for _, queue := range queues {
		for more := queue != nil; more && len(group) < maxGroup; {
			select {
			case a := <-queue:
				group = append(group, a)
			default:
				more = false
			}
		}
	}
	return group
}

// originate marks an event that was accepted from a client, spreads it and delivers
// it here.
func (n *Node) originate(a arrival, sequence uint32) error {
	mark := wire.Mark{Origin: n.selfOrigin(), Sequence: sequence}
	raw, err := wire.MarkEvent(n.config.Identity.Signing, n.config.Trust.Cluster(), mark, a.raw)
	if err != nil {
		return err
	}
	n.store.own(mark, a.event.key(), raw, a.event.Expires, n.now())
	n.eventGossip.spread(raw)
	n.hurry()
	n.deliver(a.event)
	return nil
}

// deliver hands an accepted event to the observer, if it is for us.
func (n *Node) deliver(event Event) {
	n.counts.eventsAccepted.Add(1)
	if event.elsewhere {
		return
	}
	deadline := time.NewTimer(observeTimeout)
	defer deadline.Stop()
	select {
	case n.notices <- func(o Observer) { n.observeEvent(o, event) }:
	case <-deadline.C:
		n.counts.noticesDropped.Add(1)
	case <-n.ctx.Done():
	}
}

// observeEvent tells the observer of an event. A payload beside it is read only now: as
// many as wait for the observer are not in memory at once.
func (n *Node) observeEvent(o Observer, event Event) {
	if event.Size > 0 {
		if event.Payload = n.payloads.get(event.Digest); event.Payload == nil {
			n.counts.noticesDropped.Add(1)
			n.logger.Error("the payload of an event is gone that was kept; handlers are not run for it", slog.String("event", event.Name))
			return
		}
	}
	o.UserEvent(event)
}

// unexpired leaves out what need not be accepted any more.
func (n *Node) unexpired(kept []arrival) []arrival {
	var live []arrival
	for _, a := range kept {
		if n.now().Before(a.event.Expires) {
			live = append(live, a)
		}
	}
	return live
}

// sayUnkept counts that the journal took nothing. A full journal or disk refuses
// everything: a line a second is enough to say so.
func (n *Node) sayUnkept(event Event, err error) {
	n.counts.eventsUnkept.Add(1)
	if now := time.Now(); now.Sub(n.lastUnkept) >= time.Second {
		n.lastUnkept = now
		n.logger.Error("event not accepted", slog.String("event", event.Name), slog.Any("error", err))
	}
}
