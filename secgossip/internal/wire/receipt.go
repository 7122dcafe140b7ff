package wire

import "fmt"

// A Receipt is the key of an event. One member asks with it whether another has the
// event, in a PacketAskReceipt, and that one says so in a PacketReceipt. Who says it is
// whoever sealed the packet. Protocol 5.9.
type Receipt struct {
	Event [ReceiptSize]byte
}

// Append appends the payload of either packet to dst.
func (r Receipt) Append(dst []byte) []byte { return append(dst, r.Event[:]...) }

// ParseReceipt reads the payload of either packet.
func ParseReceipt(payload []byte) (Receipt, error) {
	if len(payload) != ReceiptSize {
		return Receipt{}, fmt.Errorf("receipt: %d bytes, want %d", len(payload), ReceiptSize)
	}
	return Receipt{Event: [ReceiptSize]byte(payload)}, nil
}
