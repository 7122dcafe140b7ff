package handler

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// queue holds the events that wait for one handler. Threat C14: push never
// waits, because membership must not feel a handler that hangs.
type queue struct {
	mu          sync.Mutex
	events      []Event // a ring
	first       int
	length      int
	payload     int // bytes of their payloads
	dropped     uint64
	overflowing bool
	ready       chan struct{} // holds a token when the queue may not be empty
	lost        func(Event)   // is told of what had to go; nil: nobody is
	inHand      *atomic.Int64 // counts the events that were taken, until done
}

// maxQueuedPayload bounds the payloads that wait for one handler, in bytes: as many of the
// largest as wait by default, and all that a node takes in in a minute. Several handlers
// that wait for one event share its payload.
const maxQueuedPayload = DefaultQueue << 20

func newQueue(size int) *queue {
	return &queue{events: make([]Event, size), ready: make(chan struct{}, 1), inHand: new(atomic.Int64)}
}

// push adds e, in place of the oldest events if there is no room. It reports
// whether an overflow has just begun, so that the log gets one line for each
// overflow and not one for each event.
func (q *queue) push(e Event) (overflowBegins bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.length == len(q.events) || q.length > 0 && q.payload+len(e.Payload) > maxQueuedPayload {
		oldest := q.removeLocked()
		if q.lost != nil {
			q.lost(oldest)
		}
		overflowBegins = overflowBegins || !q.overflowing
		q.overflowing = true
		q.dropped++
	}
	q.events[(q.first+q.length)%len(q.events)] = e
	q.length++
	q.payload += len(e.Payload)
	q.wake()
	return overflowBegins
}

// idleFor waits so long for an event, which it leaves where it is. It is false if one came,
// or ctx is done.
func (q *queue) idleFor(ctx context.Context, rest time.Duration) bool {
	over := time.NewTimer(rest)
	defer over.Stop()
	for {
		select {
		case <-q.ready:
			if waiting, _, _ := q.counts(); waiting > 0 {
				q.wake()
				return false
			}
		case <-ctx.Done():
			return false
		case <-over.C:
			return true
		}
	}
}

func (q *queue) wake() {
	select {
	case q.ready <- struct{}{}:
	default: // A token is there already.
	}
}

// pop waits for the oldest event, which is in hand until done. It returns false once ctx
// is done, even when events are waiting: they are not run any more.
func (q *queue) pop(ctx context.Context) (Event, bool) {
	for {
		if ctx.Err() != nil {
			return Event{}, false
		}
		if e, ok := q.take(); ok {
			return e, true
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
		}
	}
}

// take takes the oldest event, which is in hand until done.
func (q *queue) take() (Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.length == 0 {
		return Event{}, false
	}
	q.inHand.Add(1)
	e := q.removeLocked()
	if q.length == 0 {
		q.overflowing = false
	} else {
		q.wake() // Others may be waiting for the next one.
	}
	return e, true
}

// done says that an event that was taken is dealt with.
func (q *queue) done() { q.inHand.Add(-1) }

// removeLocked takes the oldest event out.
func (q *queue) removeLocked() Event {
	e := q.events[q.first]
	q.events[q.first] = Event{} // Let go of the payload.
	q.first = (q.first + 1) % len(q.events)
	q.length--
	q.payload -= len(e.Payload)
	return e
}

// counts returns how many events wait, how many were lost so far, and whether
// the queue has not been empty since the last of them.
func (q *queue) counts() (waiting int, dropped uint64, overflowing bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.length, q.dropped, q.overflowing
}
