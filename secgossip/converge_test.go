package secgossip

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/secgossip/secgossip/pki"
)

// primaries is the epoch each host seals with, by number and fingerprint.
func primaries(hosts ...*host) (all []string) {
	for _, h := range hosts {
		for _, e := range h.node.Epochs() {
			if e.Primary {
				all = append(all, fmt.Sprint(e.Number, " ", e.Fingerprint))
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// wantOne checks that all hosts seal with one epoch, that everybody sees everybody
// alive, and that an event from each reaches all.
func (c *cluster) wantOne(hosts ...*host) {
	c.t.Helper()
	if got := primaries(hosts...); len(got) != 1 {
		c.t.Errorf("the hosts seal with %q, want one epoch", got)
	}
	client := c.client("memo", "event:*")
	for _, h := range hosts {
		for _, m := range h.node.Members() {
			if !m.Status.IsLive() {
				c.t.Errorf("%s sees %s %s", h.name, m.Name, m.Status)
			}
		}
		if err := client.fire(h, "from-"+h.name, ""); err != nil {
			c.t.Fatal(err)
		}
	}
	c.settle()
	for _, h := range hosts {
		for _, from := range hosts {
			if !slices.Contains(h.seen.names(), "from-"+from.name+":") {
				c.t.Errorf("%s did not hear %s", h.name, from.name)
			}
		}
	}
}

// Both take the same number, and everybody hears of one first and then of the other.
func TestTwoKeepersThatRotateAtOnceEndWithOneEpoch(t *testing.T) {
	for seed := range 4 {
		inBubble(t, func(t *testing.T, c *cluster) {
			c.net.Delay(time.Millisecond, time.Duration(5+seed)*time.Millisecond)
			a, b, d := c.host("a"), c.host("b", pki.RoleKeeper), c.host("d")
			a.start()
			b.start().join(a)
			d.start().join(a)
			c.settle()
			var both sync.WaitGroup
			for _, keeper := range []*host{a, b} {
				both.Go(func() {
					if _, err := keeper.node.Rotate(t.Context(), func(Progress) {}); err != nil {
						t.Errorf("%s: %v", keeper.name, err)
					}
				})
			}
			both.Wait()
			time.Sleep(10 * time.Second)
			c.wantOne(a, b, d)
		})
	}
}

// A story: the network is cut in two, and each part has a keeper that rotates. When
// it is whole again, the cluster is too, whichever part rotated more often.
func TestPartsThatRotatedByThemselvesBecomeOne(t *testing.T) {
	for _, rotations := range [][2]int{{1, 1}, {1, 3}, {4, 1}} {
		t.Run(fmt.Sprint(rotations), func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster) {
				a, b, d, e := c.host("a"), c.host("b", pki.RoleKeeper), c.host("d"), c.host("e")
				a.start()
				for _, h := range []*host{b, d, e} {
					h.start().join(a)
				}
				c.settle()
				c.net.Partition([]netip.Addr{a.addr.Addr(), d.addr.Addr()}, []netip.Addr{b.addr.Addr(), e.addr.Addr()})
				time.Sleep(time.Minute) // each part has declared the other failed
				for range rotations[0] {
					c.rotate(a)
				}
				time.Sleep(3 * time.Minute)
				for range rotations[1] {
					c.rotate(b)
				}
				c.net.Heal()
				time.Sleep(2 * reconnectInterval)
				c.wantOne(a, b, d, e)
			})
		})
	}
}

// A keeper was cut off before it could say that its epoch is to be used; the others
// went on with one of the same number. Whichever counts, all of them use it.
func TestEpochThatWasNotSaidToBeUsedTakesThePlaceOfOneThatIs(t *testing.T) {
	var counted [2]int // whose epoch it was
	for range 5 {
		inBubble(t, func(t *testing.T, c *cluster) {
			a, b, d := c.host("a"), c.host("b", pki.RoleKeeper), c.host("d")
			a.start()
			b.start().join(a)
			d.start().join(a)
			c.settle()
			c.net.Partition([]netip.Addr{b.addr.Addr()})
			time.Sleep(time.Minute)
			c.rotate(a)
			if _, _, err := b.node.beginEpoch("operator"); err != nil {
				t.Fatal(err)
			}
			before := primaries(a)
			c.net.Heal()
			time.Sleep(healed)
			c.wantOne(a, b, d)
			if slices.Equal(before, primaries(a)) {
				counted[0]++
			} else {
				counted[1]++
			}
		})
	}
	t.Logf("the epoch in use stayed %d times, the other took its place %d times", counted[0], counted[1])
}
