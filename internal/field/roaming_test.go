package field

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/secgossip/secgossip/internal/lab"
)

// b's host is moved to another network while its agent runs. Those who talk to it
// follow, everybody hears of its new address, and it stays the same member.
func TestHostThatMovesIsFollowed(t *testing.T) {
	f := newField(t, "b", "c")
	a, b, c := f.add("a", "203.0.113.1/24"), f.add("b", "203.0.113.2/24"), f.add("c", "198.51.100.3/24")
	f.start(a, a.at())
	f.start(b, "0.0.0.0:7946", "--join", a.at())
	f.start(c, c.at(), "--join", a.at())
	f.awaitAlive()
	f.everybodyHears("at home")

	// With the last address of an interface go its routes.
	f.ip(b, "addr add 192.0.2.2/24 dev eth0", "addr del 203.0.113.2/24 dev eth0")
	moved := netip.MustParseAddr("192.0.2.2")
	f.awaitSeenAt(moved, b, a, c) // by its packets
	f.await(movedWithin, func(context.Context) error {
		if f.logged(b, "this host has other addresses now", moved.String()) != 1 {
			return errors.New("b has not said, once, that it has other addresses")
		}
		return nil
	})
	f.awaitSeenAt(moved, b, a, b, c)
	f.everybodyHears("on the road")
	f.awaitPaths(a, map[string]string{"b": udp, "c": udp})
	f.awaitPaths(b, map[string]string{"a": udp, "c": udp})
	f.awaitPaths(c, map[string]string{"a": udp, "b": udp})
	f.nobodyFailed()
}

// awaitSeenAt waits until a host is alive at an address, as others see it.
func (f *field) awaitSeenAt(addr netip.Addr, of *host, by ...*host) {
	f.Helper()
	f.await(lab.Patience, func(ctx context.Context) error {
		for _, h := range by {
			members, err := f.members(ctx, h)
			if err != nil {
				return err
			}
			if got := members[of.name]; got.Addr != addr || got.Status != "alive" {
				return fmt.Errorf("as %s sees it %s is %s at %s, want it alive at %s", h.name, of.name, got.Status, got.Addr, addr)
			}
		}
		return nil
	})
}
