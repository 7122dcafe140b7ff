package wire

import "fmt"

// A Taken tells the node that replied that its reply has arrived, so that it does not
// send it again. It is the payload of a PacketTaken. Protocol 5.7.
type Taken struct {
	Query [QueryIDSize]byte
	Kind  uint8 // the kind of the reply
}

// The kinds of replies that there are: internal/reply says what they mean.
const maxReplyKind = 3

// Append appends the payload of a PacketTaken to dst.
func (t Taken) Append(dst []byte) []byte {
	return append(append(dst, t.Query[:]...), t.Kind)
}

// ParseTaken reads the payload of a PacketTaken.
func ParseTaken(payload []byte) (Taken, error) {
	if len(payload) != TakenSize {
		return Taken{}, fmt.Errorf("taken: %d bytes, want %d", len(payload), TakenSize)
	}
	t := Taken{Query: [QueryIDSize]byte(payload), Kind: payload[QueryIDSize]}
	if t.Kind == 0 || t.Kind > maxReplyKind {
		return Taken{}, fmt.Errorf("taken: unknown kind %d", t.Kind)
	}
	return t, nil
}
