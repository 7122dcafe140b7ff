package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/secgossip/secgossip/internal/link"
	"github.com/secgossip/secgossip/secgossip"
)

// coalesced runs a story in virtual time and returns what is delivered: "3s member-join a b".
func coalesced(t *testing.T, story func(add func(kind string, names ...string))) (got []string, c *coalescer) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		c = newCoalescer(func(kind string, members []secgossip.Member) {
			var names []string
			for _, m := range members {
				names = append(names, m.Name)
			}
			got = append(got, fmt.Sprintf("%v %s %s", time.Since(begin), kind, strings.Join(names, " ")))
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { c.run(ctx); close(done) }()
		story(func(kind string, names ...string) {
			for _, name := range names {
				c.add(kind, secgossip.Member{Name: name})
			}
		})
		time.Sleep(time.Minute)
		cancel()
		<-done
	})
	return got, c
}

func wantDelivered(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestMemberEventsOfAWaveAreOneOfEachKind(t *testing.T) {
	got, _ := coalesced(t, func(add func(string, ...string)) {
		add("member-join", "b", "a", "d")
		add("member-failed", "d") // the newest counts
	})
	wantDelivered(t, got, "1s member-failed d", "1s member-join a b")
}

func TestLongWaveOfMemberEventsIsDeliveredInTime(t *testing.T) {
	got, _ := coalesced(t, func(add func(string, ...string)) {
		for i := range 8 {
			add("member-join", fmt.Sprint("n", i))
			time.Sleep(700 * time.Millisecond)
		}
	})
	wantDelivered(t, got, "3s member-join n0 n1 n2 n3 n4", "5.9s member-join n5 n6 n7")
}

func TestSameMemberEventTwiceIsNoNewsAndUpdatesAre(t *testing.T) {
	got, c := coalesced(t, func(add func(string, ...string)) {
		for _, kind := range []string{"member-join", "member-join", "member-update", "member-update", "member-failed", "member-reap"} {
			add(kind, "a")
			time.Sleep(10 * time.Second)
		}
	})
	wantDelivered(t, got, "1s member-join a", "21s member-update a", "31s member-update a", "41s member-failed a", "51s member-reap a")
	if len(c.last) != 0 {
		t.Errorf("of a member that was reaped %v is remembered", c.last)
	}
}

// An eviction is told beside what Serf calls it, each time that there is one.
func TestEvictionIsToldBesideSerfsKinds(t *testing.T) {
	got, _ := coalesced(t, func(add func(string, ...string)) {
		for range 2 {
			add("member-join", "a")
			time.Sleep(10 * time.Second)
			add("member-evict", "a")
			add("member-failed", "a")
			time.Sleep(10 * time.Second)
		}
	})
	wantDelivered(t, got, "1s member-join a", "11s member-evict a", "11s member-failed a",
		"21s member-join a", "31s member-evict a", "31s member-failed a")
}

// gathered runs a story of events in virtual time and returns what is delivered, as
// "1s deploy:2", and what a later event stood for.
func gathered(t *testing.T, story func(add func(name string, ltime uint64, payload string), c *eventCoalescer)) (got, leftOut []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		c := newEventCoalescer(func(e secgossip.Event) {
			got = append(got, fmt.Sprintf("%v %s:%s", time.Since(begin), e.Name, e.Payload))
		}, func(e secgossip.Event) { leftOut = append(leftOut, e.Name+":"+string(e.Payload)) })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { c.run(ctx); close(done) }()
		story(func(name string, ltime uint64, payload string) {
			c.add(secgossip.Event{Name: name, LTime: ltime, Payload: []byte(payload), Coalesce: true})
		}, c)
		time.Sleep(time.Minute)
		cancel()
		<-done
	})
	return got, leftOut
}

func TestOfCoalescedEventsTheLatestOfANameIsDelivered(t *testing.T) {
	got, leftOut := gathered(t, func(add func(string, uint64, string), _ *eventCoalescer) {
		add("deploy", 1, "old")
		add("restart", 1, "other")
		add("deploy", 3, "new")
		add("deploy", 2, "late")
		add("deploy", 3, "of the same time")
	})
	wantDelivered(t, got, "1s restart:other", "1s deploy:new", "1s deploy:of the same time")
	wantDelivered(t, leftOut, "deploy:old", "deploy:late")
}

func TestCoalescedEventsThatDoNotStopAreDeliveredInTime(t *testing.T) {
	got, _ := gathered(t, func(add func(string, uint64, string), _ *eventCoalescer) {
		for i := range uint64(8) {
			add("deploy", i, fmt.Sprint(i))
			time.Sleep(700 * time.Millisecond)
		}
	})
	wantDelivered(t, got, "3s deploy:4", "5.9s deploy:7")
}

// Threat C10: whoever may fire events of any name makes an agent gather no more than
// this, and loses none of them.
func TestFullWaveOfEventsIsDeliveredAtOnce(t *testing.T) {
	got, leftOut := gathered(t, func(add func(string, uint64, string), _ *eventCoalescer) {
		for i := range maxGathered + 1 {
			add(fmt.Sprint("n", i), 1, "")
		}
		add("large", 1, strings.Repeat("x", maxGatheredBytes))
	})
	if len(got) != maxGathered+2 || len(leftOut) != 0 {
		t.Fatalf("%d are delivered and %d left out, want %d and none", len(got), len(leftOut), maxGathered+2)
	}
	for _, g := range got {
		if !strings.HasPrefix(g, "0s ") {
			t.Fatalf("got %.40q, want it at once", g)
		}
	}
}

func TestOnlyEventsThatMayBeAndLiveOnAreGathered(t *testing.T) {
	now := time.Now()
	c := newEventCoalescer(nil, nil)
	for _, row := range []struct {
		coalesce bool
		life     time.Duration
		want     bool
	}{{true, time.Minute, true}, {false, time.Minute, false}, {true, 4 * time.Second, false}, {true, -time.Second, false}} {
		if got := c.gathers(secgossip.Event{Coalesce: row.coalesce, Expires: now.Add(row.life)}, now); got != row.want {
			t.Errorf("coalesce %t, ends in %v: gathered %t, want %t", row.coalesce, row.life, got, row.want)
		}
	}
}

func TestWhatIsGatheredIsDeliveredWhenTheAgentStops(t *testing.T) {
	got, _ := gathered(t, func(add func(string, uint64, string), c *eventCoalescer) {
		add("deploy", 1, "pending")
		c.stop()
		add("deploy", 2, "after that")
	})
	wantDelivered(t, got, "0s deploy:pending", "0s deploy:after that")
	var members []string
	c := newCoalescer(func(kind string, all []secgossip.Member) { members = append(members, kind+" "+all[0].Name) })
	c.add("member-join", secgossip.Member{Name: "a"})
	c.stop()
	c.add("member-leave", secgossip.Member{Name: "a"})
	wantDelivered(t, members, "member-join a", "member-leave a")
}

// Streams get an event that may be coalesced when its wave is over, and any other at once.
func TestStreamsAreToldOfCoalescedEventsWhenTheirWaveIsOver(t *testing.T) {
	trust := newCluster(t, "demo").trust
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		go io.Copy(io.Discard, theirs)
		o := &observer{runner: newRemote(link.New(ours, link.Network)), hub: newHub(), logger: slog.New(slog.DiscardHandler), nowFunc: time.Now}
		o.runner.know(trust)
		o.gather()
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { o.events.run(ctx) })
		s := subscribe(t, o.hub)
		told := func() []string { synctest.Wait(); records, _ := s.take(); return names(records) }
		for i, name := range []string{"deploy", "now", "deploy"} {
			o.UserEvent(secgossip.Event{
				Name: name, LTime: uint64(i + 1), Coalesce: name == "deploy", Expires: time.Now().Add(time.Minute), Raw: []byte("raw"),
			})
		}
		wantDelivered(t, told(), "now")
		time.Sleep(quiescent)
		wantDelivered(t, told(), "deploy")
		if got := o.coalesced.Load(); got != 1 {
			t.Errorf("%d events are counted as left out, want 1", got)
		}
		cancel()
		running.Wait()
		_ = o.runner.link.Close()
		theirs.Close()
	})
}
