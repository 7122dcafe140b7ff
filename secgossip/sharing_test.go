package secgossip

import (
	"errors"
	"testing"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Threat C10.
func TestMemberThatFloodsLosesItsOwnEventsAndNobodyElses(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := newEventStore(new(counts))
	const few = 10
	for node := range byte(3) {
		for i := range uint32(few) {
			put(s, 2+node, 1, i+1, now)
		}
	}
	for start := range uint32(maxStarts) { // it may have several
		for i := range uint32(maxHeldEvents / 4) {
			put(s, 1, start+1, i+1, now)
		}
	}
	for node := range byte(3) {
		if got := len(s.origins[wire.Origin{Node: [8]byte{2 + node}, Start: 1}].held); got != few {
			t.Errorf("of node %d %d events are held, want all %d", 2+node, got, few)
		}
	}
	if got := s.shares[[8]byte{1}].ages.Len(); got != maxHeldEvents-3*few || s.ages.Len() != maxHeldEvents || len(s.keys) != maxHeldEvents {
		t.Errorf("of the flood %d events are held, of %d in all, want all the room that the others leave", got, s.ages.Len())
	}
	if last := s.origins[wire.Origin{Node: [8]byte{1}, Start: maxStarts}]; len(last.held) != maxHeldEvents/4 {
		t.Errorf("of its latest %d are held: the oldest go first", len(last.held))
	}
	// Somebody with fewer than that takes room from whoever has most.
	for i := range uint32(maxHeldEvents / 8) {
		put(s, 5, 1, i+1, now)
	}
	if got := s.shares[[8]byte{5}].ages.Len(); got != maxHeldEvents/8 {
		t.Errorf("of one with less than its share %d events are held, want %d", got, maxHeldEvents/8)
	}
	s.expire(nobody, now.Add(time.Hour))
	if s.ages.Len() != 0 || s.bytes != 0 || len(s.keys) != 0 || len(s.shares) != 0 {
		t.Errorf("%d events of %d bytes and %d shares are left after they expired", s.ages.Len(), s.bytes, len(s.shares))
	}
}

// Threat C10.
func TestMemberThatSendsWithoutEndLeavesRoomForOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		n := &Node{incoming: make(chan incoming, incomingQueue)}
		for i := range 2 * incomingQueue {
			n.receiveEvents("flood", [][]byte{{byte(i)}}, false)
		}
		if len(n.incoming) != incomingOfOne || n.counts.eventsOverflow.Load() != 2*incomingQueue-incomingOfOne {
			t.Errorf("%d of one member wait, and %d were dropped, want %d to wait", len(n.incoming), n.counts.eventsOverflow.Load(), incomingOfOne)
		}
		for range incomingQueue {
			n.receiveEvents("other", [][]byte{{1}}, false)
		}
		if len(n.incoming) != incomingQueue {
			t.Errorf("%d wait, want %d", len(n.incoming), incomingQueue)
		}
		// As many as are taken out have room again, whoever had it.
		a := c.host("a").start()
		for range 3 {
			for range incomingQueue {
				a.node.receiveEvents("flood", [][]byte{{1}}, false)
			}
			c.settle()
		}
		a.node.senders.mu.Lock()
		defer a.node.senders.mu.Unlock()
		if left := len(a.node.senders.has); left != 0 {
			t.Errorf("%d senders are counted, and nothing waits", left)
		}
	})
}

// Threat C10.
func TestClientThatAsksWithoutEndLeavesRoomForOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.host("a").start()
		flood, other := c.client("flood", "query:*"), c.client("other", "query:*")
		for i := range askedOfOne + 1 {
			_, err := a.node.Ask(flood.signQuery(a, "load", nil), flood.public())
			if busy := errors.Is(err, ErrBusy); busy != (i == askedOfOne) {
				t.Errorf("query %d: got %v", i, err)
			}
		}
		if _, err := a.node.Ask(other.signQuery(a, "load", nil), other.public()); err != nil {
			t.Errorf("another client: %v", err)
		}
		time.Sleep(time.Minute)
		if _, err := a.node.Ask(flood.signQuery(a, "load", nil), flood.public()); err != nil {
			t.Errorf("later: %v", err)
		}
		q := newQueries()
		hear := func(client byte, number int) bool {
			return q.hear(&heardQuery{query: Query{ID: QueryID{client, byte(number), byte(number >> 8)}, ClientKey: [32]byte{client}}})
		}
		for i := range maxHeard {
			if got, want := hear(1, i), i < heardOfOne; got != want {
				t.Fatalf("query %d of one client is heard: %t", i, got)
			}
		}
		if !hear(2, 1) {
			t.Error("another client's is not heard")
		}
		for _, h := range q.heard {
			q.unhear(h)
		}
		if len(q.clients.has) != 0 {
			t.Errorf("%d clients are counted, and nothing is heard", len(q.clients.has))
		}
	})
}

// Threat C10.
func TestClientWhosePayloadsNobodyGivesHoldsUpNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		flood, other := c.client("flood", "event:*"), c.client("other", "event:*")
		for i := range uint32(maxPulls) {
			raw := a.mark(1+i, flood.sign("deploy", string(aPayload(int(i), 600))))
			if got, want := b.node.takeEvent(incoming{raw: raw}), i < pullsOfOne; got != want {
				t.Fatalf("event %d of one client is taken: %t", i, got)
			}
		}
		c.net.Delay(100*time.Millisecond, 100*time.Millisecond) // the flood's take minutes
		c.settle()
		large := aPayload(1000, 600)
		if err := other.fireLarge(a, "deploy", large); err != nil {
			t.Fatal(err)
		}
		time.Sleep(8 * time.Second)
		wantSums(t, []string{sumOf("deploy", large)}, b)
		b.node.pulls.clients.mu.Lock()
		defer b.node.pulls.clients.mu.Unlock()
		if has := b.node.pulls.clients.has; has[[32]byte(flood.public())] != pullsOfOne || len(has) != 1 {
			t.Errorf("clients are counted as %v, want %d of one", has, pullsOfOne)
		}
	})
}
