package wire

import (
	"errors"
	"fmt"
)

// Gossip is the payload of a PacketGossip: one memberlist packet, and beside it
// the signed records that prove what it says about members. Protocol 5.1.
type Gossip struct {
	Evidence [][]byte // at most MaxPacketItems, each at most MaxRecord bytes
	Packet   []byte   // what memberlist wrote; never empty
}

var errNoPacket = errors.New("gossip: no memberlist packet")

// Size returns the length of the payload in bytes.
func (g Gossip) Size() int {
	size := 1 + len(g.Packet)
	for _, evidence := range g.Evidence {
		size += LengthSize + len(evidence)
	}
	return size
}

// Append appends the payload to dst. The error is ErrTooLarge when it does not
// fit one datagram.
func (g Gossip) Append(dst []byte) ([]byte, error) {
	if len(g.Packet) == 0 {
		return dst, errNoPacket
	}
	if g.Size() > MaxPayload || len(g.Evidence) > MaxPacketItems {
		return dst, fmt.Errorf("gossip: %d bytes with %d pieces of evidence: %w", g.Size(), len(g.Evidence), ErrTooLarge)
	}
	out := append(dst, byte(len(g.Evidence)))
	for _, evidence := range g.Evidence {
		var err error
		if out, err = appendItem(out, evidence, MaxRecord); err != nil {
			return dst, fmt.Errorf("gossip: %w", err)
		}
	}
	return append(out, g.Packet...), nil
}

// ParseGossip reads the payload of a PacketGossip. The parts share its memory.
func ParseGossip(payload []byte) (Gossip, error) {
	if len(payload) == 0 {
		return Gossip{}, errNoPacket
	}
	if len(payload) > MaxPayload {
		return Gossip{}, fmt.Errorf("gossip: %d bytes: %w", len(payload), ErrTooLarge)
	}
	count, rest := int(payload[0]), payload[1:]
	if count > MaxPacketItems {
		return Gossip{}, fmt.Errorf("gossip: %d pieces of evidence: %w", count, ErrTooLarge)
	}
	var g Gossip
	if count > 0 {
		g.Evidence = make([][]byte, count)
	}
	for i := range g.Evidence {
		var err error
		if g.Evidence[i], rest, err = nextItem(rest, MaxRecord); err != nil {
			return Gossip{}, fmt.Errorf("gossip: %w", err)
		}
	}
	if len(rest) == 0 {
		return Gossip{}, errNoPacket
	}
	g.Packet = rest
	return g, nil
}
