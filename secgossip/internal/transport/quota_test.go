package transport

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// Threat N08: one source cannot use up what there is for all.
func TestOneSourceGetsItsShareOfConnections(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		var held []net.Conn
		for range strangersPerSource {
			held = append(held, dialFrom(t, c, "198.51.100.66", b))
		}
		synctest.Wait()
		one := dialFrom(t, c, "198.51.100.66", b)
		if got := hearOut(one); got.after != 0 || len(got.bytes) != 0 {
			t.Errorf("one more was closed after %v", got.after)
		}
		b.counts("one too many", nil, map[string]uint64{"strangers_dropped": 1})
		// Somebody else is served meanwhile.
		if _, err := a.Sync(t.Context(), b.to()); err != nil {
			t.Errorf("a member from elsewhere: %v", err)
		}
		time.Sleep(knockTimeout)
		synctest.Wait()
		before := b.Counters()
		for range strangersPerSource {
			held = append(held, dialFrom(t, c, "198.51.100.66", b))
		}
		synctest.Wait()
		b.counts("the share is there again", before, nil)
		for _, conn := range append(held, one) {
			conn.Close()
		}
	})
}

func TestStrangersTogetherAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		b := c.node("b").start()
		var held []net.Conn
		for i := range maxStrangers {
			held = append(held, dialFrom(t, c, fmt.Sprintf("198.51.%d.1", i), b))
		}
		synctest.Wait()
		b.counts("as many as there may be", nil, nil)
		one := dialFrom(t, c, "192.0.2.1", b)
		if got := hearOut(one); got.after != 0 {
			t.Errorf("one more was closed after %v, want at once", got.after)
		}
		for _, conn := range append(held, one) {
			conn.Close()
		}
		synctest.Wait()
		if b.strangers.inUse != 0 || len(b.strangers.by) != 0 {
			t.Errorf("%d are counted when all are gone", b.strangers.inUse)
		}
	})
}

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

func TestQuotaCountsByHolderAndInAll(t *testing.T) {
	q := newQuota[string](3, 2)
	steps := []struct {
		take bool
		who  string
		want bool
	}{
		{true, "x", true}, {true, "x", true}, {true, "x", false},
		{true, "y", true}, {true, "z", false},
		{false, "x", true}, {true, "z", true}, {true, "x", false},
		{false, "y", true}, {false, "z", true}, {true, "x", true}, {true, "x", false},
	}
	for i, step := range steps {
		if !step.take {
			q.giveBack(step.who)
		} else if got := q.take(step.who); got != step.want {
			t.Fatalf("step %d: %s may have one more: %v, want %v", i, step.who, got, step.want)
		}
	}
	q.giveBack("x")
	q.giveBack("x")
	if q.inUse != 0 || len(q.by) != 0 {
		t.Errorf("%d in use by %v when all is given back", q.inUse, q.by)
	}
}
