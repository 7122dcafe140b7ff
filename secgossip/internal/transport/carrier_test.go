package transport

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// talk lets both nodes send each other a packet a second, for some time, and
// returns how many of them arrived at each.
func talk(a, b *node, seconds int) (atA, atB int) {
	for i := range seconds {
		a.WriteToAddress(ackOf(uint32(i)), b.to())
		b.WriteToAddress(ackOf(uint32(i)), a.to())
		time.Sleep(time.Second)
		atA += len(a.delivered())
		atB += len(b.delivered())
	}
	return atA, atB
}

// logged counts the lines of a node's log that hold a text.
func (n *node) logged(text string) int { return strings.Count(n.log.String(), text) }

const (
	saysBlocked = "udp to a node is blocked: its packets go by stream"
	saysOpen    = "udp to a node works again"
)

// detected is how long it may take until a blocked path is found out: until the
// next check of one that worked, and six tries.
const detected = 40

// A story: UDP from a to b is blocked, and only that. a finds out, its packets go
// by stream, and b is not concerned. When UDP is back, that ends by itself.
func TestPacketsGoByStreamWhileUDPIsBlockedOneWay(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		if atA, atB := talk(a, b, 10); atA != 10 || atB != 10 {
			t.Fatalf("%d and %d of 10 packets arrived while all was well", atA, atB)
		}
		c.net.BlockUDP(a.addr.Addr(), b.addr.Addr())
		talk(a, b, detected)
		if atA, atB := talk(a, b, 60); atA != 60 || atB != 60 {
			t.Errorf("%d and %d of 60 packets arrived with UDP blocked one way", atA, atB)
		}
		if !a.Seen(a.of(b)).Carried || b.Seen(b.of(a)).Carried {
			t.Error("a does not say that its packets are carried, or b says so of its own")
		}
		if a.logged(saysBlocked) != 1 || b.log.String() != "" {
			t.Errorf("a logged\n%s\nb logged\n%s", a.log.String(), b.log.String())
		}

		c.net.Unblock(a.addr.Addr(), b.addr.Addr())
		talk(a, b, 10)
		before := a.Counters()
		if atA, atB := talk(a, b, 10); atA != 10 || atB != 10 {
			t.Errorf("%d and %d of 10 packets arrived after UDP was back", atA, atB)
		}
		if got := a.Counters()["packets_carried"] - before["packets_carried"]; got != 0 {
			t.Errorf("%d packets went by stream after UDP was back", got)
		}
		if a.Seen(a.of(b)).Carried || a.logged(saysOpen) != 1 || a.logged("\n") != 2 {
			t.Errorf("a still carries, or logged\n%s", a.log.String())
		}
	})
}

// A path that works is checked now and then. When memberlist dials, because a
// probe by UDP was not answered, it is checked at once.
func TestStreamAfterALostProbeHasThePathChecked(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		talk(a, b, 10)
		c.net.BlockUDP(a.addr.Addr(), b.addr.Addr())
		stream, err := a.DialAddressTimeout(b.to(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		stream.Close()
		talk(a, b, 10)
		if !a.Seen(a.of(b)).Carried || b.Seen(b.of(a)).Carried {
			t.Error("a has not found out, or b thinks that it is concerned")
		}
		c.net.Unblock(a.addr.Addr(), b.addr.Addr())
		talk(a, b, 10)
		// Where UDP works a stream changes nothing.
		if stream, err = a.DialAddressTimeout(b.to(), time.Second); err != nil {
			t.Fatal(err)
		}
		stream.Close()
		if _, atB := talk(a, b, 40); atB != 40 || a.Seen(a.of(b)).Carried || a.logged("\n") != 2 {
			t.Errorf("%d of 40 packets arrived, and a logged\n%s", atB, a.log.String())
		}
	})
}

func TestPacketsGoByStreamWhileUDPIsBlockedBothWays(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		block := func() {
			c.net.BlockUDP(a.addr.Addr(), b.addr.Addr())
			c.net.BlockUDP(b.addr.Addr(), a.addr.Addr())
		}
		block() // from the start: there never was a datagram between them
		talk(a, b, detected)
		if atA, atB := talk(a, b, 60); atA != 60 || atB != 60 {
			t.Errorf("%d and %d of 60 packets arrived", atA, atB)
		}
		if a.logged(saysBlocked) != 1 || b.logged(saysBlocked) != 1 || a.logged("\n") != 1 || b.logged("\n") != 1 {
			t.Errorf("a logged\n%s\nb logged\n%s", a.log.String(), b.log.String())
		}
		c.net.Unblock(a.addr.Addr(), b.addr.Addr())
		c.net.Unblock(b.addr.Addr(), a.addr.Addr())
		talk(a, b, 10)
		if a.Seen(a.of(b)).Carried || b.Seen(b.of(a)).Carried {
			t.Error("they do not find out that UDP is back")
		}
	})
}

// narrow is a network whose packets are lost when they are long: a path MTU that
// is too small, and nobody who says so.
type narrow struct{ Network }

func (n narrow) ListenPacket(addr netip.AddrPort) (PacketConn, error) {
	conn, err := n.Network.ListenPacket(addr)
	return narrowConn{conn}, err
}

type narrowConn struct{ PacketConn }

func (c narrowConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if len(b) > 1000 {
		return len(b), nil
	}
	return c.PacketConn.WriteToUDPAddrPort(b, to)
}

// Short datagrams pass, so that nothing looks wrong until a long one is needed.
func TestPathThatIsTooNarrowCountsAsBlocked(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.node("a"), c.node("b").start()
		a.network = narrow{a.network}
		a.start().learn(b)
		b.learn(a)
		long := bytes.Repeat([]byte("x"), wire.MaxEventRaw)
		payload := must(wire.BatchEvents.Append(nil, [][]byte{long}))(t)
		for range 10 {
			a.Send(a.of(b), wire.PacketEvents, payload)
			time.Sleep(time.Second)
		}
		b.mu.Lock()
		b.batches = nil
		b.mu.Unlock()
		for range 10 {
			a.Send(a.of(b), wire.PacketEvents, payload)
			time.Sleep(time.Second)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.batches) != 10 || a.logged(saysBlocked) != 1 {
			t.Errorf("%d of 10 long packets arrived; a logged\n%s", len(b.batches), a.log.String())
		}
	})
}

// b can be reached by nobody, neither by UDP nor by TCP. Once it has opened a
// stream itself, it is a full member.
func TestHostThatNobodyCanDialIsReachedByItsOwnStream(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.node("a").start(), c.node("b")
		b.endpoints = []netip.AddrPort{netip.MustParseAddrPort("198.51.100.99:7946")} // where nobody is
		b.start().learn(a)
		a.learn(b)
		c.net.BlockUDP(a.addr.Addr(), b.addr.Addr())
		c.net.BlockUDP(b.addr.Addr(), a.addr.Addr())
		a.config.Network = deaf{a.network, b.addr}
		talk(a, b, detected)
		if atA, atB := talk(a, b, 60); atA != 60 || atB != 60 {
			t.Errorf("%d and %d of 60 packets arrived", atA, atB)
		}
	})
}

// A story: b takes a carrier and never reads from it. That costs a the packets to
// b, and nobody else anything.
func TestPeerThatNeverReadsHoldsUpNobodyElse(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		d := c.node("d").start()
		a.learn(d)
		d.learn(a)
		c.net.BlockUDP(a.addr.Addr(), b.addr.Addr())
		talk(a, b, detected)
		if !a.Seen(a.of(b)).Carried {
			t.Fatal("a does not carry")
		}
		c.net.Block(a.addr.Addr(), b.addr.Addr()) // what is written waits in the stream
		before := a.Counters()
		payload := must(wire.BatchEvents.Append(nil, [][]byte{bytes.Repeat([]byte("x"), 1000)}))(t)
		const packets = 500
		start := time.Now()
		for i := range packets {
			if err := a.Send(a.of(b), wire.PacketEvents, payload); err != nil {
				t.Fatal(err)
			}
			a.gossip(d, ackOf(uint32(i)))
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("sending took %v: it waits for b", took)
		}
		if got := len(d.delivered()); got != packets {
			t.Errorf("d got %d of %d packets", got, packets)
		}
		// The stream holds 64 KiB, the queue 64 packets.
		moved := func(name string) uint64 { return a.Counters()[name] - before[name] }
		if dropped := moved("packets_dropped"); dropped < packets-200 || dropped > packets {
			t.Errorf("%d packets were dropped", dropped)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		q := &a.sessions.get("b").carrier
		q.mu.Lock()
		defer q.mu.Unlock()
		if len(q.queue) != 0 || q.busy {
			t.Errorf("%d packets wait, busy %t, a minute later", len(q.queue), q.busy)
		}
	})
}

// forgetful is a network with a firewall on the way that forgets streams: what is
// written to those from before is taken and goes nowhere. New ones work.
type forgetful struct {
	Network
	forgot *atomic.Bool
}

func (n forgetful) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	conn, err := n.Network.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return &forgottenConn{Conn: conn, forgot: n.forgot, young: n.forgot.Load()}, nil
}

type forgottenConn struct {
	net.Conn
	forgot *atomic.Bool
	young  bool
}

func (c *forgottenConn) Write(b []byte) (int, error) {
	if !c.young && c.forgot.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// Writing into a stream that is dead succeeds. Only what comes back says otherwise.
func TestCarrierThatAFirewallForgotIsReplaced(t *testing.T) {
	for claim, moves := range map[string]bool{"nothing else happens": false, "the peer says it has moved": true} {
		inBubble(t, func(t *testing.T, c *cluster) {
			a, b := c.pair()
			forgot := new(atomic.Bool)
			a.config.Network = forgetful{a.network, forgot}
			c.net.BlockUDP(a.addr.Addr(), b.addr.Addr())
			talk(a, b, detected)
			if _, atB := talk(a, b, 2*int(carrierIdle.Seconds())); atB != 2*int(carrierIdle.Seconds()) {
				t.Errorf("%s: %d packets arrived while all was well", claim, atB)
			}
			if got := a.Counters()["streams_opened"]; got != 1 {
				t.Errorf("%s: %d streams were opened, want one that lasts", claim, got)
			}
			forgot.Store(true)
			least := 600 - int((carrierIdle + aliveEvery).Seconds())
			if moves {
				b.endpoints = []netip.AddrPort{b.addr, netip.MustParseAddrPort("198.51.100.9:7946")}
				b.say(func(*wire.Record) {})
				a.learn(b)
				least = 600
			}
			if _, atB := talk(a, b, 600); atB < least {
				t.Errorf("%s: %d of 600 packets arrived, want %d", claim, atB, least)
			}
		})
	}
}

// b cannot be dialled, takes its carrier for dead and opens another. When the first
// one has ended, a must write to the other, which it did not open.
func TestCarrierThatSomethingComesByIsWrittenTo(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		c.net.BlockUDP(a.addr.Addr(), b.addr.Addr())
		c.net.BlockUDP(b.addr.Addr(), a.addr.Addr())
		a.config.Network = deaf{a.network, b.addr}
		talk(a, b, detected)
		p := b.sessions.get("a")
		p.carrier.mu.Lock()
		first := p.carrier.streams[0]
		p.carrier.mu.Unlock()
		if _, err := b.dialCarrier(p); err != nil {
			t.Fatal(err)
		}
		talk(a, b, 5)
		first.NetConn().Close()
		talk(a, b, 1) // what was written to the first one at that moment is lost
		if atA, atB := talk(a, b, 60); atA != 60 || atB != 60 {
			t.Errorf("%d and %d of 60 packets arrived", atA, atB)
		}
		if got := a.Counters()["streams_accepted"]; got != 2 {
			t.Errorf("b opened %d carriers, want the two", got)
		}
	})
}

// Most paths of a large cluster are used less than once a minute.
func TestPacketNowAndThenGoesByStreamToo(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		c.net.BlockUDP(a.addr.Addr(), b.addr.Addr())
		talk(a, b, detected)
		arrived := 0
		for i := range 20 {
			a.WriteToAddress(ackOf(uint32(i)), b.to())
			time.Sleep(pathUsed + 10*time.Second)
			arrived += len(b.delivered())
		}
		if arrived != 20 {
			t.Errorf("%d of 20 packets arrived", arrived)
		}
		if got := a.logged(saysBlocked); got != 1 {
			t.Errorf("it was said %d times that UDP is blocked", got)
		}
	})
}

// Threat N08: carriers last. Members that open all they may, and keep them, leave room
// for everybody else's streams; and one that sends what is no packet does not last.
func TestCarriersLeaveRoomForOtherStreams(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		v := c.node("v").start()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		refused := 0
		good := must(wire.Carried{Type: wire.PacketGossip, Payload: must(wire.Gossip{Packet: ackOf(1)}.Append(nil))(t)}.Append(nil))(t)
		for i := range maxTaken/takenPerMember + 1 {
			n := c.node(fmt.Sprint("m", i)).start().learn(v)
			for range takenPerMember + 1 {
				conn, _, _, err := n.dial(ctx, memberlist.Address{Name: "v"}, wire.PurposeCarrier)
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if err := wire.WriteFrame(conn, wire.FramePacket, good); err != nil {
					refused++
				}
			}
		}
		synctest.Wait()
		if got := v.streams(); got != maxTaken {
			t.Errorf("%d carriers are open, want %d", got, maxTaken)
		}
		honest := c.node("honest").start().learn(v)
		if _, err := honest.Sync(t.Context(), v.to()); err != nil {
			t.Errorf("a member cannot sync: %v", err)
		}
		time.Sleep(carrierIdle + carryTimeout)
		synctest.Wait()
		if got := v.streams(); got != 0 {
			t.Errorf("%d carriers are still open after a silence", got)
		}
	})
}

// What is no packet does not keep a carrier alive.
func TestCarrierWithoutPacketsEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		conn, _, _, err := a.dial(ctx, memberlist.Address{Name: "b"}, wire.PurposeCarrier)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Time{})
		for range 5 {
			wire.WriteFrame(conn, wire.FramePacket, []byte{99})
			time.Sleep(carrierIdle / 4)
		}
		synctest.Wait()
		if got := b.streams(); got != 0 {
			t.Errorf("%d carriers are open", got)
		}
	})
}

// What is carried says nothing about epochs; the sync before it does.
func TestEpochOfACarriedPeerIsKnown(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		b.ledger.mu.Lock()
		b.ledger.highest, b.ledger.primary = 7, 7
		b.ledger.mu.Unlock()
		if _, err := a.Sync(t.Context(), b.to()); err != nil {
			t.Fatal(err)
		}
		if got := a.Seen(a.of(b)).Epoch; got != 7 {
			t.Errorf("whoever dialled sees epoch %d, want 7", got)
		}
		a.ledger.mu.Lock()
		a.ledger.highest, a.ledger.primary = 8, 8
		a.ledger.mu.Unlock()
		if _, err := a.Sync(t.Context(), b.to()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := b.Seen(b.of(a)).Epoch; got != 8 {
			t.Errorf("whoever was dialled sees epoch %d, want 8", got)
		}
	})
}

// Every host with containers has the same address on a bridge of its own, and tells it.
func TestAnAddressOfOursIsNoEndpointOfAnother(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.node("a").start(), c.node("b")
		b.endpoints = []netip.AddrPort{netip.MustParseAddrPort("198.51.100.99:7946"), a.addr}
		b.start()
		a.learn(b)
		before := a.Counters()
		for i := range 20 {
			a.WriteToAddress(ackOf(uint32(i)), b.to())
			time.Sleep(time.Second)
		}
		for _, name := range []string{"drop_door", "drop_sender", "strangers_dropped"} {
			if got := a.Counters()[name] - before[name]; got != 0 {
				t.Errorf("%s moved by %d: a talks to itself", name, got)
			}
		}
	})
}

// The order in which packets wait is kept, and the oldest goes first when there is
// no more room.
func TestQueueOfACarrierDropsTheOldest(t *testing.T) {
	var q carrier
	now := time.Unix(1_800_000_000, 0)
	for i := range maxWaiting + 3 {
		dropped, start := q.push(wire.Carried{Type: 1, Payload: []byte{byte(i)}}, now)
		if dropped != (i >= maxWaiting) || start != (i == 0) {
			t.Errorf("packet %d: dropped %t, start %t", i, dropped, start)
		}
	}
	for i := range maxWaiting {
		if packet, _, ok := q.next(); !ok || packet.Payload[0] != byte(i+3) {
			t.Fatalf("%d out of the queue: %v, %t", i, packet, ok)
		}
	}
	if _, _, ok := q.next(); ok || q.busy {
		t.Error("the queue does not end")
	}
	// A peer that could not be dialled is left alone for a while.
	if dropped, start := q.push(wire.Carried{Type: 1}, now); dropped || !start {
		t.Error("the queue does not start again")
	}
	if got := q.giveUp(now); got != 1 {
		t.Errorf("%d packets given up, want 1", got)
	}
	if dropped, start := q.push(wire.Carried{Type: 1}, now.Add(carryAgain-1)); !dropped || start {
		t.Error("it is dialled again at once")
	}
	if dropped, start := q.push(wire.Carried{Type: 1}, now.Add(carryAgain)); dropped || !start {
		t.Error("it is not dialled again")
	}
}

// The dead cost a few challenges and some dials, and then nothing.
func TestPeerThatIsGoneIsNotAskedForEver(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		talk(a, b, 5)
		b.stop()
		for i := range 30 { // memberlist goes on for as long, and then gives up
			a.WriteToAddress(ackOf(uint32(i)), b.to())
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Minute)
		record := c.recorded()
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(*record) != 0 {
			t.Errorf("%d datagrams an hour to a node that is gone", len(*record))
		}
		a.nothingLogged("a node that is gone is no blocked path")
	})
}

// Of several endpoints the one that answers is used.
func TestEndpointThatAnswersIsUsed(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.node("a").start(), c.node("b")
		b.endpoints = []netip.AddrPort{netip.MustParseAddrPort("198.51.100.99:7946"), b.addr}
		b.start().learn(a)
		a.learn(b)
		for i := range 4 {
			a.WriteToAddress(ackOf(uint32(i)), b.to())
			time.Sleep(time.Second)
		}
		b.delivered()
		if at := a.Seen(a.of(b)).Endpoint; at != b.addr {
			t.Errorf("a reaches b at %s, want %s", at, b.addr)
		}
		a.gossip(b, ackOf(9))
		if got := len(b.delivered()); got != 1 {
			t.Errorf("%d packets arrived, want 1", got)
		}
		if got := a.Counters()["packets_carried"]; got != 0 {
			t.Errorf("%d packets went by stream", got)
		}
	})
}

// An endpoint of a family that our socket cannot send to is no path; a stream may
// get there.
func TestPeerOfAnotherFamilyIsReachedByStream(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.node("a").start(), c.node("b")
		six := netip.MustParseAddrPort("[2001:db8::b]:7946")
		b.endpoints = []netip.AddrPort{six}
		b.start().learn(a)
		a.learn(b)
		a.config.Network = &mappedNetwork{Network: a.network, from: six, to: b.addr}
		record := c.recorded()
		for i := range 10 {
			a.WriteToAddress(ackOf(uint32(i)), b.to())
			time.Sleep(time.Second)
		}
		if got := len(b.delivered()); got != 10 {
			t.Errorf("%d of 10 packets arrived", got)
		}
		for _, d := range *record {
			if d.From.Addr() == a.addr.Addr() {
				t.Errorf("a sent a datagram to %s", d.To)
			}
		}
	})
}

// A peer that no socket of ours gets to is not said to be reached by anything.
func TestPeerThatNothingReachesIsNeitherReachedByUDPNorByStream(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.node("a").start(), c.node("b")
		b.endpoints = []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::b]:7946")}
		b.start()
		a.learn(b)
		for i := range 10 {
			a.WriteToAddress(ackOf(uint32(i)), b.to())
			time.Sleep(time.Second)
		}
		if seen := a.Seen(a.of(b)); !seen.Blocked || seen.Carried {
			t.Errorf("blocked: %v, carried: %v", seen.Blocked, seen.Carried)
		}
		if got := a.log.String(); got != "" {
			t.Errorf("a logged\n%s", got)
		}
	})
}

// Threat N10: a node that runs on another host alone says it is at 127.0.0.1.
// Whoever believed that would talk to itself, or to whatever listens there.
func TestLoopbackOfAnotherHostIsNoEndpoint(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.node("a").start(), c.node("b")
		b.endpoints = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:7946")}
		b.start()
		a.learn(b)
		record := c.recorded()
		for i := range 10 {
			a.WriteToAddress(ackOf(uint32(i)), b.to())
			time.Sleep(time.Second)
		}
		if _, err := a.DialAddressTimeout(b.to(), time.Second); err == nil {
			t.Error("a dialled itself")
		}
		if len(*record) != 0 || a.Seen(a.of(b)).Endpoint.IsValid() {
			t.Errorf("a sent %d datagrams, and reaches b at %s", len(*record), a.Seen(a.of(b)).Endpoint)
		}
		// Where all are on one host it is an endpoint as any other.
		a.endpoints = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:7947")}
		a.say(func(*wire.Record) {})
		if at := a.Seen(a.of(b)).Endpoint; at != b.endpoints[0] {
			t.Errorf("on one host a reaches b at %q", at)
		}
	})
}

// What arrives by stream is held to the same rules as what arrives by datagram.
func TestCarriedPacketsAreChecked(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		challenge := wire.Challenge{Token: [8]byte{1}, Try: 5}.Append(nil)
		gossip := func(packet []byte) []byte { return must(wire.Gossip{Packet: packet}.Append(nil))(t) }
		for claim, test := range map[string]struct {
			packet wire.Carried
			want   map[string]uint64
		}{
			"a path challenge":     {wire.Carried{Type: wire.PacketPathChallenge, Payload: challenge}, map[string]uint64{"drop_forged": 1}},
			"a malformed packet":   {wire.Carried{Type: wire.PacketGossip, Payload: gossip([]byte{99})}, map[string]uint64{"packets_received": 1, "drop_forged": 1}},
			"another asker's ping": {wire.Carried{Type: wire.PacketGossip, Payload: gossip(pingBy("x"))}, map[string]uint64{"packets_received": 1, "drop_forged": 1}},
			"an answer to nothing": {wire.Carried{Type: wire.PacketPathResponse, Payload: wire.Response{Time: time.Now()}.Append(nil)}, map[string]uint64{"checks_received": 1}},
			"a packet":             {wire.Carried{Type: wire.PacketGossip, Payload: gossip(ackOf(1))}, map[string]uint64{"packets_received": 1}},
		} {
			before := b.Counters()
			a.carry(a.sessions.get("b"), test.packet.Type, test.packet.Payload)
			synctest.Wait()
			test.want["streams_accepted"] = b.Counters()["streams_accepted"] - before["streams_accepted"]
			b.counts(claim, before, test.want)
		}
		if got := len(b.delivered()); got != 1 {
			t.Errorf("memberlist was given %d packets, want 1", got)
		}
	})
}

// Where UDP reaches nobody, what we open stays within what we have descriptors for.
func TestCarriersThatWeOpenAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.node("a").start()
		for i := range maxCarriers + 5 {
			n := c.node(fmt.Sprint("n", i)).start().learn(a)
			a.learn(n)
			a.carry(a.sessions.get(n.name), wire.PacketGossip, must(wire.Gossip{Packet: ackOf(1)}.Append(nil))(t))
		}
		synctest.Wait()
		if got := a.streams(); got != maxCarriers {
			t.Errorf("%d streams are open, want %d", got, maxCarriers)
		}
		if got := a.Counters()["packets_dropped"]; got != 5 {
			t.Errorf("%d packets were dropped, want those to the other 5", got)
		}
	})
}

// A carrier that is not used any more is closed by both.
func TestIdleCarrierIsClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		a.carry(a.sessions.get("b"), wire.PacketGossip, must(wire.Gossip{Packet: ackOf(1)}.Append(nil))(t))
		synctest.Wait()
		open := func() string { return fmt.Sprint(a.streams(), b.streams()) }
		if got := open(); got != "1 1" {
			t.Fatalf("%s streams are open, want one at each", got)
		}
		time.Sleep(carrierIdle + carryTimeout)
		synctest.Wait()
		if got := open(); got != "0 0" {
			t.Errorf("%s streams are open after a minute of silence", got)
		}
	})
}

// streams counts the connections a node has open.
func (n *node) streams() int {
	n.open.mu.Lock()
	defer n.open.mu.Unlock()
	return len(n.open.conns)
}

// deaf is a network on which one address cannot be dialled.
type deaf struct {
	Network
	to netip.AddrPort
}

func (n deaf) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	if addr == n.to {
		return nil, syscall.ECONNREFUSED
	}
	return n.Network.Dial(ctx, addr)
}
