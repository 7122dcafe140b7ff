package transport

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// crowd is strangers' connections to one node, in the order of their arrival.
type crowd []net.Conn

// join has so many strangers connect from an address, each saying something.
func (all *crowd) join(t *testing.T, c *cluster, many int, from string, to *node, says func() []byte) {
	t.Helper()
	for range many {
		conn := dialFrom(t, c, from, to)
		conn.Write(says())
		*all = append(*all, conn)
		synctest.Wait()
	}
}

func (all crowd) close() {
	for _, conn := range all {
		conn.Close()
	}
}

// open counts the connections that are open, and checks that none got a byte.
func (all crowd) open(t *testing.T) (n int) {
	t.Helper()
	for _, conn := range all {
		conn.SetReadDeadline(time.Now().Add(time.Nanosecond))
		switch got := hearOut(conn); {
		case len(got.bytes) != 0:
			t.Errorf("a stranger got %x", got.bytes)
		case isTimeout(got.err):
			n++
		}
		conn.SetReadDeadline(time.Time{})
	}
	return n
}

func silence() []byte { return nil }

// Threat N08: one source cannot use up what there is for all.
func TestOneSourceGetsItsShareOfConnections(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		var held crowd
		held.join(t, c, strangersPerSource, "198.51.100.66", b, silence)
		if got := held.open(t); got != strangersPerSource {
			t.Errorf("%d of the share are open, want %d", got, strangersPerSource)
		}
		held.join(t, c, 1, "198.51.100.66", b, silence)
		if got := hearOut(held[0]); got.after != 0 || len(got.bytes) != 0 {
			t.Errorf("with one too many, the oldest was closed after %v, want at once", got.after)
		}
		if got := held.open(t); got != strangersPerSource {
			t.Errorf("%d are open with one too many, want %d", got, strangersPerSource)
		}
		b.counts("one too many", nil, map[string]uint64{"strangers_dropped": 1})
		// Somebody else is served meanwhile.
		if _, err := a.Sync(t.Context(), b.to()); err != nil {
			t.Errorf("a member from elsewhere: %v", err)
		}
		time.Sleep(knockTimeout)
		synctest.Wait()
		if got := held.open(t); got != 0 {
			t.Errorf("%d are open after %v", got, knockTimeout)
		}
		held.close()
	})
}

// Threat N08: strangers from anywhere never have more than is theirs, a member's
// place is kept for it, and so is its time.
func TestStrangersTogetherAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		var held crowd
		defer func() { held.close() }()
		for i := range 2 * maxStrangers {
			held.join(t, c, 1, fmt.Sprintf("198.51.%d.%d", i%100, i/100+1), b, silence)
		}
		const most = maxStrangers - strangersReserved
		if got := held.open(t); got != most {
			t.Errorf("%d strangers are connected, want %d", got, most)
		}
		if got := held[len(held)-most:].open(t); got != most {
			t.Errorf("%d of the newest %d are connected", got, most)
		}
		if got := b.strangers.Held(); got != most {
			t.Errorf("%d places are taken, want %d", got, most)
		}
		b.counts("so many", nil, map[string]uint64{"strangers_dropped": 2*maxStrangers - most})
		before := b.Counters()
		if _, err := a.Sync(t.Context(), b.to()); err != nil {
			t.Errorf("a member: %v", err)
		}
		b.counts("a member among them", before, map[string]uint64{"streams_accepted": 1})
		held.close()
		synctest.Wait()
		if got := b.strangers.Held(); got != 0 {
			t.Errorf("%d places are taken when all are gone", got)
		}
	})
}

// Threat N08: a node that nobody knows yet gets in while strangers hold all that
// strangers may, come back at once, and share its address.
func TestNewcomerGetsInThroughACrowd(t *testing.T) {
	for claim, test := range map[string]struct {
		from func(i int) string
		says func(c *cluster) func() []byte
	}{
		"silent, from everywhere":      {everywhere, func(*cluster) func() []byte { return silence }},
		"half a knock":                 {everywhere, func(c *cluster) func() []byte { return func() []byte { return c.nodes["b"].validKnock()[:16] } }},
		"a knock and then nothing":     {everywhere, func(c *cluster) func() []byte { return c.nodes["b"].validKnock }},
		"silent, from its own address": {func(int) string { return "203.0.113.2" }, func(*cluster) func() []byte { return silence }},
		"a knock, from its address":    {func(int) string { return "203.0.113.2" }, func(c *cluster) func() []byte { return c.nodes["b"].validKnock }},
	} {
		inBubble(t, func(t *testing.T, c *cluster) {
			b := c.node("b").start()
			x := c.node("x")
			x.start().learn(b)
			var held crowd
			for i := range maxStrangers {
				held.join(t, c, 1, test.from(i), b, test.says(c))
			}
			c.net.Delay(20*time.Millisecond, 20*time.Millisecond)
			// One more of them every 100 ms: 20 times what it takes to hold a share
			// that is given back after knockTimeout, or for a source eight times.
			stop := make(chan struct{})
			done := make(chan struct{})
			go func() {
				defer close(done)
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(100 * time.Millisecond):
						conn := dialFrom(t, c, test.from(i), b)
						conn.Write(test.says(c)())
						held = append(held, conn)
					}
				}
			}()
			for range 3 {
				if _, err := x.Sync(t.Context(), b.to()); err != nil {
					t.Errorf("%s: %v", claim, err)
				}
				time.Sleep(time.Second)
			}
			close(stop)
			<-done
			held.close()
			synctest.Wait()
			b.nothingLogged(claim)
		})
	}
}

// everywhere is another source for each of 200.
func everywhere(i int) string { return fmt.Sprintf("198.51.%d.1", i%200) }

// Whoever has knocked stays while others at its address say nothing.
func TestSilentOnesMakeRoomFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		b := c.node("b").start()
		var held crowd
		held.join(t, c, 1, "198.51.100.66", b, c.nodes["b"].validKnock)
		held.join(t, c, 3*strangersPerSource, "198.51.100.66", b, silence)
		if got := hearOut(held[0]); got.after != handshakeTimeout {
			t.Errorf("it was closed after %v, want %v", got.after, handshakeTimeout)
		}
		held.close()
	})
}

// Threat N08: whoever says the least first, or says it as slowly as it may, is
// gone within 6 seconds and has got nothing.
func TestNobodyStaysUnproven(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		b := c.node("b").start()
		hello := clientHello(t)
		for claim, says := range map[string]func(conn net.Conn){
			"a knock at the last moment": func(conn net.Conn) {
				time.Sleep(knockTimeout - time.Millisecond)
				conn.Write(c.nodes["b"].validKnock())
			},
			"a hello byte for byte": func(conn net.Conn) {
				conn.Write(c.nodes["b"].validKnock())
				for _, one := range hello {
					time.Sleep(10 * time.Millisecond)
					conn.Write([]byte{one})
				}
			},
			"a record of 16 KiB that does not come": func(conn net.Conn) {
				conn.Write(append(c.nodes["b"].validKnock(), 22, 3, 1, 0x40, 0))
			},
			"a message of 16 MiB that does not come": func(conn net.Conn) {
				conn.Write(append(c.nodes["b"].validKnock(), 22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff))
			},
			"a frame of 20 MiB": func(conn net.Conn) {
				conn.Write([]byte{byte(wire.FrameHello), 1, 0x40, 0, 0})
			},
		} {
			conn := dialFrom(t, c, "198.51.100.66", b)
			go says(conn)
			if got := hearOut(conn); got.after > 6*time.Second || len(got.bytes) > 7 || isTimeout(got.err) {
				t.Errorf("%s: closed after %v with %x, %v; want it within 6 s", claim, got.after, got.bytes, got.err)
			}
			conn.Close()
			time.Sleep(time.Minute) // whoever still writes finds it closed
		}
		if got := b.strangers.Held(); got != 0 {
			t.Errorf("%d places are taken", got)
		}
	})
}

// A source is known by the signed record of a member, and by where a packet or a
// stream of its came from, and no longer than that.
func TestSourcesOfMembersAreKnown(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.node("a"), c.node("b").start()
		record := netip.MustParsePrefix("198.51.100.7/32")
		own := netip.PrefixFrom(a.addr.Addr(), 32)
		a.endpoints = []netip.AddrPort{netip.MustParseAddrPort("198.51.100.7:7946"), netip.MustParseAddrPort("198.51.100.7:7947")}
		a.start().learn(b)
		known := func(when string, want ...netip.Prefix) {
			t.Helper()
			for _, source := range []netip.Prefix{record, own} {
				if got := b.sources.known(source); got != slices.Contains(want, source) {
					t.Errorf("%s: %s is known: %v", when, source, got)
				}
			}
		}
		known("at first")
		b.learn(a)
		known("by its record", record)
		a.gossip(b, ackOf(1))
		known("by a packet", record, own)
		a.endpoints = []netip.AddrPort{a.addr}
		a.say(func(*wire.Record) {})
		b.learn(a)
		known("in its next record", own)
		b.sources.seen("a", record)
		a.endpoints = []netip.AddrPort{netip.MustParseAddrPort("203.0.113.99:7946")}
		a.say(func(*wire.Record) {})
		b.learn(a)
		known("where it is seen now", record)
		b.sources.seen("a", own)
		known("when it is seen elsewhere", own)

		x := c.node("x")
		x.endpoints = a.endpoints
		x.start().learn(b)
		if b.sources.known(netip.PrefixFrom(x.addr.Addr(), 32)) {
			t.Error("x is known before it came")
		}
		if _, err := x.Sync(t.Context(), b.to()); err != nil {
			t.Fatal(err)
		}
		if !b.sources.known(netip.PrefixFrom(x.addr.Addr(), 32)) {
			t.Error("x is not known where its stream came from")
		}
		if got := len(b.sources.members); got != 2 {
			t.Errorf("b follows %d nodes, want 2", got)
		}
	})
}

// Threats K01, N08: whoever has the knock secret and starts one handshake after
// the other delays a member by less than anybody notices.
func TestHandshakesOfAThiefDelayNoMember(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		hello := clientHello(t)
		var held crowd
		for i := range maxStrangers {
			held.join(t, c, 1, everywhere(i), b, func() []byte { return append(c.nodes["b"].validKnock(), hello...) })
		}
		start := time.Now()
		if _, err := a.Sync(t.Context(), b.to()); err != nil || time.Since(start) != 0 {
			t.Errorf("a member: %v after %v", err, time.Since(start))
		}
		for i := range 50 { // they go on while members come
			held.join(t, c, 1, everywhere(i), b, func() []byte { return append(c.nodes["b"].validKnock(), hello...) })
			if _, err := a.Sync(t.Context(), b.to()); err != nil {
				t.Errorf("a member: %v", err)
			}
		}
		held.close()
		synctest.Wait()
		if got := b.strangers.Held(); got != 0 {
			t.Errorf("%d places are taken when all are gone", got)
		}
	})
}
