package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

func TestEveryPayloadSizeFillsWholeSteps(t *testing.T) {
	for n := range MaxPayload + 1 {
		payload := bytes.Repeat([]byte{0xaa}, n)
		plaintext, err := AppendPlaintext(nil, payload)
		if err != nil {
			t.Fatal(err)
		}
		size := DoorSize + len(plaintext) + TagSize
		if size%DatagramStep != 0 || size < MinDatagram || size > MaxDatagram || size != DatagramSize(n) {
			t.Fatalf("payload of %d: datagram of %d bytes, DatagramSize says %d", n, size, DatagramSize(n))
		}
		got, ok := ParsePlaintext(plaintext)
		if !ok || !bytes.Equal(got, payload) {
			t.Fatalf("payload of %d: got %d bytes (%t)", n, len(got), ok)
		}
		if cap(got) != n {
			t.Fatalf("payload of %d: has room for %d, which is the padding's", n, cap(got))
		}
	}
}

func TestPayloadThatDoesNotFitIsRefused(t *testing.T) {
	dst := []byte("before")
	got, err := AppendPlaintext(dst, make([]byte, MaxPayload+1))
	if !errors.Is(err, ErrTooLarge) || string(got) != "before" {
		t.Errorf("got %q, %v, want dst unchanged and ErrTooLarge", got, err)
	}
}

func TestPaddingHidesNothing(t *testing.T) {
	plaintext, err := AppendPlaintext(nil, []byte("short"))
	if err != nil {
		t.Fatal(err)
	}
	for i := LengthSize + len("short"); i < len(plaintext); i++ {
		bad := bytes.Clone(plaintext)
		bad[i] = 1
		if _, ok := ParsePlaintext(bad); ok {
			t.Errorf("byte %d of the padding is not zero: accepted", i)
		}
	}
}

// A length that needs fewer or more steps than the datagram has is another
// encoding of the same payload, or reads past the end.
func TestLengthThatBelongsToAnotherSizeIsRefused(t *testing.T) {
	plaintext := make([]byte, DatagramSize(100)-DoorSize-TagSize) // 192: payloads of 95 to 158 bytes
	for length := range 1 << 16 {
		binary.BigEndian.PutUint16(plaintext, uint16(length))
		_, ok := ParsePlaintext(plaintext)
		if want := length >= 95 && length <= 158; ok != want {
			t.Fatalf("length %d in a plaintext of %d: got %t, want %t", length, len(plaintext), ok, want)
		}
	}
}

func TestPlaintextOfMoreThanOneDatagramIsRefused(t *testing.T) {
	plaintext := make([]byte, MaxDatagram+DatagramStep-DoorSize-TagSize)
	binary.BigEndian.PutUint16(plaintext, MaxPayload+1)
	if _, ok := ParsePlaintext(plaintext); ok {
		t.Error("accepted")
	}
}
