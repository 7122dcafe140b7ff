package transport

import (
	"bytes"
	"testing"

	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/memnet"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// FuzzMemberlistGetsOnlyWhatGuardAccepts: whatever a member seals, nothing breaks,
// and memberlist is handed the part of it that guard has seen and no more (threat
// C11).
func FuzzMemberlistGetsOnlyWhatGuardAccepts(f *testing.F) {
	c := newCluster(f, "demo")
	c.net = memnet.New()
	f.Cleanup(c.net.Close)
	f.Cleanup(c.close)
	a, b := c.pair()
	from := b.of(a)
	gossip := func(packet []byte, evidence ...[]byte) []byte {
		return must(wire.Gossip{Packet: packet, Evidence: evidence}.Append(nil))(f)
	}
	f.Add(uint8(wire.PacketGossip), gossip(ackOf(1)))
	f.Add(uint8(wire.PacketGossip), gossip(pingBy("a"), a.shown()))
	f.Add(uint8(wire.PacketGossip), gossip(compound(aliveOf(c, "a"), deadBy("b", "b")), a.shown(), b.shown()))
	f.Add(uint8(wire.PacketEvents), must(wire.BatchEvents.Append(nil, [][]byte{[]byte("event")}))(f))
	f.Add(uint8(wire.PacketEpochs), must(wire.BatchEpochs.Append(nil, [][]byte{[]byte("statement")}))(f))
	f.Add(uint8(wire.PacketRecords), must(wire.BatchRecords.Append(nil, [][]byte{a.shown(), b.shown()}))(f))
	f.Add(uint8(wire.PacketQueries), must(wire.BatchQueries.Append(nil, [][]byte{[]byte("query")}))(f))
	f.Add(uint8(wire.PacketReplies), must(wire.BatchReplies.Append(nil, [][]byte{[]byte("reply")}))(f))
	f.Add(uint8(wire.PacketRelay), must(wire.BatchReplies.Append(nil, [][]byte{[]byte("reply")}))(f))
	f.Add(uint8(wire.PacketTaken), wire.Taken{Kind: 1}.Append(nil))
	f.Add(uint8(99), []byte("x"))
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		if len(payload) > wire.MaxPayload {
			return
		}
		err := b.deliver(from, wire.PacketType(kind), payload)
		delivered := b.delivered()
		if err != nil && len(delivered) != 0 {
			t.Errorf("refused with %v, and delivered %x", err, delivered)
		}
		for _, packet := range delivered {
			if _, err := guard.CheckPacket(packet, "a"); err != nil || !bytes.HasSuffix(payload, packet) {
				t.Errorf("delivered %x, which is %v to guard", packet, err)
			}
		}
		b.batches = nil
	})
}
