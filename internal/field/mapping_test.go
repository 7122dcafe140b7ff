package field

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/secgossip/secgossip/internal/lab"
)

// mapped is the port of the router that is mapped to the host behind it.
const mapped = "203.0.113.9:17946"

// behindRouter makes a host with a private address whose only way out is a
// router. The router maps one port, UDP and TCP, to the host, and lets whatever
// leaves seem to come from itself.
func (f *field) behindRouter(name string) *host {
	router, inner := f.add("router", "203.0.113.9/24"), f.add(name)
	f.ip(router,
		"link add inside type veth peer name outside netns "+inner.Namespace.Name,
		"addr add 192.168.7.1/24 dev inside", "link set inside up")
	f.ip(inner,
		"link del eth0",
		"addr add 192.168.7.2/24 dev outside", "link set outside up",
		"route add default via 192.168.7.1")
	inner.Addrs = []netip.Prefix{netip.MustParsePrefix("192.168.7.2/24")}
	_, err := router.Namespace.Run(f.Context(), "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
	f.must(err)
	f.must(router.Filter(f.Context(), `table ip field {
	chain in { type nat hook prerouting priority dstnat; iifname eth0 meta l4proto { tcp, udp } th dport 17946 dnat to 192.168.7.2:7946; };
	chain out { type nat hook postrouting priority srcnat; oifname eth0 masquerade; };
}
`))
	return inner
}

// The host behind the router is one that others join by, and one like the others.
func TestHostBehindPortMappingIsAMemberLikeTheOthers(t *testing.T) {
	f := newField(t, "b", "c")
	a, b, c := f.behindRouter("a"), f.add("b", "203.0.113.2/24"), f.add("c", "198.51.100.3/24")
	f.start(a, "0.0.0.0:7946", "--advertise", mapped)
	f.start(b, b.at(), "--join", mapped)
	f.start(c, c.at(), "--join", mapped)
	f.awaitAlive()
	f.everybodyHears("mapped")
	for _, h := range []*host{b, c} {
		f.await(lab.Patience, func(ctx context.Context) error {
			members, err := f.members(ctx, h)
			if err != nil {
				return err
			}
			if got := members["a"]; got.Addr != netip.MustParseAddr("203.0.113.9") || got.Path != udp {
				return fmt.Errorf("%s reaches a at %s by %q, want the router by udp", h.name, got.Addr, got.Path)
			}
			return nil
		})
	}
	f.loggedOnce()
	f.nobodyFailed()
}

// A node that was not told of the mapping answers nobody who comes by it, and the
// one that joins is told what may be the reason.
func TestHostBehindPortMappingThatDoesNotAdvertiseItIsNotJoined(t *testing.T) {
	f := newField(t, "b")
	a, b := f.behindRouter("a"), f.add("b", "203.0.113.2/24")
	f.start(a, "0.0.0.0:7946")
	f.start(b, b.at(), "--retry-join", mapped)
	f.await(lab.Patience, func(context.Context) error {
		if f.logged(b, "nobody answered yet", mapped, "dialled at an address that it does not advertise") == 0 {
			return fmt.Errorf("b has not said why nobody answers")
		}
		return nil
	})
	for _, h := range f.hosts {
		if members, err := f.members(t.Context(), h); err != nil || len(members) != 1 {
			t.Errorf("%s sees %v, %v, want itself alone", h.name, members, err)
		}
	}
}
