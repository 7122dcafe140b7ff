package secgossip

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

func TestEventThatNoDatagramBroughtIsRepaired(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		client := c.client("memo", "event:*")
		c.net.Loss(1)
		for i := range 3 {
			if err := client.fire(a, "deploy", fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(1500 * time.Millisecond)
		if n := a.node.eventGossip.queue.NumQueued(); n > 0 {
			t.Fatalf("%d events are still gossiped: nothing is lost yet", n)
		}
		c.net.Loss(0)
		time.Sleep(10 * time.Second)
		for _, h := range []*host{b, d} {
			if got, want := h.seen.names(), []string{"deploy:0", "deploy:1", "deploy:2"}; !slices.Equal(got, want) {
				t.Errorf("%s got %q, want %q", h.name, got, want)
			}
			if len(h.seen.events) > 0 && h.seen.events[0].Origin != "a" {
				t.Errorf("%s was told that %q took it in, want a", h.name, h.seen.events[0].Origin)
			}
		}
	})
}

// Whoever was away gets what it missed, once and in order; whoever is new gets nothing
// that was fired before.
func TestEventsMissedWhileDownAreDeliveredOnceAndToNoNewcomer(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		client := c.client("memo", "event:*")
		var want []string
		fire := func(n int) { want = client.ticks(a, want, n, 10*time.Millisecond) }
		fire(20)
		c.settle()
		b.crash()
		fire(200)
		time.Sleep(5 * time.Second) // nothing of it is gossiped any more
		b.start().join(d)
		newcomer := c.host("e").start().join(d)
		time.Sleep(15 * time.Second)
		fire(5)
		c.settle()
		for _, h := range []*host{a, b, d} {
			if got := h.seen.names(); !slices.Equal(got, want) {
				t.Errorf("%s got %d events %q, want %d in order", h.name, len(got), got, len(want))
			}
		}
		if got := newcomer.seen.names(); !slices.Equal(got, want[220:]) {
			t.Errorf("the newcomer got %q, want what was fired since", got)
		}
	})
}

// Whoever starts without a journal gets what was fired before only if its settings ask
// for it, and not again when it comes back.
func TestNewcomerThatAsksForOldEventsGetsEachOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		client := c.client("memo", "event:*")
		var want []string
		fire := func(n int) { want = client.ticks(a, want, n, 10*time.Millisecond) }
		fire(100)
		time.Sleep(3 * time.Minute) // longer than clocks may differ; they live for five
		e := c.host("e")
		e.settings = func(config *Config) { config.Replay = true }
		e.start().join(d)
		time.Sleep(10 * time.Second)
		if got := e.seen.names(); !slices.Equal(got, want) {
			t.Errorf("at once it got %d events %q, want %d in order", len(got), got, len(want))
		}
		e.crash()
		fire(20)
		e.start().join(b)
		time.Sleep(10 * time.Second)
		fire(5)
		c.settle()
		for _, h := range []*host{a, e} {
			if got := h.seen.names(); !slices.Equal(got, want) {
				t.Errorf("%s got %d events %q, want %d in order", h.name, len(got), got, len(want))
			}
		}
	})
}

// What a client is told was accepted reaches everybody, however fast it fires.
func TestClientHearsThatTheNodeIsBusyBeforeAnythingIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		client := c.client("memo", "event:*")
		var want []string
		busy := 0
		for i := 0; len(want) < 1500; i++ {
			err := client.fire(a, "tick", fmt.Sprint(i))
			switch {
			case err == nil:
				want = append(want, fmt.Sprintf("tick:%d", i))
			case errors.Is(err, ErrBusy):
				busy++
				time.Sleep(100 * time.Millisecond)
			default:
				t.Fatal(err)
			}
		}
		if busy == 0 {
			t.Error("the node was never busy")
		}
		time.Sleep(20 * time.Second)
		for _, h := range []*host{a, b, d} {
			if got := h.seen.names(); !slices.Equal(got, want) {
				t.Errorf("%s got %d events, want %d in order; %v", h.name, len(got), len(want), h.node.counters())
			}
		}
	})
}

// Threat C04: a member marks an event as another's, or alters a mark.
func TestMarkThatItsOriginDidNotSignIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		raw := c.client("memo", "event:*").sign("deploy", "v1")
		forged := must(wire.MarkEvent(a.identity.Signing, c.root.Trust().Cluster(), wire.Mark{Origin: d.node.selfOrigin(), Sequence: 1}, raw))(t)
		altered := a.mark(1, raw)
		altered[15] ^= 2
		for _, item := range [][]byte{forged, altered} {
			a.node.eventGossip.spread(item)
			a.node.hurry()
		}
		c.settle()
		for _, h := range []*host{b, d} {
			if got := h.seen.names(); len(got) > 0 {
				t.Errorf("%s ran %q", h.name, got)
			}
			if h.node.counts.eventsRefused.Load() < 2 {
				t.Errorf("%s did not count the refusals", h.name)
			}
		}
	})
}

// Threat C10: a member claims sequences that nobody can bring, uses one twice, and
// marks one event many times. It harms the order of its own events and nothing else.
func TestOriginThatLiesAboutSequencesHarmsOnlyItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		client := c.client("memo", "event:*")
		time.Sleep(missingAfter) // b and d miss nothing of before their start
		once := client.sign("once", "")
		a.spreadAs(1, client.sign("first", ""))
		c.settle()
		a.spreadAs(1, client.sign("fork", ""))
		a.spreadAs(1<<32-1, client.sign("huge", ""))
		for i := range uint32(100) {
			a.spreadAs(2+i, once)
		}
		if err := client.fire(d, "honest", ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		got := b.seen.names()
		slices.Sort(got)
		if want := []string{"first:", "fork:", "honest:", "huge:", "once:"}; !slices.Equal(got, want) {
			t.Errorf("b got %q, want %q", got, want)
		}
		counts := &b.node.counts
		if counts.eventsForked.Load() == 0 || counts.eventsMissing.Load() == 0 {
			t.Errorf("b counted %d forked and %d missing, want some", counts.eventsForked.Load(), counts.eventsMissing.Load())
		}
		for origin, o := range b.node.store.origins {
			if len(o.above) > maxBeyond || len(o.held) > 4 {
				t.Errorf("b keeps %d sequences and %d events of %x", len(o.above), len(o.held), origin)
			}
		}
	})
}

// Threat C10: a member without a client's key cannot multiply events by marks.
func TestEventIsPassedOnUnderOneMarkOnly(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		raw := c.client("memo", "event:*").sign("once", "")
		before := b.node.eventGossip.queue.NumQueued()
		for i := range uint32(20) {
			b.node.takeEvent(incoming{raw: a.mark(1+i, raw)})
		}
		if n := b.node.eventGossip.queue.NumQueued() - before; n != 1 {
			t.Errorf("b passes on %d of 20 marks of one event, want 1", n)
		}
	})
}

// Threat C06: an event that its origin counted and gives to nobody is named.
func TestWithheldEventIsNamedAndHoldsUpTheOthersBriefly(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		log := new(logBuffer)
		a, b := c.host("a"), c.host("b")
		b.settings = func(config *Config) { config.Logger = slog.New(slog.NewTextHandler(log, nil)) }
		a.start()
		b.start().join(a)
		client := c.client("memo", "event:*")
		time.Sleep(missingAfter)
		a.spreadAs(1, client.sign("one", ""))
		c.settle()
		a.spreadAs(3, client.sign("three", ""))
		time.Sleep(orderWait / 2)
		if got, want := b.seen.names(), []string{"one:"}; !slices.Equal(got, want) {
			t.Errorf("at first b got %q, want %q", got, want)
		}
		time.Sleep(orderWait)
		if got, want := b.seen.names(), []string{"one:", "three:"}; !slices.Equal(got, want) {
			t.Errorf("then b got %q, want %q", got, want)
		}
		time.Sleep(missingAfter)
		if n := b.node.counts.eventsMissing.Load(); n != 1 {
			t.Errorf("b counted %d missing, want 1", n)
		}
		if got := lines(log, "events are missing", "node=a", "count=1"); len(got) != 1 {
			t.Errorf("b said so %d times, want once", len(got))
		}
	})
}

// What an origin fired before a node's start has expired at some time. It is then neither
// missed nor waited for, whenever the next event comes; a later start is another matter.
func TestEventsFromBeforeAStartAreNotMissedHoweverLateTheNextComes(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.host("a"), c.host("b")
		a.start()
		b.start().join(a)
		client := c.client("memo", "event:*")
		time.Sleep(2 * missingAfter)
		spread := func(sequence uint32, name string) {
			mark := wire.Mark{Origin: a.node.selfOrigin(), Sequence: sequence}
			a.node.eventGossip.spread(must(wire.MarkEvent(a.identity.Signing, c.root.Trust().Cluster(), mark, client.sign(name, "")))(t))
			a.node.hurry()
		}
		spread(5, "five")
		time.Sleep(orderWait + time.Second)
		spread(6, "six")
		time.Sleep(orderWait / 2)
		if got, want := b.seen.names(), []string{"five:", "six:"}; !slices.Equal(got, want) {
			t.Errorf("b got %q, want %q: the second waits for nothing", got, want)
		}
		time.Sleep(2 * missingAfter)
		if n := b.node.counts.eventsMissing.Load(); n != 0 {
			t.Errorf("b counted %d missing, want none", n)
		}
		a.stop()
		a.start().join(b)
		spread(3, "three")
		time.Sleep(2 * missingAfter)
		if n := b.node.counts.eventsMissing.Load(); n != 2 {
			t.Errorf("of a's second start, of which b was to get all, it counted %d missing, want 2", n)
		}
	})
}

// Threat C10: a member that tells tallies without end is answered so often and no more.
func TestFloodOfTalliesIsAnsweredSoOftenAndNoMore(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		if err := c.client("memo", "event:*").fire(b, "deploy", ""); err != nil {
			t.Fatal(err)
		}
		c.settle()
		to := a.node.roster.Get("b")
		nothing := must(wire.Tally{To: [8]byte{255, 255, 255, 255, 255, 255, 255, 255}}.Append(nil))(t)
		sent := b.node.transport.Counters()["packets_sent"]
		for range 1000 {
			a.node.transport.Send(to, wire.PacketTally, nothing)
			time.Sleep(time.Millisecond)
		}
		c.settle()
		if n := b.node.transport.Counters()["packets_sent"] - sent; n > 150 {
			t.Errorf("b sent %d packets in answer to 1000", n)
		}
		if b.node.counts.talliesDropped.Load() < 900 {
			t.Errorf("b counted %d dropped, want more than 900", b.node.counts.talliesDropped.Load())
		}
	})
}

// What has expired before a restart is nobody's, and the members say so: the first event
// after it waits for nothing.
func TestFirstEventAfterARestartWaitsForNothingThatExpired(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		client := c.client("memo", "event:*")
		for range 3 {
			if err := client.fire(a, "before", ""); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(originLife + 2*missingAfter)
		b.crash()
		b.start().join(a)
		c.settle()
		if err := client.fire(a, "after", ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(orderWait / 2)
		if got, want := b.seen.names(), []string{"before:", "before:", "before:", "after:"}; !slices.Equal(got, want) {
			t.Errorf("b got %q, want %q", got, want)
		}
	})
}

// Who fires once a day is as much in order as who fires a hundred times a second.
func TestEventsHoursApartWaitForNothingAndNoneIsMissed(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.host("a"), c.host("b")
		a.start()
		time.Sleep(2 * missingAfter)
		b.start().join(a) // what a fires is from before b's start, what b fires is not from before a's
		client := c.client("memo", "event:*")
		time.Sleep(2 * missingAfter)
		var want []string
		for i := range 3 {
			for _, h := range []*host{a, b} {
				name := fmt.Sprint(h.name, i)
				if err := client.fire(h, name, ""); err != nil {
					t.Fatal(err)
				}
				want = append(want, name+":")
				time.Sleep(orderWait / 2)
				for _, at := range []*host{a, b} {
					if got := at.seen.names(); !slices.Equal(got, want) {
						t.Errorf("%s got %q, want %q", at.name, got, want)
					}
				}
			}
			time.Sleep(originLife + 2*missingAfter)
		}
		for _, h := range []*host{a, b} {
			if n := h.node.counts.eventsMissing.Load(); n != 0 {
				t.Errorf("%s counted %d missing, want none", h.name, n)
			}
		}
	})
}
