package transport

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/memnet"
	"github.com/secgossip/secgossip/secgossip/internal/seal"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// elsewhere is an address that is nobody's.
var elsewhere = netip.MustParseAddrPort("198.51.100.66:6666")

// recorded returns a pointer to what was sent so far.
func (c *cluster) recorded() *[]memnet.Datagram {
	var all []memnet.Datagram
	c.net.Tap(func(d memnet.Datagram) { all = append(all, d) })
	return &all
}

// inject lets a datagram arrive at a node from some address.
func (n *node) inject(data []byte, from netip.AddrPort) {
	n.t.Helper()
	if !n.c.net.Inject(memnet.Datagram{From: from, To: n.addr, Data: data}) {
		n.t.Errorf("%s took no datagram", n.name)
	}
	synctest.Wait()
}

func TestPacketArrivesAndSaysWhoseItIs(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		a.gossip(b, ackOf(1))
		select {
		case p := <-b.PacketCh():
			if !bytes.Equal(p.Buf, ackOf(1)) {
				t.Errorf("b was given %x", p.Buf)
			}
			if got, want := p.From.String(), a.to().Addr; got != want {
				t.Errorf("from %s, want a's virtual address %s", got, want)
			}
		default:
			t.Fatal("nothing arrived")
		}
		for kind, batch := range map[wire.PacketType]wire.Batch{wire.PacketEvents: wire.BatchEvents, wire.PacketEpochs: wire.BatchEpochs} {
			payload := must(batch.Append(nil, [][]byte{[]byte("one"), fmt.Appendf(nil, "%d", kind)}))(t)
			if err := a.Send(a.of(b), kind, payload); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if got, want := b.batches[len(b.batches)-1], fmt.Sprintf("a: one, %d", kind); got != want {
				t.Errorf("b was given %q, want %q", got, want)
			}
		}
		a.counts("sending", nil, map[string]uint64{"packets_sent": 3})
		b.counts("receiving", nil, map[string]uint64{"packets_received": 3})
	})
}

// exchange lets a send some packets of each kind to b, and returns them.
func exchange(t *testing.T, c *cluster, a, b *node) []memnet.Datagram {
	t.Helper()
	record := c.recorded()
	for i := range uint32(5) {
		a.gossip(b, ackOf(i))
	}
	payload := must(wire.BatchEvents.Append(nil, [][]byte{[]byte("event")}))(t)
	if err := a.Send(a.of(b), wire.PacketEvents, payload); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	if got := len(b.delivered()); got != 5 || len(b.batches) != 1 || len(*record) != 6 {
		t.Fatalf("%d packets sent; %d delivered, and %q", len(*record), got, b.batches)
	}
	b.batches = nil
	return *record
}

// replay sends recorded datagrams to a node twice, in another order, from where
// they came from and from elsewhere. want is the drop they are counted as.
func replay(what string, record []memnet.Datagram, to *node, want string) {
	to.t.Helper()
	before := to.Counters()
	for _, i := range rand.Perm(len(record)) {
		to.inject(record[i].Data, elsewhere)
		to.inject(record[i].Data, record[i].From)
	}
	to.counts(what, before, map[string]uint64{want: uint64(2 * len(record))})
	to.nothingHappened(what)
}

// Threats N02, N06.
func TestReplayIsDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		record := exchange(t, c, a, b)
		replay("to its receiver", record, b, "drop_replay")
		if at := b.Seen(b.of(a)).Endpoint; at != a.addr {
			t.Errorf("b now reaches a at %s: a replay moved it", at)
		}
		// What comes after them still opens.
		a.gossip(b, ackOf(6))
		if got := len(b.delivered()); got != 1 {
			t.Errorf("%d packets arrived after the replay, want 1", got)
		}
	})
}

func TestReplayToAnotherNodeIsDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		d := c.node("d").start().learn(a, b)
		record := exchange(t, c, a, b)
		replay("to a third node", record, d, "drop_door")
		replay("back to its sender", record, a, "drop_door")
	})
}

// Threat N02: also of a recording made before either side started anew.
func TestReplayAcrossRestartIsDropped(t *testing.T) {
	for claim, test := range map[string]struct {
		restart func(a, b *node)
		want    string
	}{
		"the receiver started anew":                  {func(a, b *node) { b.restart().learn(a) }, "drop_sender"},
		"the receiver started anew and knows nobody": {func(_, b *node) { b.restart() }, "drop_sender"},
		"the sender started anew":                    {func(a, b *node) { a.restart(); b.learn(a) }, "drop_sender"},
		"the sender started anew, unknown to b":      {func(a, _ *node) { a.restart() }, "drop_replay"},
		"both started anew":                          {func(a, b *node) { a.restart(); b.restart().learn(a) }, "drop_sender"},
		"the epoch is gone":                          {func(_, b *node) { b.SetEpochs(0, nil) }, "drop_door"},
		"the epoch is gone and is offered again": {func(_, b *node) {
			b.SetEpochs(0, nil)
			b.SetEpochs(1, map[uint64]seal.EpochSecret{1: b.c.epoch})
		}, "drop_door"},
	} {
		t.Run(claim, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster) {
				a, b := c.pair()
				record := exchange(t, c, a, b)
				test.restart(a, b)
				b.log.text.Reset() // what the operator did may be logged
				replay(claim, record, b, test.want)
			})
		})
	}
}

func TestEveryFlippedBitOfADatagramIsDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		c.net.Hold()
		a.gossip(b, ackOf(1))
		original := c.net.Take()[0].Data
		before := b.Counters()
		for bit := range len(original) * 8 {
			damaged := bytes.Clone(original)
			damaged[bit/8] ^= 1 << (bit % 8)
			b.inject(damaged, a.addr)
		}
		// A bit of the first block makes another block: nobody's door. Any
		// other leaves the door as it was, and the tag wrong.
		b.counts("flipped bits", before, map[string]uint64{
			"drop_door": wire.DoorSize * 8,
			"drop_seal": uint64(len(original)-wire.DoorSize) * 8,
		})
		b.nothingHappened("flipped bits")
		for n := range original {
			b.inject(original[:n], a.addr)
		}
		b.nothingHappened("truncations")
		// Forgeries have used nothing up.
		b.inject(original, a.addr)
		if got := b.delivered(); len(got) != 1 {
			t.Errorf("%d packets were delivered, want the original", len(got))
		}
	})
}

// Threat N13: there is no plaintext mode, and nothing that falls back to one.
func TestPlaintextMemberlistPacketIsDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		for _, packet := range genuine {
			before := b.Counters()
			b.inject(packet, a.addr)
			b.counts("as it is", before, map[string]uint64{"drop_size": 1})
			// In a length that ours have, in front and behind.
			padding := make([]byte, wire.DatagramSize(len(packet))-len(packet))
			b.inject(append(bytes.Clone(packet), padding...), a.addr)
			b.inject(append(padding, packet...), a.addr)
			payload := must(wire.AppendPlaintext(nil, packet))(t)
			b.inject(append(make([]byte, wire.DoorSize), append(payload, make([]byte, wire.TagSize)...)...), a.addr)
			b.counts("padded", before, map[string]uint64{"drop_size": 1, "drop_door": 3})
		}
		b.nothingHappened("plaintext")
	})
}

// Threat N04: a name or even secrets in common do not join two clusters.
func TestPacketOfAForeignClusterIsDropped(t *testing.T) {
	for _, sameSecrets := range []bool{false, true} {
		inBubble(t, func(t *testing.T, c *cluster) {
			_, b := c.pair()
			foreign := newCluster(t, "demo")
			foreign.net = c.net
			defer foreign.close()
			if sameSecrets {
				foreign.epoch, foreign.knock = c.epoch, c.knock
			}
			// Their b has our b's very keys, and their x talks to it.
			x, twin := foreign.node("x"), foreign.node("b")
			x.addr, x.endpoints = elsewhere, []netip.AddrPort{elsewhere}
			x.network = c.net.Host(elsewhere.Addr())
			twin.signing, twin.agreement, twin.boot, twin.endpoints = b.signing, b.agreement, b.boot, b.endpoints
			twin.issued = must(foreign.root.Node(nodeRequest(twin)))(t)
			x.start()
			twin.sequence = 1
			must(x.roster.Admit(twin.sign(func(*wire.Record) {}), time.Now()))(t)
			for i := range uint32(10) {
				x.gossip(twin, ackOf(i))
			}
			b.counts("a foreign cluster", nil, map[string]uint64{"drop_door": 10})
			b.nothingHappened("a foreign cluster")
		})
	}
}

// Threats N05, N10, N12: whatever arrives from nobody is dropped by its length or
// at the door, and nothing goes back.
func TestJunkOfEverySizeIsDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		_, b := c.pair()
		record := c.recorded()
		random := rand.NewChaCha8([32]byte{})
		want := make(map[string]uint64)
		for size := range 1501 {
			junk := make([]byte, size)
			random.Read(junk)
			for _, data := range [][]byte{junk, make([]byte, size), bytes.Repeat([]byte{0xff}, size)} {
				b.inject(data, elsewhere)
				if size >= wire.MinDatagram && size <= wire.MaxDatagram && size%wire.DatagramStep == 0 {
					want["drop_door"]++
				} else {
					want["drop_size"]++
				}
			}
		}
		b.counts("junk", nil, want)
		b.nothingHappened("junk")
		if len(*record) != 0 {
			t.Errorf("%d datagrams were sent in answer to junk", len(*record))
		}
		// Threat N11: a stranger causes no seal.
		if got := b.Sealed(1); got != 0 {
			t.Errorf("%d datagrams were sealed", got)
		}
	})
}

func TestDroppedDatagramCostsNoMemory(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		c.net.Hold()
		a.gossip(b, ackOf(1))
		original := c.net.Take()[0].Data
		b.inject(original, a.addr)
		forged := bytes.Clone(original)
		forged[len(forged)-1] ^= 1
		for claim, data := range map[string][]byte{
			"junk": make([]byte, 128), "an odd length": make([]byte, 100), "a replay": original, "a forgery behind a genuine door": forged,
		} {
			if allocations := testing.AllocsPerRun(100, func() { b.take(data, elsewhere) }); allocations != 0 {
				t.Errorf("%s: %v allocations, want none", claim, allocations)
			}
		}
	})
}
