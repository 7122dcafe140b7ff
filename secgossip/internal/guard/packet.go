package guard

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/secgossip/secgossip/pki"
)

// Packet is what CheckPacket learned of a memberlist packet.
type Packet struct {
	// Subjects are the nodes the packet makes a statement about that only they
	// can make: that they are alive, or that they left. Whoever passes the
	// packet on must show their records.
	Subjects []string
	// Left are those of them that are said to have left.
	Left []string
	// Claims are what it says about who is suspect and who is alive.
	Claims []Claim
}

// Claim says that a node is suspect, or alive, as of an incarnation.
type Claim struct {
	Node        string
	Incarnation uint32
	Suspect     bool
}

// CheckPacket parses a memberlist packet before memberlist may see it. from is
// the name of the member that sealed it; an empty from (our own packets, on the
// way out) skips the checks of speakers and of incarnations, which are the
// receiver's to make. Errors: ErrMalformed, ErrForged.
//
// A probe names its asker, and the answer goes there: only the sender itself may
// be named, so that nobody can make a third party receive what it did not ask
// for (threat C08).
func CheckPacket(packet []byte, from string) (Packet, error) {
	body := packet
	// memberlist takes a shorter one for a message of an unknown type, and so
	// does the switch below.
	if len(body) >= checksumSize && body[0] == msgChecksum {
		if crc32.ChecksumIEEE(body[checksumSize:]) != binary.BigEndian.Uint32(body[1:]) {
			return Packet{}, ErrMalformed
		}
		body = body[checksumSize:]
	}
	parts := [][]byte{body}
	if len(body) > 0 && body[0] == msgCompound {
		var ok bool
		if parts, ok = splitCompound(body[1:]); !ok {
			return Packet{}, ErrMalformed
		}
	}
	var out Packet
	for _, part := range parts {
		if err := out.add(part, from); err != nil {
			return Packet{}, err
		}
	}
	return out, nil
}

// checksumSize is the type and the CRC-32 that memberlist puts before a packet.
const checksumSize = 1 + 4

// splitCompound reads a count, that many lengths and that many messages, with
// nothing left over. memberlist itself tolerates a short tail; a member of ours
// never writes one.
func splitCompound(b []byte) ([][]byte, bool) {
	if len(b) == 0 {
		return nil, false
	}
	n := int(b[0])
	b = b[1:]
	if n == 0 || len(b) < 2*n {
		return nil, false
	}
	lengths, rest := b[:2*n], b[2*n:]
	parts := make([][]byte, n)
	for i := range parts {
		size := int(binary.BigEndian.Uint16(lengths[2*i:]))
		if size > len(rest) {
			return nil, false
		}
		parts[i], rest = rest[:size], rest[size:]
	}
	return parts, len(rest) == 0
}

// add checks one message and notes what it says.
func (p *Packet) add(b []byte, from string) error {
	if len(b) == 0 {
		return ErrMalformed
	}
	switch body := b[1:]; b[0] {
	case msgPing:
		var m ping
		if !readExactly(body, &m) || !isName(m.Node) || len(m.SourceAddr) != addrSize {
			return ErrMalformed
		}
		return checkAsker(m.SourceNode, from)
	case msgIndirectPing:
		var m indirectPing
		if !readExactly(body, &m) || !isName(m.Node) || len(m.SourceAddr) != addrSize || len(m.Target) != addrSize {
			return ErrMalformed
		}
		return checkAsker(m.SourceNode, from)
	case msgAck:
		if !readExactly(body, new(ack)) {
			return ErrMalformed
		}
	case msgNack:
		if !readExactly(body, new(nack)) {
			return ErrMalformed
		}
	case msgSuspect, msgDead:
		var m verdict
		if !readExactly(body, &m) || !isName(m.Node) || !isName(m.From) {
			return ErrMalformed
		}
		if from != "" && m.Incarnation > maxVerdict {
			return errIncarnation
		}
		if b[0] == msgDead && m.Node == m.From { // memberlist's form of "left"
			p.Subjects = append(p.Subjects, m.Node)
			p.Left = append(p.Left, m.Node)
		}
		if b[0] == msgSuspect {
			p.Claims = append(p.Claims, Claim{Node: m.Node, Incarnation: m.Incarnation, Suspect: true})
		}
	case msgAlive:
		var m alive
		if !readExactly(body, &m) || !isName(m.Node) || len(m.Addr) != addrSize || len(m.Vsn) != versions {
			return ErrMalformed
		}
		if from != "" && m.Incarnation > maxAlive {
			return errIncarnation
		}
		p.Subjects = append(p.Subjects, m.Node)
		p.Claims = append(p.Claims, Claim{Node: m.Node, Incarnation: m.Incarnation})
	default:
		return ErrMalformed
	}
	return nil
}

// errIncarnation: an incarnation beyond the largest that is believed.
var errIncarnation = fmt.Errorf("%w: incarnation beyond its limit", ErrMalformed)

// The largest incarnations that are believed. A node contradicts an accusation
// with an incarnation one higher, and memberlist's number wraps: one of 2^32-1
// could never be contradicted. A node that starts at 1 and counts a restart or a
// change of its tags every second reaches 2^30 after 34 years. Because an accusation
// ends a whole 2^30 before what the accused may say of itself, there is always
// room for the answer.
const (
	maxVerdict = 1 << 30 // suspect, dead, left: who left must be able to return
	maxAlive   = 1 << 31
)

const (
	addrSize = 16 // every address in a packet is a virtual one
	versions = 6  // least, most and current of memberlist and of its delegate
)

// isName holds every name to our grammar: memberlist writes them into its log as
// they are.
func isName(s string) bool {
	_, err := pki.ParseName(s)
	return err == nil
}

func checkAsker(asker, from string) error {
	switch {
	case !isName(asker):
		return ErrMalformed
	case from != "" && asker != from:
		return ErrForged
	}
	return nil
}
