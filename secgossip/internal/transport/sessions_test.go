package transport

import (
	"crypto/ed25519"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/secgossip/secgossip/secgossip/internal/seal"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

func TestPeerThatMovesIsFollowedAfterItsFirstPacket(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		record := c.recorded()
		if seen := b.Seen(b.of(a)); seen.Endpoint != a.addr || seen.Epoch != 0 {
			t.Errorf("before it spoke b reaches a at %s, epoch %d; want its record's %s and none", seen.Endpoint, seen.Epoch, a.addr)
		}
		// a's next packet comes from another address.
		c.net.Hold()
		a.gossip(b, ackOf(1))
		packet := c.net.Take()[0].Data
		c.net.Release()
		moved := netip.MustParseAddrPort("198.51.100.7:1234")
		b.inject(packet, moved)
		if seen := b.Seen(b.of(a)); seen.Endpoint != moved || seen.Epoch != 1 {
			t.Errorf("b reaches a at %s, epoch %d; want %s, 1", seen.Endpoint, seen.Epoch, moved)
		}
		*record = nil
		b.gossip(a, ackOf(2))
		if got := (*record)[0].To; got != moved {
			t.Errorf("the answer went to %s, want %s", got, moved)
		}
		// A stranger moves nobody: not by junk, a copy or a damaged copy.
		damaged := append([]byte{}, packet...)
		damaged[40] ^= 1
		for _, data := range [][]byte{packet, damaged, make([]byte, 64)} {
			b.inject(data, elsewhere)
		}
		if at := b.Seen(b.of(a)).Endpoint; at != moved {
			t.Errorf("a stranger moved a to %s", at)
		}
	})
}

func TestIPv4InIPv6IsIPv4(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		c.net.Hold()
		a.gossip(b, ackOf(1))
		packet := c.net.Take()[0].Data
		mapped := netip.AddrPortFrom(netip.AddrFrom16(a.addr.Addr().As16()), 999)
		if !mapped.Addr().Is4In6() {
			t.Fatalf("%s is no mapped address", mapped)
		}
		b.take(packet, mapped)
		if at := b.Seen(b.of(a)).Endpoint; at != netip.AddrPortFrom(a.addr.Addr(), 999) {
			t.Errorf("b reaches a at %s", at)
		}
	})
}

func TestEndpointsStartWhereThePeerWasSeen(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.node("a"), c.node("b")
		first, second, third := netip.MustParseAddrPort("10.0.0.1:1"), a.addr, netip.MustParseAddrPort("[2001:db8::1]:3")
		a.endpoints = []netip.AddrPort{first, second, third}
		a.start()
		b.start().learn(a)
		check := func(what string, want ...netip.AddrPort) {
			t.Helper()
			if got := b.sessions.endpoints(b.of(a)); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		check("as the record has them", first, second, third)
		b.sessions.reached(b.of(a), second)
		check("one of them was seen", second, first, third)
		b.sessions.reached(b.of(a), elsewhere)
		check("another was seen", elsewhere, first, second, third)
		if got := b.of(a).Record.Endpoints; got[0] != first || len(got) != 3 {
			t.Errorf("the record now has %v", got)
		}
		// A later record with the same endpoints says nothing new about them.
		a.say(func(*wire.Record) {})
		b.learn(a)
		check("a later record", elsewhere, first, second, third)
		a.restart()
		b.learn(a)
		check("a later start", elsewhere, first, second, third)
		a.endpoints = []netip.AddrPort{third}
		a.say(func(*wire.Record) {})
		b.learn(a)
		check("a record with other endpoints", third)
		b.sessions.reached(b.of(a), elsewhere)
		a.endpoints = []netip.AddrPort{second}
		a.restart()
		b.learn(a)
		check("a start at other endpoints", second)
	})
}

func TestSealedCountsEveryDatagramOfAnEpoch(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		d := c.node("d").start().learn(a)
		a.learn(d)
		check := func(what string, one, two uint64) {
			t.Helper()
			if got1, got2 := a.Sealed(1), a.Sealed(2); got1 != one || got2 != two {
				t.Errorf("%s: %d and %d sealed, want %d and %d", what, got1, got2, one, two)
			}
		}
		a.gossip(b, ackOf(1))
		a.gossip(d, ackOf(2))
		check("two packets", 2, 0)
		next := epochSecret{2}
		both := map[uint64]seal.EpochSecret{1: c.epoch, 2: next}
		a.SetEpochs(1, both)
		a.gossip(b, ackOf(3))
		check("installed", 3, 0)
		a.SetEpochs(2, both)
		a.gossip(b, ackOf(4))
		check("in use", 3, 1)
		b.restart()
		a.learn(b)
		a.gossip(b, ackOf(5))
		check("the peer restarted", 3, 2)
		a.SetEpochs(2, map[uint64]seal.EpochSecret{2: next})
		check("removed", 0, 2)
	})
}

// The epoch that a peer sealed with last is what it is known by.
func TestBothEndsFollowTheEpochs(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		next := epochSecret{2}
		a.SetEpochs(2, map[uint64]seal.EpochSecret{1: c.epoch, 2: next})
		before := b.Counters()
		a.gossip(b, ackOf(1))
		b.counts("an epoch b lacks", before, map[string]uint64{"drop_door": 1})
		b.SetEpochs(1, map[uint64]seal.EpochSecret{1: c.epoch, 2: next})
		a.gossip(b, ackOf(2))
		b.gossip(a, ackOf(3))
		if len(a.delivered()) != 1 || len(b.delivered()) != 1 {
			t.Error("between two epochs both hold packets are lost")
		}
		if epoch := b.Seen(b.of(a)).Epoch; epoch != 2 {
			t.Errorf("b knows a to seal with epoch %d, want 2", epoch)
		}
		if epoch := a.Seen(a.of(b)).Epoch; epoch != 1 {
			t.Errorf("a knows b to seal with epoch %d, want 1", epoch)
		}
	})
}

// A second sender for one epoch would use every nonce twice.
func TestEpochThatComesBackIsNotSealedWith(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		a.gossip(b, ackOf(1))
		a.SetEpochs(0, nil)
		a.SetEpochs(1, map[uint64]seal.EpochSecret{1: c.epoch})
		before := a.Counters()
		if _, err := a.WriteToAddress(ackOf(2), b.to()); err == nil {
			t.Error("a sealed in an epoch that was removed")
		}
		a.counts("an epoch that came back", before, map[string]uint64{"packets_unsent": 1})
		// Another epoch of the same number is another epoch.
		a.SetEpochs(1, map[uint64]seal.EpochSecret{1: epochSecret{9}})
		b.SetEpochs(1, map[uint64]seal.EpochSecret{1: c.epoch, 2: epochSecret{}})
		if _, err := a.WriteToAddress(ackOf(3), b.to()); err != nil {
			t.Errorf("another epoch of the same number: %v", err)
		}
	})
}

// senderTo is the sender a node has for another, to be told from a second one.
func (n *node) senderTo(other *node) *seal.Sender {
	if p := n.sessions.get(other.name); p != nil {
		return p.sending.Load()
	}
	return nil
}

func TestOneStartOfAPeerHasOneSenderForGood(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		sender := a.senderTo(b)
		for what, change := range map[string]func(){
			"a later record":   func() { b.say(func(*wire.Record) {}); a.learn(b) },
			"other endpoints":  func() { b.endpoints = []netip.AddrPort{elsewhere}; b.say(func(*wire.Record) {}); a.learn(b) },
			"a leave":          func() { b.say(func(r *wire.Record) { r.Leaving = true }); a.learn(b) },
			"the record again": func() { a.learn(b) },
			"another epoch":    func() { a.SetEpochs(1, map[uint64]seal.EpochSecret{1: c.epoch, 2: epochSecret{2}}) },
			"the same epochs":  func() { a.SetEpochs(1, map[uint64]seal.EpochSecret{1: c.epoch, 2: epochSecret{2}}) },
			"another credential": func() {
				b.issued = must(c.root.Node(nodeRequest(b)))(t)
				b.say(func(*wire.Record) {})
				a.learn(b)
			},
		} {
			change()
			if a.senderTo(b) != sender {
				t.Errorf("%s: a has another sender to b", what)
			}
		}
	})
}

// Two machines with one identity sign records in turn, each with its own boot
// nonce. The nonce of the first comes back; its keys must not.
func TestBootNonceThatComesBackGetsNoKeys(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		record := exchange(t, c, b, a)
		first := b.boot
		b.restart()
		a.learn(b)
		second := a.senderTo(b)
		for range 5 {
			b.say(func(r *wire.Record) { r.Boot = first })
			a.learn(b)
			if a.senderTo(b) != second {
				t.Fatal("a made keys for a boot nonce a second time")
			}
			b.say(func(*wire.Record) {})
			a.learn(b)
		}
		if got := strings.Count(a.log.String(), "\n"); got != 1 || !strings.Contains(a.log.String(), "node=b") {
			t.Errorf("the operator is told %d times, want once:\n%s", got, a.log.String())
		}
		a.log.text.Reset()
		replay("from b's first life", record, a, "drop_sender")
		// b itself is still heard.
		b.learn(a)
		b.gossip(a, ackOf(2))
		if got := len(a.delivered()); got != 1 {
			t.Errorf("%d packets of b's second life were delivered, want 1", got)
		}
	})
}

func TestStartsOfEpochsThatAreGoneAreForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		for range 3 {
			b.restart()
			a.learn(b)
		}
		both := map[uint64]seal.EpochSecret{1: c.epoch, 2: epochSecret{2}}
		a.SetEpochs(2, both)
		if got := len(a.sessions.starts.last); got != 4 {
			t.Errorf("%d starts are remembered while their epoch is held, want 4", got)
		}
		delete(both, 1)
		a.SetEpochs(2, both)
		if got := len(a.sessions.starts.last); got != 1 {
			t.Errorf("%d starts are remembered, want the present one", got)
		}
	})
}

// The same start under two names would be the same keys.
func TestTwoNamesDoNotShareAStart(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		twin := c.node("twin")
		twin.signing, twin.agreement, twin.boot = b.signing, b.agreement, b.boot
		twin.issued = must(c.root.Node(nodeRequest(twin)))(t)
		twin.show(twin.sign(func(*wire.Record) {}))
		sender := a.senderTo(b)
		a.learn(twin)
		if a.senderTo(twin) != nil || a.senderTo(b) != sender {
			t.Error("two names have keys with one start")
		}
	})
}

func TestStartsAreBoundedAndForgottenWithTheirEpochs(t *testing.T) {
	s := newStarts()
	party := func(i int) seal.Party { return seal.Party{Boot: [wire.BootSize]byte{byte(i), byte(i >> 8)}} }
	for i := range maxStarts {
		if err := s.first("x", party(i)); err != nil {
			t.Fatalf("start %d: %v", i, err)
		}
		if i > 0 {
			s.over(party(i-1), uint64(1+i%2))
		}
	}
	if err := s.first("x", party(maxStarts)); err != errTooManyStarts {
		t.Errorf("one more: got %v, want %v", err, errTooManyStarts)
	}
	if err := s.first("y", seal.Party{Key: [32]byte{1}}); err != nil {
		t.Errorf("another node: %v", err)
	}
	s.forget(1)
	if err := s.first("x", party(0)); err != errSecondStart {
		t.Errorf("while an epoch of its time is held: got %v, want %v", err, errSecondStart)
	}
	s.forget(3)
	if err := s.first("x", party(0)); err != nil {
		t.Errorf("after its epochs: %v", err)
	}
	if err := s.first("x", party(maxStarts-1)); err != errSecondStart {
		t.Errorf("the start in use: got %v, want %v", err, errSecondStart)
	}
	s.over(party(0), 1)
	s.over(party(maxStarts-1), 1)
	s.over(seal.Party{Key: [32]byte{1}}, 1)
	s.forget(2)
	if len(s.last) != 0 || len(s.nodes) != 0 {
		t.Errorf("%d starts of %d nodes are left", len(s.last), len(s.nodes))
	}
}

// A node set up again has a new key and no share in the keys of the old one.
func TestNodeSetUpAgainGetsNewKeys(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		record := exchange(t, c, b, a)
		before := a.senderTo(b)
		b.stop()
		_, b.signing, _ = ed25519.GenerateKey(nil)
		request, at := nodeRequest(b)
		b.issued = must(c.root.Node(request, at.Add(2*1e9)))(t)
		b.restart().learn(a)
		a.learn(b)
		if now := a.senderTo(b); now == nil || now == before {
			t.Error("a has no keys of its own with b's new identity")
		}
		replay("under the old key", record, a, "drop_sender")
		b.gossip(a, ackOf(9))
		if got := len(a.delivered()); got != 1 {
			t.Errorf("%d packets arrived, want 1", got)
		}
	})
}

// Run with the race detector: records, epochs and packets at once.
func TestKeysChangeWhilePacketsFly(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		stop := make(chan struct{})
		for range 2 {
			go func() {
				for i := uint32(0); ; i++ {
					select {
					case <-stop:
						return
					default:
						a.WriteToAddress(ackOf(i), b.to()) // an epoch may be missing at times
						a.Sealed(1)
						b.Seen(b.of(a))
						b.delivered()
					}
				}
			}()
		}
		for i := range 20 {
			number := uint64(i + 2)
			both := map[uint64]seal.EpochSecret{number - 1: epochSecret{byte(number - 1)}, number: epochSecret{byte(number)}}
			a.SetEpochs(number, both)
			b.SetEpochs(number, both)
			a.say(func(*wire.Record) {})
			b.learn(a)
		}
		close(stop)
		synctest.Wait()
		b.delivered()
		a.gossip(b, ackOf(1))
		if got := len(b.delivered()); got != 1 {
			t.Errorf("%d packets arrived in the end, want 1", got)
		}
	})
}
