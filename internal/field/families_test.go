package field

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/secgossip/secgossip/internal/lab"
)

// Hosts with one family each, and one with both between them. The two that
// cannot reach each other are vouched for by the third, and hear what it passes
// on.
func TestHostsOfEitherFamilyAreOneCluster(t *testing.T) {
	f := newField(t, "b", "c")
	a := f.add("a", "203.0.113.1/24", "2001:db8::1/64")
	b, c := f.add("b", "203.0.113.2/24"), f.add("c", "2001:db8::3/64")
	f.start(a, "[::]:7946")
	f.start(b, "0.0.0.0:7946", "--join", a.at())
	f.start(c, "[::]:7946", "--join", "[2001:db8::1]:7946")
	f.awaitAlive()
	f.everybodyHears("at first")
	for _, want := range []struct {
		from *host
		of   string
		at   string
	}{{a, "b", "203.0.113.2"}, {a, "c", "2001:db8::3"}, {b, "a", "203.0.113.1"}, {c, "a", "2001:db8::1"}} {
		f.await(lab.Patience, func(ctx context.Context) error {
			members, err := f.members(ctx, want.from)
			if err != nil {
				return err
			}
			if got := members[want.of]; got.Addr != netip.MustParseAddr(want.at) || got.Path != udp {
				return fmt.Errorf("%s reaches %s at %s by %q, want %s by udp", want.from.name, want.of, got.Addr, got.Path, want.at)
			}
			return nil
		})
	}
	// Long enough for several probes each way, which all fail directly.
	f.awaitProbes(b, 10)
	f.awaitProbes(c, 10)
	f.awaitAlive()
	f.awaitPaths(a, map[string]string{"b": udp, "c": udp})
	f.awaitPaths(b, map[string]string{"a": udp, "c": ""})
	f.awaitPaths(c, map[string]string{"a": udp, "b": ""})
	f.everybodyHears("later")
	f.nobodyFailed()
}

// awaitProbes waits until so many more packets have come to a host.
func (f *field) awaitProbes(h *host, more uint64) {
	f.Helper()
	before, err := f.Counters(f.Context(), keeper, h.Node)
	f.must(err)
	f.await(lab.Patience, func(ctx context.Context) error {
		now, err := f.Counters(ctx, keeper, h.Node)
		if err != nil {
			return err
		}
		if got := now["packets_received"] - before["packets_received"]; got < more {
			return fmt.Errorf("%d more packets have come to %s, want %d", got, h.name, more)
		}
		return nil
	})
}
