package secgossip

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/secgossip/internal/guard"
)

// Of a member that is gone already everybody was told that it is. That it is evicted is
// news all the same.
func TestEvictionOfAMemberThatFailedIsToldAsThatAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		d.crash()
		time.Sleep(time.Minute)
		a.revoke(VerbEvict, "d")
		c.settle()
		for _, h := range []*host{a, b} {
			got := slices.DeleteFunc(h.seen.memberEvents(), func(e string) bool { return e[len(e)-1] != 'd' })
			if want := []string{"member-join d", "member-failed d", "member-evict d"}; !slices.Equal(got, want) {
				t.Errorf("%s was told %q, want %q", h.name, got, want)
			}
		}
	})
}

func TestNodesTellEveryStepOfAnEpochsLife(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		c.rotate(a)
		d.stop()
		a.revoke(VerbEvict, "d")
		c.settle()
		want := []string{
			`install 2 by "a" for "operator"`, `use 2 by "a" for "operator"`, `remove 1 by "a" for "init"`,
			`install 3 by "a" for "revocation"`, `use 3 by "a" for "revocation"`, `remove 2 by "a" for "operator"`,
		}
		for _, h := range []*host{a, b} {
			if got := h.seen.epochEvents(); !slices.Equal(got, want) {
				t.Errorf("%s was told %q, want %q", h.name, got, want)
			}
		}
		b.stop()
		b.seen.epochs = nil
		b.start().join(a)
		c.settle()
		if got := b.seen.epochEvents(); len(got) > 0 {
			t.Errorf("after a restart b is told %q as news", got)
		}
	})
}

// slow is an observer that a test holds up.
type slow struct {
	*recorder
	hold chan struct{}
}

func (s slow) UserEvent(e Event) {
	<-s.hold
	s.recorder.UserEvent(e)
}

// An event that was accepted comes from nobody again: it is told though the node stops.
func TestWhatWasAcceptedIsToldThoughTheNodeStops(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, hold := c.host("a"), make(chan struct{})
		a.settings = func(config *Config) { config.Observer = slow{a.seen, hold} }
		a.start()
		memo := c.client("memo", "event:*")
		for i := range 10 {
			if err := memo.fire(a, "deploy", string(rune('0'+i))); err != nil {
				t.Fatal(err)
			}
		}
		time.AfterFunc(time.Second, func() { close(hold) })
		a.stop()
		if got := len(a.seen.names()); got != 10 {
			t.Errorf("%d of 10 events are told", got)
		}
	})
}

// watch returns what a host thinks of a member for so long: each status once, in order.
func (h *host) watch(name string, d time.Duration) (seen []Status) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		for _, m := range h.node.Members() {
			if m.Name == name && (len(seen) == 0 || seen[len(seen)-1] != m.Status) {
				seen = append(seen, m.Status)
			}
		}
	}
	return seen
}

// sees waits half a minute until a host thinks so of a member.
func (h *host) sees(name string, want Status) bool {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if m, ok := h.node.member(name); ok && m.Status == want {
			return true
		}
	}
	return false
}

func TestMemberIsSuspectBeforeItFails(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		c.net.Host(d.addr.Addr()).Kill()
		if got, want := a.watch("d", 30*time.Second), []Status{StatusAlive, StatusSuspect, StatusFailed}; !slices.Equal(got, want) {
			t.Errorf("a sees d %q, want %q", got, want)
		}
		if got := b.node.Info()["gossip"]; got["members"] != "3" || got["failed"] != "1" || got["suspect"] != "0" {
			t.Errorf("b counts %s members, %s failed and %s suspect", got["members"], got["failed"], got["suspect"])
		}
	})
}

// A member that is suspected in the wrong says so, and is talked to all the while.
func TestSuspectMemberThatIsThereIsAliveAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, _, d := c.three()
		c.net.Partition([]netip.Addr{d.addr.Addr()})
		if !a.sees("d", StatusSuspect) {
			t.Fatalf("a sees %q, and never that d is suspect", a.statuses())
		}
		if m, _ := a.node.member("d"); len(a.node.livePeers()) != 2 || m.Path == "" {
			t.Errorf("a talks to %d, and to d by %q", len(a.node.livePeers()), m.Path)
		}
		c.net.Heal()
		if !a.sees("d", StatusAlive) {
			t.Errorf("a sees %q, and never that d is alive", a.statuses())
		}
		if got := slices.Index(a.seen.memberEvents(), "member-failed d"); got >= 0 {
			t.Error("a was told that d failed")
		}
	})
}

func TestMemberThatHasSignedThatItGoesIsLeavingUntilItHas(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, _, d := c.three()
		if err := d.node.leaveRecord(); err != nil {
			t.Fatal(err)
		}
		if _, err := a.node.transport.Sync(t.Context(), memberlist.Address{Name: "d"}); err != nil {
			t.Fatal(err)
		}
		for _, h := range []*host{a, d} {
			if got, want := h.statuses(), "a alive, b alive, d leaving"; got != want {
				t.Errorf("%s sees %q, want %q", h.name, got, want)
			}
		}
		if err := d.node.Leave(); err != nil {
			t.Fatal(err)
		}
		c.settle()
		if got, want := a.statuses(), "a alive, b alive, d left"; got != want {
			t.Errorf("a sees %q, want %q", got, want)
		}
	})
}

// memberlist may forget to pass on that a member is alive again. No suspicion outlasts its
// own limit for that.
func TestNoSuspicionOutlastsItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMembership(func(int) time.Duration { return 24 * time.Second })
		m.set("d", StatusAlive, nil)
		m.claimed([]guard.Claim{{Node: "d", Incarnation: 1}, {Node: "d", Incarnation: 1, Suspect: true}})
		time.Sleep(23 * time.Second)
		m.claimed([]guard.Claim{{Node: "d", Incarnation: 1, Suspect: true}}) // with every probe
		if !m.suspect("d") {
			t.Error("d is not suspect")
		}
		time.Sleep(time.Second)
		if m.suspect("d") {
			t.Error("d is suspect for ever")
		}
	})
}
