package wire

import "encoding/binary"

// PacketType says what the payload of a datagram is. Protocol 5.
type PacketType uint8

// The packet types.
const (
	PacketGossip  PacketType = 1 // a memberlist packet, with the evidence for it
	PacketEvents  PacketType = 2 // signed events, each behind its origin's mark
	PacketEpochs  PacketType = 3 // signed epoch statements, each with its keeper's credential
	PacketRecords PacketType = 4 // signed node records that did not fit beside a memberlist packet

	PacketPathChallenge PacketType = 5 // does a datagram of this length reach you?
	PacketPathResponse  PacketType = 6 // yes, it did

	PacketState PacketType = 7 // how far its sender is with epochs

	PacketRevocations PacketType = 8 // signed revocations, each with its keeper's credential

	PacketRepair PacketType = 9  // events that the receiver's tally lacked
	PacketTally  PacketType = 10 // what its sender has of each origin's events
	PacketLacks  PacketType = 11 // the same, in answer to a tally that had more

	PacketQueries  PacketType = 13 // signed queries
	PacketReplies  PacketType = 14 // signed replies, for the receiver
	PacketRelay    PacketType = 15 // signed replies, to be passed on to who collects them
	PacketTaken    PacketType = 16 // a Taken: the reply has arrived
	PacketRemovals PacketType = 17 // signed removals

	PacketAskReceipt PacketType = 18 // the key of an event: does its receiver have it?
	PacketReceipt    PacketType = 19 // the same key: its sender has it
)

// Known reports whether t is one of the packet types above.
func (t PacketType) Known() bool {
	return t >= PacketGossip && t <= PacketLacks || t >= PacketQueries && t <= PacketReceipt
}

// A Door is the first block of a datagram, decrypted: what a receiver must know
// before it can open the rest. Protocol 4.2.
type Door struct {
	Type    PacketType
	Hint    [HintSize]byte // which traffic key sealed the rest
	Counter uint64         // at most MaxCounter
}

// Put writes the door into block.
func (d Door) Put(block *[DoorSize]byte) {
	if d.Counter > MaxCounter {
		panic("internal error: counter of more than 40 bits") // seal stops at 2^32
	}
	block[0] = byte(d.Type)
	copy(block[1:7], d.Hint[:])
	binary.BigEndian.PutUint64(block[7:15], d.Counter<<24)
	block[15] = 0
}

// ParseDoor reads a decrypted block. It is false when the check bytes are not
// zero or the type is unknown: what a stranger sends passes once in 2^37 times.
func ParseDoor(block *[DoorSize]byte) (Door, bool) {
	d := Door{
		Type:    PacketType(block[0]),
		Hint:    [HintSize]byte(block[1:7]),
		Counter: binary.BigEndian.Uint64(block[4:12]) & MaxCounter,
	}
	check := binary.BigEndian.Uint32(block[12:16])
	return d, check == 0 && d.Type.Known()
}
