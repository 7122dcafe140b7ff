package secgossip

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/secgossip/secgossip/pki"
)

// A keeper that is evicted on one side has rotated on the other, as often or more
// often. When they meet, nobody believes what it said, and all end with one epoch.
func TestWhoFollowedAKeeperThatWasEvictedElsewhereComesBack(t *testing.T) {
	for _, rotations := range []int{1, 2, 3} {
		t.Run(fmt.Sprint(rotations), func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster) {
				a, d, e, x := c.host("a"), c.host("d"), c.host("e"), c.host("x", pki.RoleKeeper)
				a.start()
				for _, h := range []*host{d, e, x} {
					h.start().join(a)
				}
				time.Sleep(time.Minute)
				c.net.Partition([]netip.Addr{a.addr.Addr(), d.addr.Addr()}, []netip.Addr{e.addr.Addr(), x.addr.Addr()})
				time.Sleep(time.Minute)
				for range rotations {
					c.rotate(x)
				}
				a.revoke(VerbEvict, "x")
				time.Sleep(time.Minute)
				c.net.Heal()
				time.Sleep(2 * time.Minute)
				for _, h := range []*host{a, d, e} {
					if got, want := h.statuses(), "a alive, d alive, e alive, x evicted"; got != want {
						t.Errorf("%s sees %q, want %q", h.name, got, want)
					}
				}
				if a.node.ledger.revoked(mustPrimary(a)) != a.node.revocations.inForce.Load().sum {
					t.Error("the epoch in use does not cover the revocation")
				}
				if got := primaries(a, d, e); len(got) != 1 {
					t.Errorf("they seal with %q, want one epoch: a %s, d %s, e %s", got, a.epochs(), d.epochs(), e.epochs())
				}
			})
		})
	}
}
