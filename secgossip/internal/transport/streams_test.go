package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
			if _, err := way[0].Write([]byte("\x00ping")); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 5)
			if _, err := io.ReadFull(way[1], got); err != nil || string(got) != "\x00ping" {
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
			if len(n.open.conns) != 0 || n.members.InUse() != 0 {
				t.Errorf("%s holds %d connections and %d places after all was closed", n.name, len(n.open.conns), n.members.InUse())
			}
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
			wire.WriteFrame(conn, wire.FrameRevocations, nil)
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
	raw.Write(other.validKnock())
	conn := tls.Client(raw, n.config.Trust.ClientTLS(n.certificate, other.name, time.Now))
	if err := conn.Handshake(); err != nil {
		n.t.Fatal(err)
	}
	synctest.Wait()
	return conn
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
		if _, err := here.Write([]byte{0}); err != nil {
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
		if b.members.InUse() != 0 || len(b.open.conns) != 0 {
			t.Errorf("b keeps %d streams", b.members.InUse())
		}
	})
}

// Threat C07: there is an end to what memberlist reads from one stream.
func TestStreamEndsAtItsLimit(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		here, there := connect(t, a, b)
		go func() {
			here.Write(make([]byte, wire.MaxStreamBytes+1<<16)) // a ping, by its type
			here.Close()
		}()
		const want = 1 + 1<<10
		if got, err := io.Copy(io.Discard, there); got != want || err != nil {
			t.Errorf("memberlist read %d bytes, %v; want %d", got, err, want)
		}
		there.Close()
	})
}

// Threat C07: both who dialled and who was dialled are told by guard what a
// stream says.
func TestStreamIsScreenedAtBothEnds(t *testing.T) {
	for claim, says := range map[string]string{
		"a header that claims 2^20 nodes":      "\x06\x83\xa4Join\xc2\xa5Nodes\xce\x00\x10\x00\x00\xacUserStateLen\x00",
		"a header that claims 20 MiB of state": "\x06\x83\xa4Join\xc2\xa5Nodes\x00\xacUserStateLen\xce\x01\x40\x00\x00",
		"a user message":                       "\x08\x81\xaaUserMsgLen\xce\x01\x40\x00\x00",
		"a compressed message":                 "\x09\x82\xa4Algo\x00\xa3Buf\xa1x",
		"a label":                              "\xf4\x01x\x00",
	} {
		inBubble(t, func(t *testing.T, c *cluster) {
			a, b := c.pair()
			here, there := connect(t, a, b)
			for end, way := range map[string][2]net.Conn{"listener": {here, there}, "dialler": {there, here}} {
				if _, err := way[0].Write([]byte(says)); err != nil {
					t.Fatal(err)
				}
				if n, err := way[1].Read(make([]byte, 64)); n != 0 || !errors.Is(err, guard.ErrMalformed) {
					t.Errorf("%s, at the %s: memberlist read %d bytes, %v; want %v", claim, end, n, err, guard.ErrMalformed)
				}
			}
			here.Close()
			there.Close()
		})
	}
}

// Threat C20: a member in quarantine tells nothing of others by stream either.
func TestStreamFromQuarantineIsOfItsMemberAlone(t *testing.T) {
	for _, quarantined := range []bool{false, true} {
		inBubble(t, func(t *testing.T, c *cluster) {
			a, b, d := c.node("a").start(), c.node("b"), c.node("d").start()
			b.quarantined = func(name pki.Name) bool { return quarantined && name == a.name }
			b.start().learn(a, d)
			a.learn(b)
			here, there := connect(t, a, b)
			addr := guard.VirtualAddr(c.trust().Cluster(), "d").Addr().As16()
			said := "\x06\x83\xa4Join\xc2\xa5Nodes\x01\xacUserStateLen\x00" +
				"\x87\xa4Addr\xb0" + string(addr[:]) + "\xabIncarnation\x01\xa4Meta\xa1m\xa4Name\xa1d\xa4Port\xcd\x1f\x0a\xa5State\x00\xa3Vsn\xa6\x01\x05\x02\x01\x01\x01"
			if _, err := here.Write([]byte(said)); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 256)
			n, err := there.Read(got)
			if heard := strings.Contains(string(got[:n]), "Name"); err != nil || heard == quarantined {
				t.Errorf("quarantined %t: of d it hears %t (%v)", quarantined, heard, err)
			}
			here.Close()
			there.Close()
		})
	}
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
