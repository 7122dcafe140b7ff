package transport

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

func TestEvidenceTravelsBesideThePacket(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		d := c.node("d").start()
		a.learn(d)
		record := c.recorded()
		a.gossip(b, compound(pingBy("a"), aliveOf(c, "d")))
		if b.of(d) == nil {
			t.Error("b was told that d is alive and has no record of it")
		}
		if got := len(b.delivered()); got != 1 || len(*record) != 1 {
			t.Errorf("%d packets in %d datagrams, want one in one", got, len(*record))
		}
		// What says nothing about anybody carries no evidence.
		*record = nil
		a.gossip(b, ackOf(1))
		if got, want := len((*record)[0].Data), wire.DatagramSize(1+len(ackOf(1))); got != want {
			t.Errorf("an answer takes %d bytes, want %d", got, want)
		}
	})
}

func TestEvidenceThatDoesNotFitGoesAhead(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		var parts [][]byte
		for i := range 9 {
			n := c.node(fmt.Sprintf("n%d", i)).start()
			a.learn(n)
			parts = append(parts, aliveOf(c, n.name))
		}
		record := c.recorded()
		a.gossip(b, compound(parts...))
		for i := range 9 {
			if b.of(c.nodes[fmt.Sprintf("n%d", i)]) == nil {
				t.Errorf("b has no record of n%d", i)
			}
		}
		if got := len(b.delivered()); got != 1 {
			t.Errorf("%d packets arrived, want 1", got)
		}
		// Nine records are more than three datagrams hold beside the packet.
		if got := len(*record); got < 4 || got > 6 {
			t.Errorf("it took %d datagrams", got)
		}
		b.counts("a packet with much evidence", nil, map[string]uint64{"packets_received": uint64(len(*record))})
	})
}

func TestPackKeepsAllEvidenceInOrder(t *testing.T) {
	packet := bytes.Repeat([]byte{1}, 300)
	for count := range 40 {
		for _, size := range []int{1, 90, 440, wire.MaxRecord} {
			var evidence [][]byte
			for i := range count {
				evidence = append(evidence, bytes.Repeat([]byte{byte(i)}, size))
			}
			payload, ahead, err := pack(packet, evidence)
			if err != nil {
				t.Fatalf("%d records of %d bytes: %v", count, size, err)
			}
			var got [][]byte
			gossip := must(wire.ParseGossip(payload))(t)
			for _, records := range ahead {
				got = append(got, must(wire.BatchRecords.Parse(records))(t)...)
			}
			got = append(append([][]byte{}, gossip.Evidence...), got...)
			if !bytes.Equal(bytes.Join(got, nil), bytes.Join(evidence, nil)) || !bytes.Equal(gossip.Packet, packet) {
				t.Fatalf("%d records of %d bytes: other evidence came out", count, size)
			}
		}
	}
}

// memberlist looks at the type of the error, not at what it wraps: with any other
// it never comes to suspect a member that cannot be reached.
func TestWhoCannotBeReachedIsAFailedWriteToMemberlist(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		d := c.node("d")
		for claim, attempt := range map[string]func() error{
			"a name without a record": func() error {
				_, err := a.WriteToAddress(ackOf(1), d.to())
				return err
			},
			"an address without a record": func() error {
				_, err := a.WriteTo(ackOf(1), d.to().Addr)
				return err
			},
			"a real address": func() error {
				_, err := a.WriteTo(ackOf(1), b.addr.String())
				return err
			},
			"no address": func() error {
				_, err := a.WriteTo(ackOf(1), "")
				return err
			},
			"ourselves": func() error {
				_, err := a.WriteToAddress(ackOf(1), a.to())
				return err
			},
			"no epoch": func() error {
				a.SetEpochs(0, nil)
				_, err := a.WriteToAddress(ackOf(1), b.to())
				return err
			},
		} {
			err := attempt()
			if op, ok := err.(*net.OpError); !ok || op.Op != "write" || op.Net != "udp" {
				t.Errorf("%s: got %#v, want a failed write", claim, err)
			}
		}
		b.Shutdown()
		_, err := b.WriteToAddress(ackOf(1), a.to())
		if op, ok := err.(*net.OpError); !ok || op.Op != "write" || op.Net != "udp" {
			t.Errorf("after Shutdown: got %#v, want a failed write", err)
		}
		if _, err := a.WriteToAddress(nil, b.to()); err == nil {
			t.Error("nothing was sent as a packet")
		}
	})
}

func TestPacketTooLargeAccusesNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		payload := bytes.Repeat([]byte{0xff}, wire.MaxGossipPacket-len(ackOf(1))-6)
		_, err := a.WriteToAddress(make([]byte, wire.MaxGossipPacket), b.to())
		if err != nil {
			t.Errorf("the largest packet: %v", err)
		}
		_, err = a.WriteToAddress(append(payload, make([]byte, 100)...), b.to())
		if !errors.Is(err, wire.ErrTooLarge) {
			t.Errorf("a larger one: got %v, want ErrTooLarge", err)
		}
		if _, ok := err.(*net.OpError); ok {
			t.Errorf("a larger one: %v would make memberlist suspect b", err)
		}
	})
}

// Threats K02, C08, C11: what a member may not say. The seal is right each time.
func TestPacketThatNobodyHonestSendsIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		d := c.node("d").start()
		stolen := d.sign(func(*wire.Record) {})
		forged := must(wire.SignRecord(a.signing, c.root.Trust().Cluster(), wire.Record{
			Name: "d", Sequence: 1 << 60, Boot: a.boot, Endpoints: a.endpoints, Credential: d.issued.Credential,
		}))(t)
		gossip := func(packet []byte, evidence ...[]byte) []byte {
			return must(wire.Gossip{Packet: packet, Evidence: evidence}.Append(nil))(t)
		}
		records := func(items ...[]byte) []byte { return must(wire.BatchRecords.Append(nil, items))(t) }
		for claim, test := range map[string]struct {
			kind    wire.PacketType
			payload []byte
		}{
			"no packet":                            {wire.PacketGossip, []byte{0}},
			"nothing at all":                       {wire.PacketGossip, nil},
			"evidence cut off":                     {wire.PacketGossip, []byte{1, 0, 9, 'x'}},
			"thirteen pieces of evidence":          {wire.PacketGossip, []byte{13}},
			"a user message":                       {wire.PacketGossip, gossip([]byte("\x08hello"))},
			"a compressed message":                 {wire.PacketGossip, gossip([]byte{9, 0x82})},
			"a byte after a message":               {wire.PacketGossip, gossip(append(ackOf(1), 0))},
			"a compound in a compound":             {wire.PacketGossip, gossip(compound(compound(ackOf(1))))},
			"a probe in another's name":            {wire.PacketGossip, gossip(pingBy("d"))},
			"a leave of a node nobody knows":       {wire.PacketGossip, gossip(deadBy("x", "x"))},
			"a leave with a record of a live node": {wire.PacketGossip, gossip(deadBy("d", "d"), stolen)},
			"a leave behind something good":        {wire.PacketGossip, gossip(compound(ackOf(1), deadBy("d", "d")), stolen)},
			"our own leave":                        {wire.PacketGossip, gossip(deadBy("b", "b"))},
			"records cut off":                      {wire.PacketRecords, []byte{0, 9, 'x'}},
			"no records":                           {wire.PacketRecords, nil},
			"a record that is none":                {wire.PacketRecords, records([]byte("x"))},
			"a record signed by somebody else":     {wire.PacketRecords, records(forged)},
			"no events":                            {wire.PacketEvents, nil},
			"no repaired events":                   {wire.PacketRepair, nil},
			"events cut off":                       {wire.PacketEvents, []byte{0, 9, 'x'}},
			"an event longer than any":             {wire.PacketEvents, append([]byte{0x04, 0x9d}, make([]byte, wire.MaxMarkedEvent)...)},
			"no queries":                           {wire.PacketQueries, nil},
			"a query longer than any":              {wire.PacketQueries, append([]byte{0x04, 0x4d}, make([]byte, wire.MaxQueryRaw+1)...)},
			"no replies":                           {wire.PacketReplies, nil},
			"an empty reply":                       {wire.PacketRelay, []byte{0, 0}},
			"a taken cut off":                      {wire.PacketTaken, make([]byte, wire.TakenSize-1)},
			"a taken of no kind":                   {wire.PacketTaken, make([]byte, wire.TakenSize)},
			"a receipt cut off":                    {wire.PacketReceipt, make([]byte, wire.ReceiptSize-1)},
			"a question for more than a receipt":   {wire.PacketAskReceipt, make([]byte, wire.ReceiptSize+1)},
			"a tally cut off":                      {wire.PacketTally, make([]byte, 17)},
			"no epoch statements":                  {wire.PacketEpochs, nil},
			"an empty epoch statement":             {wire.PacketEpochs, []byte{0, 0}},
		} {
			before := b.Counters()
			if err := a.Send(a.of(b), test.kind, test.payload); err != nil {
				t.Fatalf("%s: %v", claim, err)
			}
			synctest.Wait()
			b.counts(claim, before, map[string]uint64{"packets_received": 1, "drop_forged": 1})
			b.nothingHappened(claim)
		}
	})
}

func TestForgedEvidenceIsCountedAndNotBelieved(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		forged := must(wire.SignRecord(a.signing, c.root.Trust().Cluster(), wire.Record{
			Name: "a", Sequence: 1 << 60, Boot: a.boot, Endpoints: a.endpoints, Credential: b.issued.Credential,
		}))(t)
		payload := must(wire.Gossip{Packet: ackOf(1), Evidence: [][]byte{forged}}.Append(nil))(t)
		if err := a.Send(a.of(b), wire.PacketGossip, payload); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b.counts("forged evidence", nil, map[string]uint64{"packets_received": 1, "drop_forged": 1})
		if b.of(a).Record.Sequence == 1<<60 {
			t.Error("b believes the forged record")
		}
	})
}

// A leave needs the leaver's own last record, and with it anybody may pass it on.
func TestLeaveIsBelievedWithTheLeaversRecord(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		d := c.node("d").start()
		a.learn(d)
		a.gossip(b, deadBy("d", "d"))
		b.counts("before d left", nil, map[string]uint64{"packets_received": 1, "drop_forged": 1})
		b.nothingHappened("before d left")

		d.say(func(r *wire.Record) { r.Leaving = true })
		a.learn(d)
		a.gossip(b, deadBy("d", "d"))
		if got := len(b.delivered()); got != 1 || !b.of(d).Record.Leaving {
			t.Errorf("%d packets were delivered, want the leave", got)
		}
		// It came back: the leave is over, whoever still tells of it.
		d.say(func(*wire.Record) {})
		b.learn(d)
		a.gossip(b, deadBy("d", "d"))
		if got := len(b.delivered()); got != 0 {
			t.Error("the leave was believed after d had come back")
		}
	})
}

// A member that relays what has expired or was overtaken is honest.
func TestOutdatedRecordsAreNotCountedAsForged(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		d := c.node("d").start()
		old := d.shown()
		time.Sleep(time.Hour)
		d.say(func(*wire.Record) {})
		b.learn(d)
		request, at := nodeRequest(c.node("e"))
		request.Life = 5 * time.Minute
		brief := must(c.root.Node(request, at.Add(-10*time.Minute)))(t)
		e := c.nodes["e"]
		e.boot[0] = 1
		expired := e.sign(func(r *wire.Record) { r.Credential = brief.Credential })
		payload := must(wire.BatchRecords.Append(nil, [][]byte{old, expired}))(t)
		if err := a.Send(a.of(b), wire.PacketRecords, payload); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b.counts("outdated records", nil, map[string]uint64{"packets_received": 1})
		if b.of(e) != nil || b.of(d).Record.Sequence != d.sequence {
			t.Error("an outdated record was taken in")
		}
	})
}

// memberlist reads from a bounded queue. Beyond it packets are dropped, counted,
// and the transport goes on.
func TestPacketsBeyondTheQueueAreDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		for i := range uint32(packetQueue + 10) {
			a.gossip(b, ackOf(i))
		}
		b.counts("a queue that nobody reads", nil, map[string]uint64{"packets_received": packetQueue + 10, "packets_overflow": 10})
		if got := len(b.delivered()); got != packetQueue {
			t.Errorf("%d packets were kept, want %d", got, packetQueue)
		}
	})
}

var _ memberlist.NodeAwareTransport = (*Transport)(nil)

// An error of guard's reaches whoever asks.
func TestUnknownMemberIsNamed(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.node("a").start()
		_, err := a.WriteToAddress(ackOf(1), memberlist.Address{Name: "x\ny"})
		if !errors.Is(err, guard.ErrUnknownNode) || !bytes.Contains([]byte(err.Error()), []byte(`"x\ny"`)) {
			t.Errorf("got %v", err)
		}
	})
}
