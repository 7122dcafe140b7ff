package transport

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/seal"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// errNoKeys: there is no session with the member, or no epoch to seal with, or its
// credential does not hold any more.
var errNoKeys = errors.New("no keys with this member")

// WriteToAddress sends one of memberlist's packets. It puts beside it the record
// of every node the packet says is alive or has left, so that the receiver need
// not believe us.
func (t *Transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	peer, err := t.peerAt(addr)
	if err != nil {
		return time.Time{}, writeError(err)
	}
	payload, ahead, err := pack(b, t.evidence(b))
	if err != nil {
		return time.Time{}, err // our own fault: it says nothing about the member
	}
	for _, records := range ahead {
		if err := t.Send(peer, wire.PacketRecords, records); err != nil {
			return time.Time{}, writeError(err)
		}
	}
	if err := t.Send(peer, wire.PacketGossip, payload); err != nil {
		return time.Time{}, writeError(err)
	}
	return t.now(), nil
}

// writeError is the form memberlist knows for "the other end failed": with any
// other error it would never come to suspect the member.
func writeError(err error) error {
	return &net.OpError{Op: "write", Net: "udp", Err: err}
}

// evidence finds the records that belong to a packet of ours. Whoever wants to know what
// our own memberlist holds of others is told.
func (t *Transport) evidence(packet []byte) [][]byte {
	about, err := guard.CheckPacket(packet, "")
	if err != nil {
		return nil // our own memberlist wrote it; the receiver will judge
	}
	t.claimed(about.Claims)
	var records [][]byte
	for _, name := range about.Subjects {
		if p := t.config.Roster.Get(pki.Name(name)); p != nil {
			records = append(records, p.Raw)
		}
	}
	return records
}

// claimed tells whoever wants to know of claims.
func (t *Transport) claimed(claims []guard.Claim) {
	if t.config.Claimed != nil && len(claims) > 0 {
		t.config.Claimed(claims)
	}
}

// pack makes a gossip payload of a packet and as much of its evidence as fits
// beside it. The rest goes ahead of it, in payloads of records.
func pack(packet []byte, evidence [][]byte) (payload []byte, ahead [][]byte, err error) {
	gossip := wire.Gossip{Packet: packet}
	n := fitting(evidence, wire.MaxPayload-gossip.Size())
	gossip.Evidence = evidence[:n]
	if payload, err = gossip.Append(nil); err != nil {
		return nil, nil, err
	}
	for rest := evidence[n:]; len(rest) > 0; {
		n := max(1, fitting(rest, wire.MaxPayload)) // one always fits: a record has at most wire.MaxRecord
		records, err := wire.BatchRecords.Append(nil, rest[:n])
		if err != nil {
			return nil, nil, err
		}
		ahead = append(ahead, records)
		rest = rest[n:]
	}
	return payload, ahead, nil
}

// fitting counts the first items that fit into so many bytes of one datagram.
func fitting(items [][]byte, room int) int {
	n := 0
	for n < min(len(items), wire.MaxPacketItems) {
		room -= wire.LengthSize + len(items[n])
		if room < 0 {
			break
		}
		n++
	}
	return n
}

// Send seals one payload to a peer and writes it, or lets a carrier bring it if UDP
// to the peer is blocked. It never blocks for long: UDP either takes a datagram or
// loses it, and a carrier has a queue.
func (t *Transport) Send(peer *guard.Peer, kind wire.PacketType, payload []byte) error {
	err := t.send(peer, kind, payload)
	if err != nil {
		t.counters.add(packetsUnsent)
		return err
	}
	t.counters.add(packetsSent)
	return nil
}

func (t *Transport) send(peer *guard.Peer, kind wire.PacketType, payload []byte) error {
	p := t.sessions.get(peer.Name)
	if p == nil || p.out.Load() {
		return errNoKeys
	}
	if p.path.use(t.now()) {
		t.carry(p, kind, payload)
		return nil
	}
	return t.sendDatagram(p, kind, payload)
}

// sendDatagram seals one payload and writes it to where the peer is. If none of its
// endpoints is one that our socket can send to, a stream may still get there.
func (t *Transport) sendDatagram(p *session, kind wire.PacketType, payload []byte) error {
	sender := p.sending.Load()
	if sender == nil {
		return errNoKeys
	}
	to, ok := t.sessions.wayTo(p)
	if !ok {
		p.path.block()
		t.carry(p, kind, payload)
		return nil
	}
	return t.sealAndWrite(sender, to, kind, payload)
}

func (t *Transport) sealAndWrite(sender *seal.Sender, to netip.AddrPort, kind wire.PacketType, payload []byte) error {
	datagram, err := sender.Seal(make([]byte, 0, wire.MaxDatagram), kind, payload)
	if err != nil {
		return err
	}
	_, err = t.packets.WriteToUDPAddrPort(datagram, to)
	return err
}
