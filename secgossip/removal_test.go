package secgossip

import (
	"crypto/sha256"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/secgossip/secgossip/rpcauth"
)

// removal signs that a host is gone, by what another holds of it.
func (c *client) removal(by *host, name string, prune bool) []byte {
	c.c.t.Helper()
	for _, m := range by.node.Members() {
		if m.Name == name {
			return must(rpcauth.SignRemoval(c.key, c.token, rpcauth.RemovalRequest{
				Cluster: c.c.root.Trust().Cluster(), Node: name, Key: sha256.Sum256(m.Key[:]), Sequence: m.Sequence, Prune: prune,
			}, time.Now()))(c.c.t)
		}
	}
	c.c.t.Fatalf("%s knows no %s", by.name, name)
	return nil
}

// gone starts three hosts, of which d then fails.
func (c *cluster) gone() (a, b, d *host, operator *client) {
	a, b, d = c.three()
	d.crash()
	time.Sleep(30 * time.Second)
	if got, want := b.statuses(), "a alive, b alive, d failed"; got != want {
		c.t.Fatalf("b sees %q, want %q", got, want)
	}
	return a, b, d, c.client("operator", rpcauth.Grant(rpcauth.NodeLeave))
}

func TestFailedMemberIsMadeToLeaveEverywhere(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _, operator := c.gone()
		if status, err := a.node.ForceLeave(operator.removal(a, "d", false), operator.public()); status != StatusLeft || err != nil {
			t.Fatalf("got %q, %v", status, err)
		}
		c.settle()
		for _, h := range []*host{a, b} {
			if got, want := h.statuses(), "a alive, b alive, d left"; got != want {
				t.Errorf("%s sees %q, want %q", h.name, got, want)
			}
			if !slices.Contains(h.seen.memberEvents(), "member-leave d") {
				t.Errorf("%s was told %v", h.name, h.seen.memberEvents())
			}
		}
	})
}

// What everybody knows is passed on no more, whoever says it again in whatever words.
func TestRemovalThatIsSaidAgainIsNotPassedOn(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _, operator := c.gone()
		raw := operator.removal(a, "d", false)
		if _, err := a.node.ForceLeave(raw, operator.public()); err != nil {
			t.Fatal(err)
		}
		again := c.client("other", rpcauth.Grant(rpcauth.NodeLeave)).removal(a, "d", false)
		time.Sleep(10 * time.Second)
		b.node.receiveRemovals([][]byte{raw, again})
		time.Sleep(time.Millisecond)
		for _, h := range []*host{a, b} {
			if n := h.node.removalGossip.queue.NumQueued(); n > 0 {
				t.Errorf("%s passes on %d removals", h.name, n)
			}
			if got := slices.DeleteFunc(h.seen.memberEvents(), func(e string) bool { return e != "member-leave d" }); len(got) != 1 {
				t.Errorf("%s was told %d times that d left, want once", h.name, len(got))
			}
		}
	})
}

func TestPrunedMemberIsForgottenEverywhereAndComesBack(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d, operator := c.gone()
		if status, err := b.node.ForceLeave(operator.removal(b, "d", true), operator.public()); status != "" || err != nil {
			t.Fatalf("got %q, %v", status, err)
		}
		time.Sleep(5 * time.Minute) // syncs of those who have forgotten and who have not
		for _, h := range []*host{a, b} {
			if got, want := h.statuses(), "a alive, b alive"; got != want {
				t.Errorf("%s sees %q, want %q", h.name, got, want)
			}
			if h.node.roster.Get("d") != nil {
				t.Errorf("%s still holds the record of d", h.name)
			}
			if !slices.Contains(h.seen.memberEvents(), "member-reap d") {
				t.Errorf("%s was told %v", h.name, h.seen.memberEvents())
			}
		}
		d.start().join(a)
		c.wantBack(a, b, d)
	})
}

// Threat C19: a removal is said again when its node is back, or where it never went away.
func TestRemovalSaysNothingAboutALaterLife(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d, operator := c.gone()
		raw := operator.removal(a, "d", true)
		d.start().join(a)
		c.wantBack(a, b, d)
		d.crash()
		time.Sleep(30 * time.Second)
		if _, err := a.node.ForceLeave(raw, operator.public()); !errors.Is(err, ErrAlive) {
			t.Errorf("got %v, want ErrAlive", err)
		}
		for _, h := range []*host{a, b} {
			h.node.receiveRemovals([][]byte{raw})
		}
		c.settle()
		if got, want := b.statuses(), "a alive, b alive, d failed"; got != want {
			t.Errorf("b sees %q, want %q", got, want)
		}
	})
}

func TestLiveMemberRefutesItsRemoval(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		operator := c.client("operator", rpcauth.Grant(rpcauth.NodeLeave))
		raw := operator.removal(a, "d", true)
		if _, err := a.node.ForceLeave(raw, operator.public()); !errors.Is(err, ErrAlive) {
			t.Errorf("got %v, want ErrAlive", err)
		}
		before := d.node.self.current()
		for _, h := range []*host{a, b, d} {
			h.node.receiveRemovals([][]byte{raw})
		}
		c.settle()
		if slices.Equal(before, d.node.self.current()) {
			t.Error("d signed no newer record")
		}
		time.Sleep(time.Minute)
		d.crash() // now it is gone, and still not removed
		time.Sleep(30 * time.Second)
		for _, h := range []*host{a, b} {
			if got, want := h.statuses(), "a alive, b alive, d failed"; got != want {
				t.Errorf("%s sees %q, want %q", h.name, got, want)
			}
		}
	})
}

func TestRemovalNeedsItsClientAndAMember(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d, operator := c.gone()
		other := c.client("other", rpcauth.Grant(rpcauth.Monitor))
		if _, err := a.node.ForceLeave(other.removal(a, "d", false), other.public()); !errors.Is(err, rpcauth.ErrGrant) {
			t.Errorf("without the grant: got %v", err)
		}
		b.node.receiveRemovals([][]byte{other.removal(a, "d", false)})
		if _, err := a.node.ForceLeave(operator.removal(a, "d", false), other.public()); !errors.Is(err, ErrNotYours) {
			t.Errorf("signed by another: got %v", err)
		}
		raw := operator.removal(a, "d", false)
		for i := range raw {
			forged := slices.Clone(raw)
			forged[i] ^= 1
			if _, err := a.node.ForceLeave(forged, operator.public()); err == nil {
				t.Errorf("byte %d flipped: taken", i)
			}
		}
		unknown := must(rpcauth.SignRemoval(operator.key, operator.token, rpcauth.RemovalRequest{
			Cluster: c.root.Trust().Cluster(), Node: "nobody", Sequence: 1,
		}, time.Now()))(t)
		if _, err := a.node.ForceLeave(unknown, operator.public()); !errors.Is(err, ErrUnknownMember) {
			t.Errorf("nobody: got %v", err)
		}
		time.Sleep(rpcauth.RemovalLife)
		if _, err := a.node.ForceLeave(raw, operator.public()); !errors.Is(err, rpcauth.ErrExpired) {
			t.Errorf("an old one: got %v", err)
		}
		if got, want := b.statuses(), "a alive, b alive, d failed"; got != want {
			t.Errorf("b sees %q, want %q", got, want)
		}
		_ = d
	})
}

func TestMembersThatAreGoneAreForgottenInTime(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.host("a"), c.host("b"), c.host("d")
		a.settings = func(c *Config) { c.ReconnectTimeout, c.TombstoneTimeout = 10*time.Minute, 5*time.Minute }
		a.start()
		b.start().join(a)
		d.start().join(a)
		c.settle()
		if err := b.node.Leave(); err != nil {
			t.Fatal(err)
		}
		c.settle()
		b.stop()
		d.crash()
		for _, step := range []struct {
			after time.Duration
			want  string
		}{{4 * time.Minute, "a alive, b left, d failed"}, {2 * time.Minute, "a alive, d failed"}, {5 * time.Minute, "a alive"}} {
			time.Sleep(step.after)
			if got := a.statuses(); got != step.want {
				t.Errorf("got %q, want %q", got, step.want)
			}
		}
		if got := len(a.node.roster.All()); got != 1 {
			t.Errorf("the roster holds %d nodes", got)
		}
		d.start().join(a)
		c.wantBack(a, d)
	})
}

func TestMemberThatComesAndGoesIsNamed(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, _, d := c.three()
		for i := range maxFlaps {
			if m, _ := a.node.member("d"); m.Flapping {
				t.Errorf("after %d flaps it is named", i)
			}
			d.crash()
			time.Sleep(20 * time.Second)
			d.start().join(a)
			c.settle()
		}
		if m, _ := a.node.member("d"); !m.Flapping {
			t.Errorf("d is %+v, want it to flap", m)
		}
		if got := a.node.Figures().Counters["flaps"]; got != maxFlaps {
			t.Errorf("got %d flaps, want %d", got, maxFlaps)
		}
		time.Sleep(flapsWithin)
		if m, _ := a.node.member("d"); m.Flapping {
			t.Error("an hour later it is still named")
		}
	})
}

// Threat C03: with a sequence that none is above, a node would never be heard again.
func TestSequenceFarAheadSilencesNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		raw, err := d.node.self.sign(math.MaxInt64-2, false, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range []*host{a, b} {
			if _, err := h.node.roster.Admit(raw, time.Now()); err == nil {
				t.Errorf("%s took it", h.name)
			}
		}
		d.crash()
		d.start().join(a)
		c.wantBack(a, b, d)
	})
}
