package guard

import (
	"encoding/binary"
	"errors"
	"slices"
)

// Convicts reports whether an error of CheckPacket proves that who sealed the packet is
// not an honest member: no memberlist of ours writes such a packet, and what was sealed
// for us cannot have been damaged on the way. An incarnation beyond its limit proves
// nothing: an honest member repeats one that another has made up.
func Convicts(err error) bool {
	return (errors.Is(err, ErrMalformed) || errors.Is(err, ErrForged)) && !errors.Is(err, errIncarnation)
}

// OwnWords returns a packet that CheckPacket has accepted without what it says about
// others than the named nodes: of a member whose word does not count any more that
// leaves its probes and answers, and what it says of itself. It is nil when nothing is
// left.
func OwnWords(packet []byte, about ...string) []byte {
	if packet[0] == msgChecksum {
		packet = packet[checksumSize:]
	}
	parts := [][]byte{packet}
	if packet[0] == msgCompound {
		parts, _ = splitCompound(packet[1:])
	}
	parts = slices.DeleteFunc(parts, func(part []byte) bool {
		var node string
		switch part[0] {
		case msgSuspect, msgDead:
			var m verdict
			readExactly(part[1:], &m)
			node = m.Node
		case msgAlive:
			var m alive
			readExactly(part[1:], &m)
			node = m.Node
		default:
			return false
		}
		return !slices.Contains(about, node)
	})
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return parts[0]
	}
	out := []byte{msgCompound, byte(len(parts))} // there are fewer than there were
	for _, part := range parts {
		out = binary.BigEndian.AppendUint16(out, uint16(len(part)))
	}
	return append(out, slices.Concat(parts...)...)
}
