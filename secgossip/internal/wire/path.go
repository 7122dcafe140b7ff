package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// A Challenge asks whether datagrams of full length reach the other side. It is
// as long as a payload can be, so that an answer speaks for all of them. Protocol 6.
type Challenge struct {
	Token [8]byte // chosen by the asker, who takes no other answer
	Try   uint8   // how many challenges before this one went unanswered
}

var errPadding = errors.New("challenge: not filled up with zeros")

// Append appends the payload of a PacketPathChallenge to dst: the token, the try
// and zeros.
func (c Challenge) Append(dst []byte) []byte {
	dst = append(dst, c.Token[:]...)
	dst = append(dst, c.Try)
	return append(dst, make([]byte, ChallengeSize-len(c.Token)-1)...)
}

// ParseChallenge reads the payload of a PacketPathChallenge.
func ParseChallenge(payload []byte) (Challenge, error) {
	if len(payload) != ChallengeSize {
		return Challenge{}, fmt.Errorf("challenge: %d bytes, want %d", len(payload), ChallengeSize)
	}
	c := Challenge{Token: [8]byte(payload), Try: payload[8]}
	var padding byte
	for _, b := range payload[9:] {
		padding |= b
	}
	if padding != 0 {
		return Challenge{}, errPadding
	}
	return c, nil
}

// A Response says that a challenge arrived, and what time it then was. So members
// that cannot open streams to each other, because of their clocks, learn that.
type Response struct {
	Token [8]byte   // of the challenge
	Time  time.Time // the speaker's clock, in whole milliseconds
}

// Append appends the payload of a PacketPathResponse to dst.
func (r Response) Append(dst []byte) []byte {
	return binary.BigEndian.AppendUint64(append(dst, r.Token[:]...), uint64(r.Time.UnixMilli()))
}

// ParseResponse reads the payload of a PacketPathResponse.
func ParseResponse(payload []byte) (Response, error) {
	if len(payload) != ResponseSize {
		return Response{}, fmt.Errorf("path response: %d bytes, want %d", len(payload), ResponseSize)
	}
	r := Response{Token: [8]byte(payload), Time: fromMillis(binary.BigEndian.Uint64(payload[8:]))}
	if err := checkClock(r.Time); err != nil {
		return Response{}, fmt.Errorf("path response: %w", err)
	}
	return r, nil
}

// fromMillis reads a clock as it travels. What overflows is negative, and refused.
func fromMillis(millis uint64) time.Time { return time.UnixMilli(int64(millis)).UTC() }

// checkClock refuses times that would overflow where they are used.
func checkClock(t time.Time) error {
	if millis := t.UnixMilli(); millis <= 0 || millis > maxUnixSeconds*1000 {
		return errors.New("time out of range")
	}
	return nil
}

// A Carried packet is one that goes by stream, because UDP to its receiver is
// blocked: what a datagram would say, without door and padding. TLS seals it.
// Protocol 7.7.
type Carried struct {
	Type    PacketType
	Payload []byte
}

// Append appends the body of a FramePacket to dst. The error is ErrTooLarge or
// says that the type is unknown.
func (c Carried) Append(dst []byte) ([]byte, error) {
	if err := c.check(); err != nil {
		return dst, err
	}
	return append(append(dst, byte(c.Type)), c.Payload...), nil
}

// ParseCarried reads the body of a FramePacket. The payload shares its memory.
func ParseCarried(body []byte) (Carried, error) {
	if len(body) == 0 {
		return Carried{}, errors.New("carried packet: nothing in it")
	}
	c := Carried{Type: PacketType(body[0]), Payload: body[1:]}
	return c, c.check()
}

func (c Carried) check() error {
	switch {
	case !c.Type.Known():
		return fmt.Errorf("carried packet: unknown type %d", c.Type)
	case len(c.Payload) > MaxPayload:
		return fmt.Errorf("carried packet: %d bytes: %w", len(c.Payload), ErrTooLarge)
	}
	return nil
}
