package transport

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

func TestKnockWithAFlippedBitOpensNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		b := c.node("b").start()
		knock := b.validKnock()
		try := func(says []byte) []byte {
			conn := dialFrom(t, c, "198.51.100.66", b)
			defer conn.Close()
			conn.Write(append(says, clientHello(t)...))
			return hearOut(conn).bytes
		}
		for bit := range len(knock) * 8 {
			flipped := bytes.Clone(knock)
			flipped[bit/8] ^= 1 << (bit % 8)
			if got := try(flipped); len(got) != 0 {
				t.Fatalf("with bit %d flipped it is answered with %d bytes", bit, len(got))
			}
		}
		// All that shows something because the knock itself is answered, once.
		if got := try(knock); len(got) == 0 {
			t.Error("the knock as it was is not answered")
		}
		if got := try(knock); len(got) != 0 {
			t.Errorf("the knock is answered a second time, with %d bytes", len(got))
		}
	})
}

// A knock that was recorded opens nothing, as long as its time is accepted.
func TestReplayedKnockOpensNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		tap := &tappedNetwork{Network: a.network}
		a.config.Network = tap
		if _, err := a.Sync(t.Context(), b.to()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		recorded := tap.first(wire.KnockSize)
		start := time.Now()
		for _, age := range []time.Duration{0, time.Second, wire.KnockTolerance, 2 * wire.KnockTolerance, 2*wire.KnockTolerance + time.Second, time.Hour} {
			time.Sleep(time.Until(start.Add(age)))
			before := b.Counters()
			conn := dialFrom(t, c, a.addr.Addr().String(), b)
			conn.Write(append(bytes.Clone(recorded), clientHello(t)...))
			if got := hearOut(conn); len(got.bytes) != 0 || got.after != 0 {
				t.Errorf("%v later: answered with %d bytes after %v", age, len(got.bytes), got.after)
			}
			conn.Close()
			synctest.Wait()
			want := map[string]uint64{"strangers_dropped": 1}
			if age > wire.KnockTolerance {
				want["knocks_untimely"] = 1
			}
			b.counts(fmt.Sprint(age), before, want)
		}
	})
}

// Threat N10: a knock is for one listener. Who records one on its way to a node
// gets no byte out of any other with it, though both are of one cluster.
func TestKnockRecordedAtOneNodeOpensNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		d := c.node("d").start()
		tap := &tappedNetwork{Network: a.network}
		a.config.Network = tap
		for claim, join := range map[string]memberlist.Address{"by name": b.to(), "by address": {Addr: b.addr.String()}} {
			tap.written.Reset()
			if _, err := a.Sync(t.Context(), join); err != nil {
				t.Fatal(err)
			}
			before := d.Counters()
			conn := dialFrom(t, c, a.addr.Addr().String(), d)
			conn.Write(append(bytes.Clone(tap.first(wire.KnockSize)), clientHello(t)...))
			if got := hearOut(conn); len(got.bytes) != 0 || got.after != 0 {
				t.Errorf("%s: answered with %d bytes after %v", claim, len(got.bytes), got.after)
			}
			conn.Close()
			synctest.Wait()
			d.counts(claim, before, map[string]uint64{"strangers_dropped": 1})
		}
	})
}

// Behind port mapping a node is dialled at an address it does not have. It knows
// that one because it tells others about it.
func TestKnockForAnAdvertisedAddressIsAnswered(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.node("a").start(), c.node("b").start()
		outside := netip.MustParseAddrPort("198.51.100.7:17946")
		a.config.Network = &mappedNetwork{Network: a.network, from: outside, to: b.addr}
		seed := memberlist.Address{Addr: outside.String()}
		if _, err := a.Sync(t.Context(), seed); err == nil {
			t.Error("b answers to an address that it does not know as its own")
		}
		b.endpoints = []netip.AddrPort{outside}
		b.say(func(*wire.Record) {})
		if _, err := a.Sync(t.Context(), seed); err != nil {
			t.Errorf("b does not answer to the address it tells others: %v", err)
		}
	})
}

// mappedNetwork is behind a router that maps one address to another.
type mappedNetwork struct {
	Network
	from, to netip.AddrPort
}

func (n *mappedNetwork) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	if addr == n.from {
		addr = n.to
	}
	return n.Network.Dial(ctx, addr)
}

func TestKnocksAreRememberedWhileTheyAreValid(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	for skew := -wire.KnockTolerance; skew <= wire.KnockTolerance; skew += 10 * time.Second {
		for first := time.Duration(0); first < 5*wire.KnockTolerance; first += 7 * time.Second {
			m := newKnockMemory()
			m.first(wire.Knock{Millis: 1}, start) // when generations begin
			seen := start.Add(first)
			knock := wire.Knock{Millis: uint64(seen.Add(skew).UnixMilli())}
			if !m.first(knock, seen) {
				t.Fatalf("a new knock after %v is taken for a known one", first)
			}
			for now := seen; !now.After(seen.Add(skew + wire.KnockTolerance)); now = now.Add(5 * time.Second) {
				if m.first(knock, now) {
					t.Fatalf("a knock of %v is forgotten %v later", skew, now.Sub(seen))
				}
			}
		}
	}
}

func TestMemoryOfKnocksIsBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	m := newKnockMemory()
	for i := range uint64(maxKnocks) {
		if !m.first(wire.Knock{Millis: i}, now) {
			t.Fatalf("knock %d is refused", i)
		}
	}
	if m.first(wire.Knock{Millis: maxKnocks}, now) {
		t.Error("one more is accepted: it would not be remembered")
	}
	later := now.Add(2 * wire.KnockTolerance)
	if !m.first(wire.Knock{Millis: maxKnocks}, later) || m.first(wire.Knock{Millis: 1}, later) {
		t.Error("after a generation: a new knock is refused, or an old one accepted")
	}
	if m.first(wire.Knock{Millis: maxKnocks}, later.Add(2*wire.KnockTolerance)) {
		t.Error("a generation later the knock is forgotten")
	}
	if got := len(m.current) + len(m.previous); got > maxKnocks {
		t.Errorf("%d knocks are remembered", got)
	}
}

// tappedNetwork keeps what is written to the streams it dials.
type tappedNetwork struct {
	Network
	written bytes.Buffer
}

func (n *tappedNetwork) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	conn, err := n.Network.Dial(ctx, addr)
	return &tappedConn{Conn: conn, written: &n.written}, err
}

func (n *tappedNetwork) first(size int) []byte { return n.written.Bytes()[:size] }

type tappedConn struct {
	net.Conn
	written *bytes.Buffer
}

func (c *tappedConn) Write(b []byte) (int, error) {
	c.written.Write(b)
	return c.Conn.Write(b)
}
