package guard

import (
	"bufio"
	"bytes"
	"io"
	"net"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// The memberlist message types that belong on streams alone. Pings and acks may
// be there too; user messages, compression, encryption and labels may not.
const (
	msgPushPull = 6
	msgErr      = 13
)

// The states of an entry, with the numbers memberlist 0.7.0 gives them.
const (
	stateAlive   = 0
	stateSuspect = 1
	stateDead    = 2
	stateLeft    = 3
)

const (
	// maxSmall is what may follow the type of a ping, an ack or an error.
	maxSmall = 1 << 10

	// maxHeader is the longest header: 1 map + 6 + 9 nodes + 13 + 9 length of
	// user state + 5 + 1 join = 44.
	maxHeader = 64

	// maxEntry is the longest entry: 1 map + 39 for the names of its fields + 66
	// name + 17 address + 3 port + 515 meta + 5 incarnation + 9 state + 7
	// versions = 662.
	maxEntry = 768

	// maxMeta is memberlist's own limit for what a node says of itself.
	maxMeta = 512
)

// pushPullHeader and entry are memberlist's pushPullHeader and pushNodeState,
// field for field.

type pushPullHeader struct {
	Nodes        int
	UserStateLen int
	Join         bool
}

type entry struct {
	Name        string
	Addr        []byte
	Port        uint16
	Meta        []byte
	Incarnation uint32
	State       int
	Vsn         []uint8
}

// NewStateReader returns what memberlist may read of the stream r: the firewall
// for streams, as CheckPacket is the one for packets. memberlist believes the
// lengths a stream claims and makes room for them: 112 MiB for a header of 33
// bytes, 20 MiB for a user message (threat C07). It gets to see
//
//   - a ping, an ack or an error as it is, up to 1 KiB of it;
//   - a push/pull only when all of it is here and is what a member of ours
//     writes, byte for byte, without user state, and without the entries
//     nobody may make;
//   - of anything else the error ErrMalformed.
//
// A stream that ends too early is io.ErrUnexpectedEOF, an empty one io.EOF; the
// errors of r are returned as they are. The deadline is the caller's, and so is
// the limit to what a push/pull costs: the length of r. The reader is for one
// goroutine.
//
// What is said of self, the local node, memberlist always hears: it contradicts
// it, and so a node that left and came back is taken for alive again. With a name for
// only, nothing else is heard but what is said of that node.
func NewStateReader(r io.Reader, roster *Roster, self, only pki.Name) io.Reader {
	return &stateReader{in: bufio.NewReader(r), roster: roster, self: self, only: only}
}

type stateReader struct {
	in     *bufio.Reader
	roster *Roster
	self   pki.Name
	only   pki.Name
	out    io.Reader // what memberlist reads, once the message is screened
	err    error     // why it reads nothing
}

func (s *stateReader) Read(b []byte) (int, error) {
	if s.out == nil && s.err == nil {
		s.out, s.err = s.screen()
	}
	if s.err != nil {
		return 0, s.err
	}
	return s.out.Read(b)
}

// screen reads as much of the stream as it takes to know what it is.
func (s *stateReader) screen() (io.Reader, error) {
	kind, err := s.in.ReadByte()
	if err != nil {
		return nil, err
	}
	switch kind {
	case msgPing, msgAck, msgErr:
		return io.MultiReader(bytes.NewReader([]byte{kind}), io.LimitReader(s.in, maxSmall)), nil
	case msgPushPull:
		state, err := s.pushPull()
		if err != nil {
			return nil, err
		}
		return bytes.NewReader(state), nil
	default:
		return nil, ErrMalformed
	}
}

// pushPull reads a whole push/pull and returns the one memberlist may see. What
// it keeps has been read: no claim makes it allocate.
func (s *stateReader) pushPull() ([]byte, error) {
	part := &tape{in: s.in}
	decoder := codec.NewDecoder(part, msgpack)
	var header pushPullHeader
	if err := part.next(decoder, &header, maxHeader); err != nil {
		return nil, err
	}
	if header.Nodes < 0 || header.Nodes > wire.MaxRecords || header.UserStateLen != 0 {
		return nil, ErrMalformed
	}
	var kept []byte
	count := 0
	for range header.Nodes {
		var e entry
		if err := part.next(decoder, &e, maxEntry); err != nil {
			return nil, err
		}
		if !e.wellFormed() {
			return nil, ErrMalformed
		}
		if s.credible(&e) {
			kept = append(kept, part.seen...)
			count++
		}
	}
	header.Nodes = count
	start := make([]byte, 0, maxHeader)
	if err := codec.NewEncoderBytes(&start, msgpack).Encode(&header); err != nil {
		return nil, err
	}
	return append(append([]byte{msgPushPull}, start...), kept...), nil
}

// wellFormed says whether a member of ours could write this about anybody.
func (e *entry) wellFormed() bool {
	return isName(e.Name) && len(e.Addr) == addrSize && len(e.Vsn) == versions && len(e.Meta) <= maxMeta &&
		e.State >= stateAlive && e.State <= stateLeft
}

// credible says whether memberlist may take an entry in. What is not credible is
// left out and the rest is not refused for it: an honest member may know a node
// before we do, may have missed a leave that was taken back, and may repeat an
// incarnation that another one made up.
func (s *stateReader) credible(e *entry) bool {
	if s.roster.CheckAlive(e.Name, net.IP(e.Addr), e.Port) != nil {
		return false
	}
	if s.only != "" && e.Name != string(s.only) && e.Name != string(s.self) {
		return false
	}
	switch e.State {
	case stateAlive:
		return e.Incarnation <= maxAlive
	case stateLeft:
		// Threat K02: that a node left is proven by its own record and by
		// nothing else.
		p := s.roster.Get(pki.Name(e.Name))
		left := p != nil && p.Record.Leaving || e.Name == string(s.self)
		return left && e.Incarnation <= maxVerdict
	default: // memberlist makes a suspicion of both
		return e.Incarnation <= maxVerdict
	}
}

// tape keeps the bytes of the message that is being read from in. in must hold
// back what is not asked for.
type tape struct {
	in   *bufio.Reader
	seen []byte
	left int
	err  error // of in
}

// Read gives a decoder what it asks for, until the message is too long.
func (t *tape) Read(b []byte) (int, error) {
	if t.left == 0 {
		return 0, io.ErrShortBuffer // the decoder's error, not the stream's
	}
	n, err := t.in.Read(b[:min(len(b), t.left)])
	t.seen, t.left, t.err = append(t.seen, b[:n]...), t.left-n, err
	return n, err
}

// next reads one message of at most limit bytes, and holds it to the same rule
// as readExactly.
func (t *tape) next(decoder *codec.Decoder, message any, limit int) error {
	t.seen, t.left = t.seen[:0], limit
	decoder.Reset(t)
	err := decoder.Decode(message)
	switch {
	case t.err == io.EOF && err != nil:
		return io.ErrUnexpectedEOF
	case t.err != nil && t.err != io.EOF:
		return t.err
	case err != nil || !isExact(t.seen, message):
		return ErrMalformed
	}
	return nil
}
