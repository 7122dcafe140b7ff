package agent

import (
	"sync"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/handler"
)

// hub passes what happens on to the streams that are open. A stream whose client
// does not read loses records and is told how many; nothing waits for it.
type hub struct {
	mu          sync.Mutex
	subscribers map[*subscriber]struct{}
}

// subscriber is one open stream.
type subscriber struct {
	filters []handler.Filter // none: everything
	wake    chan struct{}

	mu      sync.Mutex
	pending []*secgossipv1.EventRecord
	payload int // bytes of their payloads
	dropped uint64
}

const (
	// maxPending bounds what waits for a slow reader. Records are at most 1 KiB, but for
	// their payloads.
	maxPending = 1024

	// maxPendingPayload bounds the payloads of those, and maxBatchPayload of those that
	// are sent in one message: a client takes 4 MiB.
	maxPendingPayload = 8 << 20
	maxBatchPayload   = 2 << 20
)

// maxSubscribers bounds the streams of one agent.
const maxSubscribers = 64

func newHub() *hub { return &hub{subscribers: make(map[*subscriber]struct{})} }

// subscribe opens a stream; it reports false when there are too many.
func (h *hub) subscribe(filters []handler.Filter) (*subscriber, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.subscribers) >= maxSubscribers {
		return nil, false
	}
	s := &subscriber{filters: filters, wake: make(chan struct{}, 1)}
	h.subscribers[s] = struct{}{}
	return s, true
}

func (h *hub) unsubscribe(s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subscribers, s)
}

// publish gives a record to every stream that wants it, by the kind and name of e.
func (h *hub) publish(e handler.Event, record *secgossipv1.EventRecord) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subscribers {
		if wants(s.filters, e) {
			s.add(record)
		}
	}
}

// answers reports whether a stream is open that may answer a query of this name: one
// of whose filters is for queries. Whoever only looks at everything does not count, or
// nobody could look without holding up every query.
func (h *hub) answers(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subscribers {
		for _, f := range s.filters {
			if f.Kind == handler.KindQuery && (f.Name == "" || f.Name == name) {
				return true
			}
		}
	}
	return false
}

func wants(filters []handler.Filter, e handler.Event) bool {
	return len(filters) == 0 || handler.Spec{Filters: filters}.Matches(e)
}

func (s *subscriber) add(record *secgossipv1.EventRecord) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := len(record.GetUser().GetPayload())
	for len(s.pending) >= maxPending || len(s.pending) > 0 && s.payload+size > maxPendingPayload {
		s.payload -= len(s.pending[0].GetUser().GetPayload())
		s.pending[0] = nil // let go of the payload
		s.pending = s.pending[1:]
		s.dropped++
	}
	s.payload += size
	s.pending = append(s.pending, record)
	s.wakeLocked()
}

func (s *subscriber) wakeLocked() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns what gathered, as much as fits one message. What is left wakes again.
func (s *subscriber) take() ([]*secgossipv1.EventRecord, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	count, size := 0, 0
	for count < len(s.pending) {
		next := len(s.pending[count].GetUser().GetPayload())
		if count > 0 && size+next > maxBatchPayload {
			break
		}
		size += next
		count++
	}
	records, dropped := s.pending[:count:count], s.dropped
	s.pending, s.dropped = s.pending[count:], 0
	if s.payload -= size; len(s.pending) == 0 {
		s.pending = nil
		return records, dropped
	}
	s.wakeLocked()
	return records, dropped
}
