package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// A seed is known by its address only, and may be any node of the cluster.
func TestSeedBecomesAMember(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.node("a").start(), c.node("b").start(), c.node("d").start()
		b.learn(d)
		mapped := netip.AddrPortFrom(netip.AddrFrom16(b.addr.Addr().As16()), b.addr.Port())
		for _, seed := range []string{b.addr.String(), mapped.String()} {
			conn, err := a.DialTimeout(seed, 10*time.Second)
			if err != nil {
				t.Fatalf("%s: %v", seed, err)
			}
			(<-b.StreamCh()).Close()
			conn.Close()
		}
		if a.of(b) == nil || a.of(d) == nil || b.of(a) == nil {
			t.Error("the two did not tell each other whom they know")
		}
		if at := a.Seen(a.of(b)).Endpoint; at != b.addr {
			t.Errorf("a reaches b at %s, want %s", at, b.addr)
		}
		a.gossip(b, ackOf(1))
		if got := len(b.delivered()); got != 1 {
			t.Errorf("%d packets arrived after the join, want 1", got)
		}
	})
}

// The certificate must be of the node that was dialled.
func TestNodeAtAnothersAddressIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		d := c.node("d")
		d.boot[0] = 1
		d.endpoints = b.endpoints
		d.show(d.sign(func(*wire.Record) {}))
		a.learn(d)
		// An honest node does not even answer a knock for another.
		_, err := a.DialAddressTimeout(d.to(), 10*time.Second)
		if !errors.Is(err, errNoAnswer) {
			t.Errorf("b was dialled as d: got %v, want errNoAnswer", err)
		}
		b.config.Self = d.name
		_, err = a.DialAddressTimeout(d.to(), 10*time.Second)
		if !errors.Is(err, pki.ErrMismatch) {
			t.Errorf("b answered for d: got %v, want ErrMismatch", err)
		}
		if op, ok := err.(*net.OpError); !ok || op.Op != "dial" || op.Net != "tcp" {
			t.Errorf("got %#v, want a failed dial", err)
		}
	})
}

// A member of a foreign cluster that knows the knock learns and gets nothing.
func TestForeignListenerIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.node("a").start()
		foreign := newCluster(t, "demo")
		foreign.net, foreign.knock = c.net, c.knock
		defer foreign.close()
		x := foreign.node("x")
		x.addr, x.endpoints, x.network = elsewhere, []netip.AddrPort{elsewhere}, c.net.Host(elsewhere.Addr())
		x.start()
		if _, err := a.DialTimeout(elsewhere.String(), 10*time.Second); err == nil {
			t.Error("a joined a foreign cluster")
		}
		if len(a.roster.All()) != 1 || len(x.roster.All()) != 1 {
			t.Error("records went from one cluster to the other")
		}
	})
}

// Whatever the other end does or does not do, a dial ends when it was told to.
func TestPeerThatNeverAnswersCannotHoldADial(t *testing.T) {
	const timeout = 9 * time.Second
	for claim, behave := range map[string]func(c *cluster, x *node, conn net.Conn){
		"reads nothing":   func(*cluster, *node, net.Conn) {},
		"answers nothing": func(_ *cluster, _ *node, conn net.Conn) { io.Copy(io.Discard, conn) },
		"answers slowly": func(_ *cluster, _ *node, conn net.Conn) {
			for _, one := range []byte("\x16\x03\x03\x00\x80slowly") {
				if _, err := conn.Write([]byte{one}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
			io.Copy(io.Discard, conn)
		},
		"shakes hands and says nothing": func(c *cluster, x *node, conn net.Conn) {
			io.Copy(io.Discard, x.shakeHands(conn))
		},
		"says hello and nothing more": func(c *cluster, x *node, conn net.Conn) {
			secure := x.shakeHands(conn)
			x.readHello(secure, pki.Identity{Name: "a", Key: c.nodes["a"].public()})
			hello := x.hello(wire.PurposeGossip)
			hello.Roster = [32]byte{1} // so that a sends what it knows
			x.sendHello(secure, hello)
			io.Copy(io.Discard, secure)
		},
		"wants one secret after the other": func(c *cluster, x *node, conn net.Conn) {
			secure := x.shakeHands(conn)
			x.readHello(secure, pki.Identity{Name: "a", Key: c.nodes["a"].public()})
			x.sendHello(secure, wire.Hello{Purpose: wire.PurposeGossip, Record: x.shown(), Roster: x.knownDigest(), Time: time.Now()})
			for {
				if _, err := secure.Write([]byte{byte(wire.FrameEpochs), 0, 0}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		},
	} {
		t.Run(claim, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster) {
				a, x := c.node("a").start(), c.node("x").start()
				a.learn(x)
				x.Transport.listener.Close()
				listener := must(x.network.Listen(x.addr))(t)
				defer listener.Close()
				go func() {
					for {
						conn, err := listener.Accept()
						if err != nil {
							return
						}
						go func() {
							behave(c, x, conn)
							time.Sleep(time.Minute)
							conn.Close()
						}()
					}
				}()
				start := time.Now()
				_, err := a.DialAddressTimeout(x.to(), timeout)
				if op, ok := err.(*net.OpError); !ok || op.Op != "dial" || op.Net != "tcp" {
					t.Errorf("got %#v, want a failed dial", err)
				}
				if took := time.Since(start); took != timeout {
					t.Errorf("it took %v, want %v: %v", took, timeout, err)
				}
				start = time.Now()
				if _, err := a.Sync(context.Background(), x.to()); err == nil || time.Since(start) != streamTimeout {
					t.Errorf("a sync without a deadline took %v: %v", time.Since(start), err)
				}
				if got := len(a.open.conns); got != 0 {
					t.Errorf("%d connections are left open", got)
				}
				time.Sleep(time.Hour)
			})
		})
	}
}

// shakeHands reads a knock and answers as the listener does.
func (n *node) shakeHands(conn net.Conn) *tls.Conn {
	io.ReadFull(conn, make([]byte, wire.KnockSize))
	secure := tls.Server(conn, n.config.Trust.ServerTLS(n.certificate, []pki.Kind{pki.KindNode}, time.Now))
	secure.Handshake()
	return secure
}

// A first endpoint that swallows everything must not use up the time for the next.
func TestDialTriesEveryEndpoint(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.node("a").start(), c.node("b")
		hole, refusing := netip.MustParseAddrPort("10.0.0.1:7946"), netip.MustParseAddrPort("10.0.0.2:7946")
		c.net.Block(a.addr.Addr(), hole.Addr())
		b.endpoints = []netip.AddrPort{hole, refusing, b.addr}
		b.start()
		a.learn(b)
		start := time.Now()
		conn, err := a.DialAddressTimeout(b.to(), 9*time.Second)
		if err != nil {
			t.Fatalf("after %v: %v", time.Since(start), err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("it took %v; one of three endpoints may take a third of 9s", took)
		}
		conn.Close()
		(<-b.StreamCh()).Close()
		// The next one is right the first time.
		start = time.Now()
		if _, err := a.Sync(t.Context(), b.to()); err != nil || time.Since(start) != 0 {
			t.Errorf("the next took %v: %v", time.Since(start), err)
		}
		b.stop()
		_, err = a.DialAddressTimeout(b.to(), 9*time.Second)
		for _, endpoint := range b.endpoints {
			if err == nil || !strings.Contains(err.Error(), endpoint.String()) {
				t.Errorf("the error does not say what became of %s: %v", endpoint, err)
			}
		}
	})
}

func TestDialOfNobodyFailsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		start := time.Now()
		for claim, addr := range map[string]memberlist.Address{
			"a name without a record":            {Name: "x", Addr: b.addr.String()},
			"no address":                         {},
			"a host name":                        {Addr: "localhost:7946"},
			"an address without a port":          {Addr: "203.0.113.2"},
			"a virtual address that is nobody's": {Addr: "nobody:1"},
			"a port where nobody listens":        {Addr: "203.0.113.2:1"},
		} {
			_, err := a.DialAddressTimeout(addr, 9*time.Second)
			if op, ok := err.(*net.OpError); !ok || op.Op != "dial" || op.Net != "tcp" {
				t.Errorf("%s: got %#v, want a failed dial", claim, err)
			}
		}
		if _, err := a.DialAddressTimeout(b.to(), -time.Second); err == nil {
			t.Error("a dial without any time succeeded")
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}
