package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// An Ack ends one side's part of a sync and says how far it now is.
type Ack struct {
	Highest uint64 // the highest epoch held; 0 for none
	Primary uint64 // the epoch it seals with; 0 for none
}

// Append appends the body of a FrameAck to dst.
func (a Ack) Append(dst []byte) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, a.Highest), a.Primary)
}

// ParseAck reads the body of a FrameAck.
func ParseAck(body []byte) (Ack, error) {
	if len(body) != AckSize {
		return Ack{}, fmt.Errorf("ack: %d bytes, want %d", len(body), AckSize)
	}
	a := Ack{Highest: binary.BigEndian.Uint64(body), Primary: binary.BigEndian.Uint64(body[8:])}
	if a.Primary > a.Highest {
		return Ack{}, errors.New("ack: seals with an epoch it does not hold")
	}
	return a, nil
}
