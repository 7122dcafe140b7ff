package transport

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// The rest of the tests run over a network in memory. These run over the host's
// own sockets, and show that the two do not differ.

// onLoopback starts two nodes that know each other over real sockets.
func onLoopback(t *testing.T, bindA, bindB, reachB string) (a, b *node) {
	t.Helper()
	c := newCluster(t, "demo")
	a, b = c.node("a"), c.node("b")
	for n, bind := range map[*node]string{a: bindA, b: bindB} {
		n.network, n.addr = Host{}, netip.MustParseAddrPort(bind)
		listener, err := n.network.Listen(n.addr)
		if err != nil {
			t.Skipf("no loopback of this family: %v", err)
		}
		listener.Close()
		n.start()
	}
	a.endpoints = []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), a.Port())}
	b.endpoints = []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(reachB), b.Port())}
	for _, n := range []*node{a, b} {
		n.say(func(*wire.Record) {})
	}
	a.learn(b)
	b.learn(a)
	return a, b
}

// received waits for one packet, as memberlist does.
func (n *node) received() []byte {
	n.t.Helper()
	select {
	case p := <-n.PacketCh():
		return p.Buf
	case <-n.t.Context().Done():
		n.t.Fatal("nothing arrived")
		return nil
	}
}

func TestRealSocketsCarryPacketsAndStreams(t *testing.T) {
	for claim, test := range map[string]struct{ bindA, bindB, reachB string }{
		"IPv4":                     {"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1"},
		"any IPv4 address":         {"0.0.0.0:0", "127.0.0.1:0", "127.0.0.1"},
		"IPv4 to both families":    {"127.0.0.1:0", "[::]:0", "127.0.0.1"},
		"both families to IPv4":    {"[::]:0", "127.0.0.1:0", "127.0.0.1"},
		"both families among them": {"[::]:0", "[::]:0", "::1"},
	} {
		t.Run(claim, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			a, b := onLoopback(t, test.bindA, test.bindB, test.reachB)
			defer a.stop()
			defer b.stop()
			for i := range uint32(3) {
				if _, err := a.WriteToAddress(ackOf(i), b.to()); err != nil {
					t.Fatal(err)
				}
				if got := b.received(); !bytes.Equal(got, ackOf(i)) {
					t.Errorf("b was given %x", got)
				}
				// Now b knows where a is, whatever a's record says.
				if _, err := b.WriteToAddress(ackOf(i), a.to()); err != nil {
					t.Fatal(err)
				}
				a.received()
			}
			at := b.Seen(b.of(a)).Endpoint
			if at.Addr().Is4In6() || at.Port() != a.Port() || !at.Addr().IsLoopback() {
				t.Errorf("b reaches a at %s", at)
			}
			here, there := connect(t, a, b)
			if _, err := here.Write([]byte("\x00hello")); err != nil {
				t.Fatal(err)
			}
			here.Close()
			if got, err := io.ReadAll(there); string(got) != "\x00hello" || err != nil {
				t.Errorf("read %q, %v", got, err)
			}
			there.Close()
		})
	}
}

// Threats N02, N10 over real sockets: no byte for a stranger, on either port.
func TestRealSocketsAreSilentToStrangers(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	a, b := onLoopback(t, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1")
	defer a.stop()
	defer b.stop()

	stranger := must(net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(b.endpoints[0])))(t)
	defer stranger.Close()
	for _, size := range []int{1, 64, 128, 1216, 1217, 9000} {
		if _, err := stranger.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	// Datagrams on one loopback stay in order: once this one has arrived, so
	// have those before it.
	if _, err := a.WriteToAddress(ackOf(1), b.to()); err != nil {
		t.Fatal(err)
	}
	b.received()
	b.counts("datagrams of a stranger", nil, map[string]uint64{"packets_received": 1, "drop_size": 3, "drop_door": 3})
	stranger.SetReadDeadline(time.Now().Add(time.Millisecond))
	if n, err := stranger.Read(make([]byte, 1500)); !isTimeout(err) {
		t.Errorf("the stranger got %d bytes, %v", n, err)
	}

	for _, says := range [][]byte{make([]byte, wire.KnockSize), []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\nand more")} {
		conn := must(net.Dial("tcp", b.endpoints[0].String()))(t)
		conn.Write(says)
		if got := hearOut(conn); len(got.bytes) != 0 {
			t.Errorf("the stranger got %q", got.bytes)
		}
		conn.Close()
	}
	b.nothingLogged("strangers")
}

// Nothing waits for a peer that is gone.
func TestRealSocketsCloseInTheMiddleOfAStream(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	a, b := onLoopback(t, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1")
	here, there := connect(t, a, b)
	done := make(chan struct{})
	go func() {
		asMemberlist(there)
		close(done)
	}()
	silent := must(net.Dial("tcp", b.endpoints[0].String()))(t)
	b.stop()
	<-done
	if got := hearOut(silent); len(got.bytes) != 0 {
		t.Errorf("a stranger got %q at the end", got.bytes)
	}
	silent.Close()
	asMemberlist(here)
	a.stop()
}
