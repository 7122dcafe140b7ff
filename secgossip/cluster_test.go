package secgossip

import (
	"slices"
	"sync"
	"testing"
	"time"
)

func TestThreeNodesFindEachOther(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		for _, h := range []*host{a, b, d} {
			if got, want := h.statuses(), "a alive, b alive, d alive"; got != want {
				t.Errorf("%s sees %q, want %q", h.name, got, want)
			}
		}
	})
}

func TestTagsReachTheOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.host("a"), c.host("b")
		a.start("role", "web", "zone", "x=1,y")
		b.start().join(a)
		c.settle()
		for _, m := range b.node.Members() {
			if m.Name == "a" && (m.Tags["role"] != "web" || m.Tags["zone"] != "x=1,y") {
				t.Errorf("b sees tags %v of a", m.Tags)
			}
		}
	})
}

func TestCrashedNodeIsDeclaredFailed(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		d.crash()
		time.Sleep(time.Minute)
		for _, h := range []*host{a, b} {
			if got, want := h.statuses(), "a alive, b alive, d failed"; got != want {
				t.Errorf("%s sees %q, want %q", h.name, got, want)
			}
			if !slices.Contains(h.seen.memberEvents(), "member-failed d") {
				t.Errorf("%s was told %v", h.name, h.seen.memberEvents())
			}
		}
	})
}

func TestNodeThatLeavesIsNotCalledFailed(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		if err := d.node.Leave(); err != nil {
			t.Fatal(err)
		}
		c.settle()
		d.stop()
		time.Sleep(time.Minute)
		for _, h := range []*host{a, b} {
			if got, want := h.statuses(), "a alive, b alive, d left"; got != want {
				t.Errorf("%s sees %q, want %q", h.name, got, want)
			}
			if slices.Contains(h.seen.memberEvents(), "member-failed d") {
				t.Errorf("%s was told %v", h.name, h.seen.memberEvents())
			}
		}
	})
}

func TestNodeThatLeftComesBack(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		if err := d.node.Leave(); err != nil {
			t.Fatal(err)
		}
		c.settle()
		d.stop()
		time.Sleep(time.Minute)
		d.start().join(a)
		c.settle()
		if got, want := b.statuses(), "a alive, b alive, d alive"; got != want {
			t.Errorf("b sees %q, want %q", got, want)
		}
	})
}

func TestNodeThatLeftMayComeBackAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		if err := d.node.Leave(); err != nil {
			t.Fatal(err)
		}
		d.stop()
		time.Sleep(time.Millisecond) // no process starts in the one in which another has ended
		d.start().join(a)
		c.settle()
		for _, h := range []*host{a, b, d} {
			if got, want := h.statuses(), "a alive, b alive, d alive"; got != want {
				t.Errorf("%s sees %q, want %q", h.name, got, want)
			}
		}
	})
}

func TestRestartedNodeIsHeardAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		d.crash()
		d.start().join(a)
		c.settle()
		for _, h := range []*host{a, b, d} {
			if got, want := h.statuses(), "a alive, b alive, d alive"; got != want {
				t.Errorf("%s sees %q, want %q", h.name, got, want)
			}
		}
		time.Sleep(time.Minute)
		if slices.Contains(b.seen.memberEvents(), "member-failed d") {
			t.Errorf("b was told %v: the packets of the new start were not understood", b.seen.memberEvents())
		}
	})
}

// A host whose clock was ahead in an earlier life signs records that are older
// than what the cluster holds. It must overtake them, not stay unheard.
func TestNodeWithItsClockSetBackIsHeard(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		// The earlier life: a record from an hour ahead.
		raw, err := d.node.self.sign(uint64(time.Now().Add(time.Hour).UnixMilli()), false, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range []*host{a, b} {
			if _, err := h.node.roster.Admit(raw, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		d.crash()
		d.start().join(a)
		time.Sleep(time.Minute)
		if got, want := b.statuses(), "a alive, b alive, d alive"; got != want {
			t.Errorf("b sees %q, want %q", got, want)
		}
		if peer := b.node.roster.Get("d"); peer.Record.Boot != d.node.self.boot {
			t.Error("b still holds the record of d's earlier life")
		}
	})
}

func TestMemberOfAnotherClusterIsNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.host("a").start()
		other := newCluster(t, "demo") // the same name, another root
		other.net.Close()
		other.net = c.net
		defer func() {
			for _, h := range other.hosts {
				h.stop()
			}
		}()
		x := other.host("x")
		x.addr = c.host("spare").addr
		x.start()
		if n, err := x.node.Join(t.Context(), []string{a.addr.String()}); err == nil {
			t.Errorf("joined %d nodes of another cluster", n)
		}
		c.settle()
		if got, want := a.statuses(), "a alive"; got != want {
			t.Errorf("a sees %q, want %q", got, want)
		}
		if got := a.node.transport.Counters()["strangers_dropped"]; got == 0 {
			t.Error("the stranger was not counted")
		}
	})
}

func TestJoinSaysWhyNobodyAnswered(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.host("a").start()
		for _, address := range []string{"203.0.113.77:7946", "203.0.113.77:notaport", "203.0.113.77:0", "203.0.113.77:65536", ":7946", ""} {
			if n, err := a.node.Join(t.Context(), []string{address}); err == nil {
				t.Errorf("%q: joined %d nodes", address, n)
			}
		}
	})
}

func TestLossOfOnePacketInFiveFailsNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		c.net.Loss(0.2)
		time.Sleep(10 * time.Minute)
		for _, h := range []*host{a, b, d} {
			for _, event := range h.seen.memberEvents() {
				if event[:len("member-failed")] == "member-failed" {
					t.Errorf("%s was told %q", h.name, event)
				}
			}
		}
	})
}

func TestPartitionHeals(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		c.net.Block(a.addr.Addr(), d.addr.Addr())
		c.net.Block(d.addr.Addr(), a.addr.Addr())
		c.net.Block(b.addr.Addr(), d.addr.Addr())
		c.net.Block(d.addr.Addr(), b.addr.Addr())
		time.Sleep(20 * time.Second)
		if got, want := a.statuses(), "a alive, b alive, d failed"; got != want {
			t.Errorf("during the partition a sees %q, want %q", got, want)
		}
		c.net.Unblock(a.addr.Addr(), d.addr.Addr())
		c.net.Unblock(d.addr.Addr(), a.addr.Addr())
		c.net.Unblock(b.addr.Addr(), d.addr.Addr())
		c.net.Unblock(d.addr.Addr(), b.addr.Addr())
		time.Sleep(time.Minute)
		if got, want := a.statuses(), "a alive, b alive, d alive"; got != want {
			t.Errorf("after the partition a sees %q, want %q", got, want)
		}
	})
}

func TestAllNodesMayLeaveAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		var group sync.WaitGroup
		for _, h := range []*host{a, b, d} {
			group.Go(func() {
				if err := h.node.Leave(); err != nil {
					t.Errorf("%s: %v", h.name, err)
				}
			})
		}
		group.Wait()
	})
}

// A host is set up anew under another name, at the address that it had.
func TestNewNameAtTheAddressOfAnotherIsAMemberBesideIt(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		d.crash()
		e := c.host("e")
		e.addr = d.addr
		e.start().join(a)
		time.Sleep(30 * time.Second)
		for _, h := range []*host{a, b, e} {
			if got, want := h.statuses(), "a alive, b alive, d failed, e alive"; got != want {
				t.Errorf("%s sees %q, want %q", h.name, got, want)
			}
		}
		if err := c.client("memo", "event:*").fire(b, "deploy", "v1"); err != nil {
			t.Fatal(err)
		}
		c.settle()
		if got := e.seen.names(); len(got) != 1 {
			t.Errorf("e got %d events, want 1", len(got))
		}
	})
}

func TestNodeMayBeClosedTwice(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.host("a").start()
		for range 2 {
			if err := a.node.Close(); err != nil {
				t.Errorf("got %v", err)
			}
		}
	})
}
