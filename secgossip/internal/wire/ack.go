package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// An Ack says how far a node is with epochs. It ends one side's part of a sync, and
// is the payload of a PacketState.
type Ack struct {
	Lowest  uint64 // the lowest epoch held; 0 for none
	Highest uint64 // the highest epoch held; 0 for none
	Primary uint64 // the epoch it seals with; 0 for none
	Sealed  uint64 // datagrams it has sealed with that one since it started, to all peers together
}

// Append appends the body of a FrameAck, or the payload of a PacketState, to dst.
func (a Ack) Append(dst []byte) []byte {
	for _, number := range []uint64{a.Lowest, a.Highest, a.Primary, a.Sealed} {
		dst = binary.BigEndian.AppendUint64(dst, number)
	}
	return dst
}

// ParseAck reads the body of a FrameAck, or the payload of a PacketState.
func ParseAck(body []byte) (Ack, error) {
	if len(body) != AckSize {
		return Ack{}, fmt.Errorf("ack: %d bytes, want %d", len(body), AckSize)
	}
	a := Ack{
		Lowest: binary.BigEndian.Uint64(body), Highest: binary.BigEndian.Uint64(body[8:]),
		Primary: binary.BigEndian.Uint64(body[16:]), Sealed: binary.BigEndian.Uint64(body[24:]),
	}
	if a.Primary > a.Highest || a.Primary > 0 && a.Primary < a.Lowest || a.Lowest > a.Highest {
		return Ack{}, errors.New("ack: seals with an epoch it does not hold")
	}
	return a, nil
}
