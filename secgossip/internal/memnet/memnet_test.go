package memnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	addrA = netip.MustParseAddr("192.0.2.1")
	addrB = netip.MustParseAddr("192.0.2.2")
	addrC = netip.MustParseAddr("2001:db8::3")
)

const port = 7946

func at(addr netip.Addr) netip.AddrPort { return netip.AddrPortFrom(addr, port) }

// story runs a test in a bubble, over a network that is closed at its end. The
// bubble fails a test that leaves a goroutine behind.
func story(t *testing.T, test func(t *testing.T, n *Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := New()
		defer n.Close()
		test(t, n)
	})
}

func mustListenPacket(t *testing.T, h *Host) PacketConn {
	t.Helper()
	c, err := h.ListenPacket(at(h.Addr()))
	if err != nil {
		t.Fatalf("ListenPacket on %v: %v", h.Addr(), err)
	}
	return c
}

func mustSend(t *testing.T, from PacketConn, to netip.Addr, text string) {
	t.Helper()
	n, err := from.WriteToUDPAddrPort([]byte(text), at(to))
	if n != len(text) || err != nil {
		t.Fatalf("sending %q to %v: got %d, %v", text, to, n, err)
	}
}

// inbox collects what arrives at a socket, as "sender: text", until it closes.
type inbox struct {
	mu    sync.Mutex
	texts []string
}

func mustCollect(c PacketConn) *inbox {
	box := new(inbox)
	go func() {
		buffer := make([]byte, 2048)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			box.mu.Lock()
			box.texts = append(box.texts, fmt.Sprintf("%v: %s", from.Addr(), buffer[:n]))
			box.mu.Unlock()
		}
	}()
	return box
}

// take lets the network come to rest and returns what arrived since last time.
func (b *inbox) take() []string {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	texts := b.texts
	b.texts = nil
	return texts
}

func wantTexts(t *testing.T, when string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", when, got, want)
	}
}

func mustListen(t *testing.T, h *Host) net.Listener {
	t.Helper()
	l, err := h.Listen(at(h.Addr()))
	if err != nil {
		t.Fatalf("Listen on %v: %v", h.Addr(), err)
	}
	return l
}

// mustConnect opens a stream between two hosts and returns both ends.
func mustConnect(t *testing.T, from, to *Host) (net.Conn, net.Conn) {
	t.Helper()
	l := mustListen(t, to)
	defer l.Close()
	dialled, err := from.Dial(t.Context(), at(to.Addr()))
	if err != nil {
		t.Fatalf("Dial %v: %v", to.Addr(), err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatalf("Accept on %v: %v", to.Addr(), err)
	}
	return dialled, accepted
}

func TestCloseUnblocksEveryCallWithErrClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		a, b := n.Host(addrA), n.Host(addrB)
		packets := mustListenPacket(t, a)
		dialled, accepted := mustConnect(t, a, b)
		listener := mustListen(t, b)
		n.Block(addrB, addrA)

		calls := map[string]func() error{
			"ReadFromUDPAddrPort": func() error { _, _, err := packets.ReadFromUDPAddrPort(nil); return err },
			"Accept":              func() error { _, err := listener.Accept(); return err },
			"Read":                func() error { _, err := dialled.Read(make([]byte, 1)); return err },
			"Write":               func() error { _, err := accepted.Write(make([]byte, streamBuffer+1)); return err },
			"Dial":                func() error { _, err := a.Dial(t.Context(), at(addrB)); return err },
		}
		results := make(map[string]chan error)
		for name, call := range calls {
			result := make(chan error, 1)
			results[name] = result
			go func() { result <- call() }()
		}
		synctest.Wait()
		for name, result := range results {
			if len(result) != 0 {
				t.Fatalf("%s returned %v before Close, want it to wait", name, <-result)
			}
		}
		start := time.Now()
		n.Close()
		for name, result := range results {
			wantError(t, name+" after Close", <-result, net.ErrClosed)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v, want it at once", took)
		}
		_, err := a.ListenPacket(netip.AddrPort{})
		wantError(t, "ListenPacket on a closed network", err, net.ErrClosed)
		_, err = a.Dial(t.Context(), at(addrB))
		wantError(t, "Dial on a closed network", err, net.ErrClosed)
	})
}

func TestCloseLeavesNoTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		a, b := n.Host(addrA), n.Host(addrB)
		dialled, accepted := mustConnect(t, a, b)
		n.Delay(time.Hour, 2*time.Hour)
		for i := range 10 {
			dialled.SetDeadline(time.Now().Add(time.Duration(i) * time.Minute))
		}
		accepted.SetReadDeadline(time.Now())
		mustSend(t, mustListenPacket(t, a), addrB, "on its way")
		start := time.Now()
		n.Close()
		if n.timers != 0 {
			t.Errorf("after Close: %d timers, want 0", n.timers)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("Close waited %v for what was on its way, want it dropped", took)
		}
	})
}

// A seed is of use only if the network draws from nothing else.
func TestSameSeedMakesTheSameChoices(t *testing.T) {
	run := func(seed uint64) (arrived []string) {
		synctest.Test(t, func(t *testing.T) {
			n := New(Seed(seed))
			defer n.Close()
			n.Loss(0.3)
			n.Duplicate(0.3)
			n.Delay(0, time.Second)
			from := mustListenPacket(t, n.Host(addrA))
			box := mustCollect(mustListenPacket(t, n.Host(addrB)))
			for i := range 50 {
				mustSend(t, from, addrB, fmt.Sprint(i))
			}
			time.Sleep(time.Minute)
			arrived = box.take()
		})
		return arrived
	}
	first, again, other := run(7), run(7), run(8)
	if !slices.Equal(first, again) {
		t.Errorf("two runs with seed 7 differ:\n%q\n%q", first, again)
	}
	if slices.Equal(first, other) {
		t.Errorf("seeds 7 and 8 did the same: %q", first)
	}
}

func TestThousandHostsTalkInVirtualTime(t *testing.T) {
	const hosts, partners = 1000, 5
	story(t, func(t *testing.T, n *Network) {
		n.Delay(10*time.Millisecond, 90*time.Millisecond)
		addr := func(i int) netip.Addr {
			i %= hosts
			return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		}
		sockets := make([]PacketConn, hosts)
		boxes := make([]*inbox, hosts)
		for i := range hosts {
			sockets[i] = mustListenPacket(t, n.Host(addr(i)))
			boxes[i] = mustCollect(sockets[i])
		}
		for i, socket := range sockets {
			for step := range partners {
				mustSend(t, socket, addr(i+step+1), "hello")
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := n.Host(addr(i)).Dial(ctx, at(addr(i+1))); err == nil {
				t.Errorf("host %d: dialled a host without listener", i)
			}
			cancel()
		}
		time.Sleep(time.Second)
		for i, box := range boxes {
			if got := len(box.take()); got != partners {
				t.Errorf("host %d: got %d datagrams, want %d", i, got, partners)
			}
		}
	})
}
