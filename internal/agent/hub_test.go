package agent

import (
	"strconv"
	"sync"
	"testing"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/handler"
)

// fire publishes user events named 0, 1, 2 and so on.
func fire(h *hub, from, to int) {
	for i := from; i < to; i++ {
		name := strconv.Itoa(i)
		h.publish(handler.Event{Kind: handler.KindUser, Name: name}, &secgossipv1.EventRecord{
			Kind: &secgossipv1.EventRecord_User{User: &secgossipv1.UserEvent{Name: name}},
		})
	}
}

func names(records []*secgossipv1.EventRecord) []string {
	var all []string
	for _, r := range records {
		all = append(all, r.GetUser().GetName())
	}
	return all
}

func subscribe(t *testing.T, h *hub, filters ...string) *subscriber {
	t.Helper()
	parsed, err := parseFilters(filters)
	if err != nil {
		t.Fatal(err)
	}
	s, ok := h.subscribe(parsed)
	if !ok {
		t.Fatal("no stream could be opened")
	}
	return s
}

func TestAStreamThatIsNotReadLosesTheOldestAndIsTold(t *testing.T) {
	h := newHub()
	slow, quick := subscribe(t, h), subscribe(t, h)
	const more = 10
	fire(h, 0, maxPending)
	if got, dropped := quick.take(); len(got) != maxPending || dropped != 0 {
		t.Errorf("the quick one got %d records and lost %d, want %d and 0", len(got), dropped, maxPending)
	}
	fire(h, maxPending, maxPending+more)
	got, dropped := slow.take()
	if len(got) != maxPending || dropped != more {
		t.Fatalf("got %d records, %d lost, want %d and %d", len(got), dropped, maxPending, more)
	}
	if first, last := names(got)[0], names(got)[maxPending-1]; first != "10" || last != strconv.Itoa(maxPending+more-1) {
		t.Errorf("got records %s to %s, want the newest", first, last)
	}
	if got, dropped := slow.take(); len(got) != 0 || dropped != 0 {
		t.Errorf("after that: got %d records, %d lost, want none", len(got), dropped)
	}
	if got, dropped := quick.take(); len(got) != more || dropped != 0 {
		t.Errorf("the quick one got %d records and lost %d, want %d and 0", len(got), dropped, more)
	}
}

// However much comes, a stream holds no more than its bound.
func TestAStreamThatIsNeverReadStaysSmall(t *testing.T) {
	h := newHub()
	s := subscribe(t, h)
	fire(h, 0, 20*maxPending)
	if len(s.pending) != maxPending || cap(s.pending) > 4*maxPending {
		t.Errorf("holds %d records in room for %d, want %d", len(s.pending), cap(s.pending), maxPending)
	}
	if len(s.wake) != 1 {
		t.Errorf("it is to be woken %d times, want 1", len(s.wake))
	}
}

// Payloads of streams that nobody reads are bounded, and so is what one message holds.
func TestLargePayloadsOfAStreamAreBounded(t *testing.T) {
	h := newHub()
	s := subscribe(t, h)
	const events = 20
	for i := range events {
		name := strconv.Itoa(i)
		h.publish(handler.Event{Kind: handler.KindUser, Name: name}, &secgossipv1.EventRecord{
			Kind: &secgossipv1.EventRecord_User{User: &secgossipv1.UserEvent{Name: name, Payload: make([]byte, 1<<20)}},
		})
	}
	fire(h, events, events+1)
	var got []string
	var lost uint64
	for range events {
		select {
		case <-s.wake:
		default:
			t.Fatalf("nobody is woken for what is left behind %q", got)
		}
		records, dropped := s.take()
		size := 0
		for _, r := range records {
			size += len(r.GetUser().GetPayload())
		}
		if size > maxBatchPayload {
			t.Errorf("%d bytes are sent at once, want %d at most", size, maxBatchPayload)
		}
		got, lost = append(got, names(records)...), lost+dropped
		if s.payload == 0 {
			break
		}
	}
	const kept = maxPendingPayload >> 20
	if len(got) != kept+1 || got[0] != strconv.Itoa(events-kept) || got[kept] != strconv.Itoa(events) || lost != events-kept {
		t.Errorf("got %q, and %d lost; want the last %d", got, lost, kept+1)
	}
	if len(s.wake) != 0 {
		t.Error("it is woken for nothing")
	}
}

func TestStreamsAreBounded(t *testing.T) {
	h := newHub()
	var all []*subscriber
	for range maxSubscribers {
		all = append(all, subscribe(t, h))
	}
	if _, ok := h.subscribe(nil); ok {
		t.Errorf("stream %d was opened", maxSubscribers+1)
	}
	h.unsubscribe(all[0])
	h.unsubscribe(all[0]) // twice frees one place, not two
	subscribe(t, h)
	if _, ok := h.subscribe(nil); ok {
		t.Errorf("stream %d was opened", maxSubscribers+1)
	}
}

func TestAClosedStreamGetsNothing(t *testing.T) {
	h := newHub()
	s := subscribe(t, h)
	h.unsubscribe(s)
	fire(h, 0, 1)
	if got, _ := s.take(); len(got) != 0 {
		t.Errorf("got %q, want nothing", names(got))
	}
}

func TestAStreamGetsWhatItsFiltersMatch(t *testing.T) {
	h := newHub()
	for filter, want := range map[string]int{"": 3, "user": 3, "user:1": 1, "*": 3, "member-join": 0, "user:9": 0, "query": 0} {
		var s *subscriber
		if filter == "" {
			s = subscribe(t, h)
		} else {
			s = subscribe(t, h, filter)
		}
		fire(h, 0, 3)
		if got, _ := s.take(); len(got) != want {
			t.Errorf("%q: got %q, want %d records", filter, names(got), want)
		}
		h.unsubscribe(s)
	}
}

func TestFiltersAreBounded(t *testing.T) {
	many := make([]string, 33)
	for i := range many {
		many[i] = "user"
	}
	for what, texts := range map[string][]string{
		"many": many, "long": {"user:" + string(make([]byte, 76))}, "none": {""}, "unknown": {"role:web"}, "one of two": {"user", "users"},
	} {
		if got, err := parseFilters(texts); err == nil {
			t.Errorf("%s: got %v, want an error", what, got)
		}
	}
	if got, err := parseFilters(many[:32]); err != nil || len(got) != 32 {
		t.Errorf("got %d filters, %v, want 32", len(got), err)
	}
}

func TestStreamsComeAndGoWhileEventsDo(t *testing.T) {
	h := newHub()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() { fire(h, 0, 200) })
		group.Go(func() {
			for range 50 {
				s, ok := h.subscribe(nil)
				if !ok {
					t.Error("no stream could be opened")
					return
				}
				s.take()
				h.unsubscribe(s)
			}
		})
	}
	group.Wait()
	if len(h.subscribers) != 0 {
		t.Errorf("%d streams are left, want none", len(h.subscribers))
	}
}
