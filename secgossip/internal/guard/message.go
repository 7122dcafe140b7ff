package guard

import (
	"bytes"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// The memberlist message types that may appear in a packet, with the numbers
// memberlist 0.7.0 gives them (net.go). Everything else is refused: push/pull
// and errors belong on streams, compression, encryption and labels are off, and
// user messages are not ours.
const (
	msgPing         = 0
	msgIndirectPing = 1
	msgAck          = 2
	msgSuspect      = 3
	msgAlive        = 4
	msgDead         = 5
	msgCompound     = 7
	msgNack         = 11
	msgChecksum     = 12
)

// The messages themselves, field for field as memberlist has them: the names,
// the types and what is left out when it is empty make the bytes.

type ping struct {
	SeqNo      uint32
	Node       string
	SourceAddr []byte `codec:",omitempty"`
	SourcePort uint16 `codec:",omitempty"`
	SourceNode string `codec:",omitempty"`
}

type indirectPing struct {
	SeqNo      uint32
	Target     []byte
	Port       uint16
	Node       string
	Nack       bool
	SourceAddr []byte `codec:",omitempty"`
	SourcePort uint16 `codec:",omitempty"`
	SourceNode string `codec:",omitempty"`
}

type ack struct {
	SeqNo   uint32
	Payload []byte
}

type nack struct {
	SeqNo uint32
}

// verdict is memberlist's suspect and dead, which look alike.
type verdict struct {
	Incarnation uint32
	Node        string
	From        string
}

type alive struct {
	Incarnation uint32
	Node        string
	Addr        []byte
	Port        uint16
	Meta        []byte
	Vsn         []uint8
}

// readExactly reads b into message, a pointer to one of the above, and reports
// whether memberlist would write message as these very bytes.
//
// memberlist's decoder takes much more: unknown and repeated fields, arrays in
// the place of maps, numbers in longer forms, bytes after the end. Each of those
// is a way to show us one message and memberlist another. Writing the message
// again and comparing refuses all of them at once (threat C11). The decoder gets
// at most one datagram, so its allocations are bounded by that.
func readExactly(b []byte, message any) bool {
	if err := codec.NewDecoderBytes(b, msgpack).Decode(message); err != nil {
		return false
	}
	return isExact(b, message)
}

// isExact reports whether memberlist would write message as these very bytes.
func isExact(b []byte, message any) bool {
	again := make([]byte, 0, len(b))
	if err := codec.NewEncoderBytes(&again, msgpack).Encode(message); err != nil {
		return false
	}
	return bytes.Equal(again, b)
}

// msgpack is memberlist's encoding. Left to itself the decoder allocates 256 KiB
// for a list that only claims to be long. It is made once, because the library
// keeps its tables of types in it.
var msgpack = func() *codec.MsgpackHandle {
	var handle codec.MsgpackHandle
	handle.MaxInitLen = 64
	return &handle
}()
