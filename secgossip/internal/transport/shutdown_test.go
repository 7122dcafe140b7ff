package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/secgossip/internal/seal"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// countedNetwork knows what it opened and was not closed.
type countedNetwork struct {
	Network
	open atomic.Int64
}

func (n *countedNetwork) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	conn, err := n.Network.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return n.count(conn), nil
}

func (n *countedNetwork) Listen(addr netip.AddrPort) (net.Listener, error) {
	listener, err := n.Network.Listen(addr)
	return &countedListener{Listener: listener, net: n}, err
}

func (n *countedNetwork) count(conn net.Conn) net.Conn {
	n.open.Add(1)
	return &countedConn{Conn: conn, net: n}
}

type countedListener struct {
	net.Listener
	net *countedNetwork
}

func (l *countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.net.count(conn), nil
}

type countedConn struct {
	net.Conn
	net  *countedNetwork
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.net.open.Add(-1) })
	return c.Conn.Close()
}

// asMemberlist serves a stream the way memberlist does: it reads, and closes.
func asMemberlist(conn net.Conn) {
	io.Copy(io.Discard, conn)
	conn.Close()
}

func TestShutdownInTheMiddleOfEverythingLeavesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d, x := c.node("a").start(), c.node("b"), c.node("d").start(), c.node("x").start()
		counted := &countedNetwork{Network: b.network}
		b.network = counted
		b.start().learn(a, d, x)
		for _, n := range []*node{a, d, x} {
			n.learn(b)
		}
		var others sync.WaitGroup // who waits for b, or is served by it
		defer others.Wait()

		// Strangers: silent, half a knock, a knock and no TLS, half of TLS.
		hello := clientHello(t)
		for _, says := range [][]byte{nil, make([]byte, 5), b.validKnock(), append(b.validKnock(), hello[:20]...), append(b.validKnock(), hello...)} {
			conn := dialFrom(t, c, "198.51.100.66", b)
			conn.Write(says)
			others.Go(func() { asMemberlist(conn) })
		}
		// Members: in a sync, in the hands of memberlist, and waiting for it.
		stalled := x.proveTo(b)
		stalled.Write([]byte{byte(wire.FrameHello), 0})
		others.Go(func() { asMemberlist(stalled.NetConn()) })
		here, there := connect(t, a, b)
		others.Go(func() { asMemberlist(here) })
		others.Go(func() { asMemberlist(there) })
		waiting, err := d.DialAddressTimeout(b.to(), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		others.Go(func() { asMemberlist(waiting) })
		// b's own: a stream it dialled, a dial that gets nowhere, a sync with a
		// member that does not answer, packets, new records, new epochs.
		own, ownThere := connect(t, b, d)
		others.Go(func() { asMemberlist(own) })
		others.Go(func() { asMemberlist(ownThere) })
		hole := netip.MustParseAddr("10.0.0.1")
		c.net.Block(b.addr.Addr(), hole)
		x.Transport.listener.Close()
		silent := must(x.network.Listen(x.addr))(t)
		defer silent.Close()
		var failed atomic.Int64
		others.Go(func() {
			if _, err := b.DialTimeout(netip.AddrPortFrom(hole, 1).String(), time.Hour); err != nil {
				failed.Add(1)
			}
		})
		others.Go(func() {
			if _, err := b.Sync(context.Background(), x.to()); err != nil {
				failed.Add(1)
			}
		})
		others.Go(func() {
			if _, err := b.Sync(context.Background(), memberlist.Address{Addr: netip.AddrPortFrom(hole, 1).String()}); err != nil {
				failed.Add(1)
			}
		})
		stop := make(chan struct{})
		others.Go(func() {
			for number := uint64(1); ; number++ {
				select {
				case <-stop:
					return
				default:
				}
				a.WriteToAddress(ackOf(1), b.to())
				b.WriteToAddress(ackOf(1), a.to())
				b.SetEpochs(1, map[uint64]seal.EpochSecret{1: c.epoch, 2: epochSecret{byte(number)}})
				a.say(func(*wire.Record) {})
				b.learn(a)
				time.Sleep(time.Millisecond)
			}
		})
		time.Sleep(50 * time.Millisecond)

		start := time.Now()
		var both sync.WaitGroup
		for range 2 { // memberlist and the node both call it
			both.Go(func() {
				if err := b.Shutdown(); err != nil {
					t.Errorf("Shutdown: %v", err)
				}
			})
		}
		both.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("Shutdown took %v", took)
		}
		if strangers, members := b.strangers.Held(), b.members.InUse(); strangers+members != 0 {
			t.Errorf("Shutdown did not wait for %d strangers and %d members", strangers, members)
		}
		synctest.Wait()
		if got := counted.open.Load(); got != 0 {
			t.Errorf("%d connections are open after Shutdown", got)
		}
		if got := failed.Load(); got != 3 {
			t.Errorf("%d of 3 dials under way ended", got)
		}
		close(stop)

		// What comes afterwards fails, and opens nothing.
		if _, err := b.DialAddressTimeout(a.to(), time.Hour); err == nil {
			t.Error("a dial after Shutdown succeeded")
		}
		if _, err := b.Sync(context.Background(), a.to()); err == nil {
			t.Error("a sync after Shutdown succeeded")
		}
		if _, err := b.WriteToAddress(ackOf(1), a.to()); err == nil {
			t.Error("a packet was sent after Shutdown")
		}
		if err := b.Shutdown(); err != nil {
			t.Errorf("Shutdown once more: %v", err)
		}
		if got := counted.open.Load(); got != 0 {
			t.Errorf("%d connections were opened after Shutdown", got)
		}
		for _, p := range []*node{a, d} {
			if s := b.sessions.get(p.name); s != nil {
				t.Errorf("b still has keys with %s", p.name)
			}
		}
	})
}

func TestConnectionThatComesTooLateIsClosed(t *testing.T) {
	var set connSet
	set.closeAll()
	here, there := net.Pipe()
	if set.add(here) {
		t.Error("it was taken in")
	}
	if _, err := there.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the other end got %v, want EOF", err)
	}
}

func TestKeysAreWipedAtShutdown(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		s := a.sessions.get(b.name)
		shared := s.shared
		a.Shutdown()
		if [32]byte(shared) != [32]byte{} || s.sending.Load() != nil {
			t.Error("keys are left")
		}
	})
}

// brokenNetwork has sockets that fail as often as told.
type brokenNetwork struct {
	Network
	listener brokenListener
	packets  brokenPackets
}

func (n *brokenNetwork) Listen(addr netip.AddrPort) (net.Listener, error) {
	var err error
	n.listener.Listener, err = n.Network.Listen(addr)
	return &n.listener, err
}

func (n *brokenNetwork) ListenPacket(addr netip.AddrPort) (PacketConn, error) {
	var err error
	n.packets.PacketConn, err = n.Network.ListenPacket(addr)
	return &n.packets, err
}

type brokenListener struct {
	net.Listener
	failures, calls atomic.Int64
}

func (l *brokenListener) Accept() (net.Conn, error) {
	l.calls.Add(1)
	if l.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

type brokenPackets struct {
	PacketConn
	failures, calls atomic.Int64
}

func (p *brokenPackets) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	p.calls.Add(1)
	if p.failures.Add(-1) >= 0 {
		return 0, netip.AddrPort{}, &net.OpError{Op: "read", Net: "udp", Err: syscall.ECONNREFUSED}
	}
	return p.PacketConn.ReadFromUDPAddrPort(b)
}

// Out of descriptors is a state that passes.
func TestFailingSocketsAreTriedAgainWithoutSpinning(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.node("a").start(), c.node("b")
		broken := &brokenNetwork{Network: b.network}
		b.network = broken
		broken.listener.failures.Store(20)
		broken.packets.failures.Store(500)
		b.start().learn(a)
		a.learn(b)
		time.Sleep(400 * time.Millisecond)
		if accepts, reads := broken.listener.calls.Load(), broken.packets.calls.Load(); accepts > 5 || reads > 401 {
			t.Errorf("in 0.4s: %d accepts and %d reads of sockets that fail", accepts, reads)
		}
		time.Sleep(2 * time.Second)
		a.gossip(b, ackOf(1))
		if got := len(b.delivered()); got != 1 {
			t.Errorf("%d packets arrived once the socket was well, want 1", got)
		}
		if _, err := a.Sync(t.Context(), b.to()); err != nil {
			t.Errorf("once the listener was well: %v", err)
		}
		// Shutdown does not wait for the pause to end.
		broken.listener.failures.Store(1e9)
		broken.packets.failures.Store(1e9)
		a.WriteToAddress(ackOf(2), b.to())
		a.Sync(t.Context(), b.to())
		synctest.Wait()
		start := time.Now()
		b.Shutdown()
		if took := time.Since(start); took != 0 {
			t.Errorf("Shutdown took %v", took)
		}
	})
}

// Sockets that somebody else closed do not come back.
func TestClosedSocketsEndTheirLoops(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		b := c.node("b").start()
		c.net.Host(b.addr.Addr()).Kill()
		b.receive() // both return
		b.accept()
		if err := b.Shutdown(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Shutdown of closed sockets: %v", err)
		}
	})
}

func TestNewLeavesNothingWhenAPortIsTaken(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		b := c.node("b").start()
		for claim, open := range map[string]func() (io.Closer, error){
			"for streams":   func() (io.Closer, error) { return b.network.Listen(netip.AddrPort{}) },
			"for datagrams": func() (io.Closer, error) { return b.network.ListenPacket(netip.AddrPort{}) },
		} {
			taken := must(open())(t)
			config := b.config
			switch l := taken.(type) {
			case net.Listener:
				config.Bind = l.Addr().(*net.TCPAddr).AddrPort()
			case PacketConn:
				config.Bind = l.LocalAddr().(*net.UDPAddr).AddrPort()
			}
			if _, err := New(config); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("%s: got %v, want address in use", claim, err)
			}
			taken.Close()
			again, err := New(config)
			if err != nil {
				t.Fatalf("%s: when the port is free: %v", claim, err)
			}
			if again.Port() != config.Bind.Port() {
				t.Errorf("%s: it listens on %d, want %d", claim, again.Port(), config.Bind.Port())
			}
			again.Shutdown() // without Start
		}
	})
}
