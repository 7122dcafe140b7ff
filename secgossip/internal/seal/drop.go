package seal

// A Drop says what became of a datagram. There is one counter for each, and no
// error value: a stranger could make us build millions.
type Drop uint8

// The drops, in the order in which a datagram meets them.
const (
	Accepted      Drop = iota
	DropSize           // not a length that any datagram has
	DropDoor           // from a stranger, for another node, from an epoch not held, or damaged
	DropSender         // no peer we know seals like this: an unknown one, or before a restart
	DropReplay         // seen before, older than the window, or past wire.StopAfter
	DropSeal           // forged or damaged behind its door
	DropPlaintext      // sealed by the peer, but not as wire has it: its software is wrong

	// Drops is the number of values above.
	Drops
)

// String returns the one-word name, as counters and metrics have it.
func (d Drop) String() string {
	switch d {
	case Accepted:
		return "accepted"
	case DropSize:
		return "size"
	case DropDoor:
		return "door"
	case DropSender:
		return "sender"
	case DropReplay:
		return "replay"
	case DropSeal:
		return "seal"
	case DropPlaintext:
		return "plaintext"
	}
	return "unknown"
}
