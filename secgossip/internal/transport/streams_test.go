package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/seal"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// connect opens a stream for memberlist at both ends.
func connect(t *testing.T, from, to *node) (here, there net.Conn) {
	t.Helper()
	here, err := from.DialAddressTimeout(to.to(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return here, <-to.StreamCh()
}

func TestStreamJoinsTwoMembers(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		here, there := connect(t, a, b)
		if here.RemoteAddr().String() != b.to().Addr || there.RemoteAddr().String() != a.to().Addr ||
			here.LocalAddr().String() != a.to().Addr || there.LocalAddr().String() != b.to().Addr {
			t.Errorf("the ends are at %v, %v and %v, %v; want virtual addresses",
				here.LocalAddr(), here.RemoteAddr(), there.LocalAddr(), there.RemoteAddr())
		}
		for _, way := range [][2]net.Conn{{here, there}, {there, here}} {
			if _, err := way[0].Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 5)
			if _, err := io.ReadFull(way[1], got); err != nil || string(got) != "hello" {
				t.Errorf("read %q, %v", got, err)
			}
		}
		state := there.(*stream).ConnectionState()
		if state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 || state.DidResume {
			t.Errorf("TLS %x, %v, resumed %v", state.Version, state.CurveID, state.DidResume)
		}
		for _, conn := range []net.Conn{here, there, here} { // memberlist may close twice
			if err := conn.Close(); err != nil {
				t.Errorf("closing: %v", err)
			}
		}
		synctest.Wait()
		a.counts("dialling", nil, map[string]uint64{"streams_opened": 1})
		b.counts("listening", nil, map[string]uint64{"streams_accepted": 1})
		for _, n := range []*node{a, b} {
			if len(n.open.conns) != 0 || n.members.inUse != 0 {
				t.Errorf("%s holds %d connections and %d places after all was closed", n.name, len(n.open.conns), n.members.inUse)
			}
		}
	})
}

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
		if at, _ := a.Seen(a.of(b)); at != b.addr {
			t.Errorf("a reaches b at %s, want %s", at, b.addr)
		}
		a.gossip(b, ackOf(1))
		if got := len(b.delivered()); got != 1 {
			t.Errorf("%d packets arrived after the join, want 1", got)
		}
	})
}

// Issuers are learned by the handshake and passed on, in whatever order.
func TestMembersOfManyIssuersHaveNothingToTellEachOther(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		var issuers [][]byte
		for _, name := range []pki.Name{"k1", "k2", "k3"} {
			issuers = append(issuers, must(c.root.Issuer(name, c.node(string(name)).public(), time.Now()))(t))
		}
		for i, der := range issuers {
			must(a.config.Trust.AddIssuer(der, time.Now()))(t)
			must(b.config.Trust.AddIssuer(issuers[len(issuers)-1-i], time.Now()))(t)
		}
		if a.knownDigest() != b.knownDigest() {
			t.Error("the order in which issuers were learned shows")
		}
		before := a.knownDigest()
		b.say(func(*wire.Record) {})
		a.learn(b)
		if a.knownDigest() == before {
			t.Error("a record does not show")
		}
	})
}

func TestEpochsAreFetchedWhereTheyAre(t *testing.T) {
	for _, dialler := range []string{"the one that lacks it", "the one that has it"} {
		inBubble(t, func(t *testing.T, c *cluster) {
			a, b := c.pair()
			b.ledger.secrets[2], b.ledger.highest = bytes.Repeat([]byte{2}, 32), 2
			a.ledger.wanted = []wire.SecretRequest{{Number: 2}}
			from, to := a, b
			if dialler == "the one that has it" {
				from, to = b, a
			}
			state, err := from.Sync(t.Context(), to.to())
			if err != nil || state != (State{Highest: 2, Primary: 1}) {
				t.Errorf("%s dials: %+v, %v", dialler, state, err)
			}
			if got := a.ledger.secrets[2]; !bytes.Equal(got, b.ledger.secrets[2]) {
				t.Errorf("%s dials: a has %x", dialler, got)
			}
		})
	}
}

func TestEpochThePeerHasDroppedIsNoError(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		a.ledger.wanted = []wire.SecretRequest{{Number: 7}}
		if state, err := a.Sync(t.Context(), b.to()); err != nil || state != (State{Highest: 1, Primary: 1}) {
			t.Errorf("%+v, %v", state, err)
		}
	})
}

// Threats C07, C08: who holds a certificate is only who it says. Its record must
// be its own.
func TestMemberWithAnothersRecordIsRefused(t *testing.T) {
	for claim, borrow := range map[string]func(x, d *node){
		"another's record": func(x, d *node) { x.show(d.shown()) },
		"a record in another's name": func(x, d *node) {
			x.show(x.sign(func(r *wire.Record) { r.Name = "d" }))
		},
		"a record with another's credential": func(x, d *node) {
			x.show(x.sign(func(r *wire.Record) { r.Name, r.Credential = "d", d.issued.Credential }))
		},
		"a record for another cluster": func(x, d *node) {
			other := newCluster(x.t, "demo")
			x.show(must(wire.SignRecord(x.signing, other.root.Trust().Cluster(), wire.Record{
				Name: "x", Sequence: 1 << 50, Boot: x.boot, Endpoints: x.endpoints, Credential: x.issued.Credential,
			}))(x.t))
		},
		"no record at all": func(x, d *node) { x.show([]byte("nothing")) },
		"a damaged record": func(x, d *node) { x.shown()[len(x.shown())-1] ^= 1 },
	} {
		t.Run(claim, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster) {
				b, d, x := c.node("b").start(), c.node("d").start(), c.node("x").start()
				b.learn(d)
				x.learn(b)
				borrow(x, d)
				before := b.Counters()
				if _, err := x.DialAddressTimeout(b.to(), 10*time.Second); err == nil {
					t.Error("b let it in")
				}
				synctest.Wait()
				b.counts("as the listener", before, map[string]uint64{"streams_refused": 1})
				if _, err := b.DialTimeout(x.addr.String(), 10*time.Second); err == nil {
					t.Error("b was content when it dialled itself")
				}
				if b.of(x) != nil || b.of(d).Key() != [32]byte(d.public()) {
					t.Error("b's roster is not what it was")
				}
				b.nothingLogged(claim)
				select {
				case <-b.StreamCh():
					t.Error("memberlist was given a stream")
				default:
				}
			})
		})
	}
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
		_, err := a.DialAddressTimeout(d.to(), 10*time.Second)
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
			x.sendHello(secure, wire.Hello{Purpose: wire.PurposeGossip, Record: x.shown(), Roster: x.knownDigest()})
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

// A member that stalls in the middle of a sync is dropped, like anybody.
func TestMemberThatStallsIsCutOff(t *testing.T) {
	for claim, says := range map[string]func(x *node, conn *tls.Conn){
		"nothing":                  func(*node, *tls.Conn) {},
		"half a frame":             func(_ *node, conn *tls.Conn) { conn.Write([]byte{byte(wire.FrameHello), 0, 0}) },
		"a frame that never comes": func(_ *node, conn *tls.Conn) { conn.Write([]byte{byte(wire.FrameHello), 0, 0, 3, 0}) },
		"a hello": func(x *node, conn *tls.Conn) {
			hello := x.hello(wire.PurposeGossip)
			hello.Roster = [32]byte{1}
			x.sendHello(conn, hello)
		},
		"the start of a roster": func(x *node, conn *tls.Conn) {
			hello := x.hello(wire.PurposeGossip)
			hello.Roster = [32]byte{1}
			x.sendHello(conn, hello)
			wire.WriteFrame(conn, wire.FrameIssuers, nil)
			conn.Write([]byte{byte(wire.FrameRoster), 0, 0x30, 0, 0})
		},
	} {
		inBubble(t, func(t *testing.T, c *cluster) {
			b, x := c.node("b").start(), c.node("x").start()
			start := time.Now()
			conn := x.proveTo(b)
			says(x, conn)
			if got := hearOut(conn.NetConn()); got.after != streamTimeout {
				t.Errorf("%s: cut off after %v, want %v", claim, time.Since(start), streamTimeout)
			}
			conn.NetConn().Close()
			synctest.Wait()
			b.counts(claim, nil, map[string]uint64{"streams_refused": 1})
			b.nothingLogged(claim)
		})
	}
}

// proveTo knocks and shakes hands, and says nothing yet.
func (n *node) proveTo(other *node) *tls.Conn {
	n.t.Helper()
	raw := dialFrom(n.t, n.c, n.addr.Addr().String(), other)
	raw.Write(n.c.validKnock())
	conn := tls.Client(raw, n.config.Trust.ClientTLS(n.certificate, other.name, time.Now))
	if err := conn.Handshake(); err != nil {
		n.t.Fatal(err)
	}
	synctest.Wait()
	return conn
}

// Threat C11: a proven member that does not speak as we do.
func TestMemberThatSpeaksOtherwiseIsRefusedAtOnce(t *testing.T) {
	for claim, says := range map[string][]byte{
		"HTTP":                    []byte("GET / HTTP/1.1\r\n\r\n"),
		"a frame nobody knows":    {99, 0, 0, 0, 0},
		"a frame out of turn":     {byte(wire.FrameRoster), 0, 0, 0, 0},
		"a frame beyond its size": {byte(wire.FrameHello), 0xff, 0xff, 0xff, 0xff},
		"an empty hello":          {byte(wire.FrameHello), 0, 0, 0, 0},
		"a refusal":               {byte(wire.FrameRefusal), 0, 0, 0, 1, byte(wire.RefusedBusy)},
	} {
		inBubble(t, func(t *testing.T, c *cluster) {
			b, x := c.node("b").start(), c.node("x").start()
			conn := x.proveTo(b)
			conn.Write(says)
			if got := hearOut(conn.NetConn()); got.after != 0 {
				t.Errorf("%s: the end came after %v", claim, got.after)
			}
			conn.NetConn().Close()
			synctest.Wait()
			b.counts(claim, nil, map[string]uint64{"streams_refused": 1})
			b.nothingLogged(claim)
		})
	}
}

// One member cannot use up the places of all.
func TestOneMemberGetsItsShareOfStreams(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		x := c.node("x").start().learn(b)
		var held []*tls.Conn
		for range streamsPerMember {
			held = append(held, x.proveTo(b))
		}
		one := x.proveTo(b)
		if got := hearOut(one.NetConn()); got.after != 0 {
			t.Errorf("one more was closed after %v", got.after)
		}
		b.counts("one too many", nil, map[string]uint64{"streams_refused": 1})
		if _, err := a.Sync(t.Context(), b.to()); err != nil {
			t.Errorf("another member: %v", err)
		}
		for _, conn := range append(held, one) {
			conn.NetConn().Close()
		}
		synctest.Wait()
		if _, err := x.Sync(t.Context(), b.to()); err != nil {
			t.Errorf("when its streams are gone: %v", err)
		}
	})
}

// After the sync a stream has a deadline of its own, and memberlist may set others.
func TestStreamHasItsDeadlineFromTheHandover(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		c.net.Delay(200*time.Millisecond, 200*time.Millisecond) // a sync takes more than a second
		here, there := connect(t, a, b)
		start := time.Now()
		if _, err := there.Read(make([]byte, 1)); !isTimeout(err) || time.Since(start) < streamTimeout-500*time.Millisecond {
			t.Errorf("the listener's end stood %v: %v", time.Since(start), err)
		}
		here.Close()
		there.Close()

		here, there = connect(t, a, b)
		for _, conn := range []net.Conn{here, there} {
			if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * streamTimeout)
		if _, err := here.Write([]byte("x")); err != nil {
			t.Errorf("writing: %v", err)
		}
		if _, err := there.Read(make([]byte, 1)); err != nil {
			t.Errorf("reading: %v", err)
		}
		here.Close()
		there.Close()
	})
}

// A stream that memberlist does not take is not kept for it.
func TestStreamNobodyTakesIsClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		conn, err := a.DialAddressTimeout(b.to(), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Time{})
		if got := hearOut(conn); got.after != streamTimeout {
			t.Errorf("closed after %v, want %v", got.after, streamTimeout)
		}
		conn.Close()
		synctest.Wait()
		if b.members.inUse != 0 || len(b.open.conns) != 0 {
			t.Errorf("b keeps %d streams", b.members.inUse)
		}
	})
}

// Threat C07: there is an end to what memberlist reads from one stream.
func TestStreamEndsAtItsLimit(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		here, there := connect(t, a, b)
		go func() {
			here.Write(make([]byte, wire.MaxStreamBytes+1<<16))
			here.Close()
		}()
		if got, err := io.Copy(io.Discard, there); got != wire.MaxStreamBytes || err != nil {
			t.Errorf("memberlist read %d bytes, %v; want %d", got, err, wire.MaxStreamBytes)
		}
		there.Close()
	})
}

// A stream needs no epoch in common: that is how a node that slept gets in.
func TestStreamNeedsNoEpoch(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		a.SetEpochs(0, nil)
		b.SetEpochs(7, map[uint64]seal.EpochSecret{7: epochSecret{7}})
		if _, err := a.Sync(t.Context(), b.to()); err != nil {
			t.Error(err)
		}
	})
}

// A peer may show a record older than the one held, after its clock was set back.
// It is let in, told by the roster, and not believed.
func TestPeerWithAnOldRecordOfItsOwnIsLetIn(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		old := a.shown()
		a.say(func(*wire.Record) {})
		b.learn(a)
		newest := b.of(a)
		a.show(old)
		a.roster = guard.NewRoster(a.config.Trust, nil)
		a.config.Roster = a.roster
		must(a.roster.Admit(old, time.Now()))(t)
		a.learn(b)
		if _, err := a.Sync(t.Context(), b.to()); err != nil {
			t.Error(err)
		}
		if b.of(a) != newest {
			t.Error("b believes the older record")
		}
		if got := a.roster.Get("a").Record.Sequence; got != newest.Record.Sequence {
			t.Errorf("a does not know of its own later record: %d, want %d", got, newest.Record.Sequence)
		}
	})
}
