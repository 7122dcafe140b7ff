package wire

import (
	"encoding/binary"
	"errors"
)

// ErrTooLarge says that something does not fit the message it was meant for.
var ErrTooLarge = errors.New("too large for one message")

// DatagramSize returns the length of the datagram that carries a payload of n
// bytes, n at most MaxPayload.
func DatagramSize(n int) int {
	bare := DoorSize + LengthSize + n + TagSize
	return (bare + DatagramStep - 1) / DatagramStep * DatagramStep
}

// AppendPlaintext appends what is sealed into a datagram: the payload between
// its length and zeros up to the next step. The only error is ErrTooLarge.
// Protocol 4.3.
func AppendPlaintext(dst, payload []byte) ([]byte, error) {
	if len(payload) > MaxPayload {
		return dst, ErrTooLarge
	}
	padding := DatagramSize(len(payload)) - DoorSize - LengthSize - len(payload) - TagSize
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(payload)))
	dst = append(dst, payload...)
	return append(dst, make([]byte, padding)...), nil
}

// ParsePlaintext returns the payload inside an opened plaintext. It is false for
// a length that does not belong to this size of datagram and for padding that is
// not zero: both would be a place to hide bytes in.
func ParsePlaintext(plaintext []byte) (payload []byte, ok bool) {
	if len(plaintext) < LengthSize {
		return nil, false
	}
	end := LengthSize + int(binary.BigEndian.Uint16(plaintext))
	if DoorSize+len(plaintext)+TagSize != DatagramSize(end-LengthSize) || len(plaintext) > LengthSize+MaxPayload {
		return nil, false
	}
	var padding byte
	for _, b := range plaintext[end:] {
		padding |= b
	}
	return plaintext[LengthSize:end:end], padding == 0
}
