package places

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestSourcesAreAddressesOrSixtyFours(t *testing.T) {
	tcp := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	for claim, test := range map[string]struct {
		a, b net.Addr
		same bool
	}{
		"two ports":                     {tcp("192.0.2.1:1"), tcp("192.0.2.1:2"), true},
		"two IPv4 addresses":            {tcp("192.0.2.1:1"), tcp("192.0.2.2:1"), false},
		"an IPv4 address in two shapes": {tcp("192.0.2.1:1"), tcp("[::ffff:192.0.2.1]:1"), true},
		"one IPv6 network":              {tcp("[2001:db8::1]:1"), tcp("[2001:db8::ffff:1]:1"), true},
		"two IPv6 networks":             {tcp("[2001:db8::1]:1"), tcp("[2001:db8:0:1::1]:1"), false},
		"an IPv6 zone":                  {tcp("[fe80::1%one]:1"), tcp("[fe80::1]:1"), true},
		"both families":                 {tcp("192.0.2.1:1"), tcp("[2001:db8::1]:1"), false},
		"no addresses":                  {&net.UnixAddr{Name: "x"}, &net.UnixAddr{Name: "y"}, true},
	} {
		if got := sourceOf(test.a) == sourceOf(test.b); got != test.same {
			t.Errorf("%s: one source is %v, want %v", claim, got, test.same)
		}
	}
}

func TestRecentSourcesAreForgotten(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	source := netip.MustParsePrefix("192.0.2.1/32")
	for after, want := range map[time.Duration]bool{0: true, 59 * time.Minute: true, time.Hour: true, 119 * time.Minute: true, 2 * time.Hour: false, 24 * time.Hour: false} {
		var r Recent
		if r.Has(source, start) {
			t.Error("it is there before it came")
		}
		r.Add(source, start)
		if got := r.Has(source, start.Add(after)); got != want {
			t.Errorf("after %v: remembered is %v, want %v", after, got, want)
		}
	}
}

// Threat N08: a source that comes back is remembered on, and whoever has many
// sources takes no memory.
func TestRecentSourcesAreBounded(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var r Recent
	for i := range 10 * maxRecent {
		r.Add(netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.0/32", i>>8, i%256)), start)
		if got := len(r.current) + len(r.previous); got > 2*maxRecent {
			t.Fatalf("%d are remembered, want at most %d", got, 2*maxRecent)
		}
	}
	source := netip.MustParsePrefix("192.0.2.1/32")
	for hour := range 10 {
		now := start.Add(time.Duration(hour) * time.Hour)
		if hour > 0 && !r.Has(source, now) {
			t.Errorf("hour %d: it is forgotten", hour)
		}
		r.Add(source, now)
	}
}
