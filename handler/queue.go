package handler

import (
	"context"
	"sync"
)

// queueLength is how many events wait for one handler. A handler that is
// slower than its events loses the oldest: what is newest is nearest to how
// things are. An event carries up to 1 MiB, which the queues of several
// handlers share, so that 64 waiting events hold 64 MiB at the very worst.
const queueLength = 64

// queue holds the events that wait for one handler. Threat C14: push never
// waits, because membership must not feel a handler that hangs.
type queue struct {
	mu          sync.Mutex
	events      [queueLength]Event // a ring
	first       int
	length      int
	dropped     uint64
	overflowing bool
	ready       chan struct{} // holds a token when the queue may not be empty
}

func newQueue() *queue { return &queue{ready: make(chan struct{}, 1)} }

// push adds e, in place of the oldest event if there is no room. It reports
// whether an overflow has just begun, so that the log gets one line for each
// overflow and not one for each event.
func (q *queue) push(e Event) (overflowBegins bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.length == queueLength {
		overflowBegins = !q.overflowing
		q.overflowing = true
		q.dropped++
		q.first = (q.first + 1) % queueLength
		q.length--
	}
	q.events[(q.first+q.length)%queueLength] = e
	q.length++
	select {
	case q.ready <- struct{}{}:
	default: // A token is there already.
	}
	return overflowBegins
}

// pop waits for the oldest event. It returns false once ctx is done, even
// when events are waiting: they are not run any more.
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

func (q *queue) take() (Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.length == 0 {
		return Event{}, false
	}
	e := q.events[q.first]
	q.events[q.first] = Event{} // Let go of the payload.
	q.first = (q.first + 1) % queueLength
	q.length--
	if q.length == 0 {
		q.overflowing = false
	}
	return e, true
}

// counts returns how many events wait and how many were lost so far.
func (q *queue) counts() (waiting int, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.length, q.dropped
}
