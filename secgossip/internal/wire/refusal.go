package wire

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// RefusalCode says why a member does not do what another asked. Strangers never
// see one: they get no answer at all.
type RefusalCode uint8

// The codes.
const (
	RefusedMalformed RefusalCode = 1 // what came does not parse or does not belong here
	RefusedIdentity  RefusalCode = 2 // the record does not belong to this connection
	RefusedUnknown   RefusalCode = 3 // no such epoch or payload here
	RefusedBusy      RefusalCode = 4 // too many at once; try another member, or later
	RefusedRevoked   RefusalCode = 5 // not a member any more
)

func (c RefusalCode) known() bool { return c >= RefusedMalformed && c <= RefusedRevoked }

// A Refusal is the last frame of whoever sends it. It is an error, for the one
// who was refused.
type Refusal struct {
	Code RefusalCode
	Text string // for the other side's log; at most MaxRefusalText bytes of UTF-8
}

func (r Refusal) Error() string {
	return fmt.Sprintf("refused by the other side (%d): %q", r.Code, r.Text)
}

// Append appends the body of a FrameRefusal to dst.
func (r Refusal) Append(dst []byte) ([]byte, error) {
	if err := r.check(); err != nil {
		return dst, err
	}
	return append(append(dst, byte(r.Code)), r.Text...), nil
}

// ParseRefusal reads the body of a FrameRefusal.
func ParseRefusal(body []byte) (Refusal, error) {
	if len(body) == 0 {
		return Refusal{}, errors.New("refusal: nothing in it")
	}
	r := Refusal{Code: RefusalCode(body[0]), Text: string(body[1:])}
	return r, r.check()
}

func (r Refusal) check() error {
	switch {
	case !r.Code.known():
		return fmt.Errorf("refusal: unknown code %d", r.Code)
	case len(r.Text) > MaxRefusalText:
		return fmt.Errorf("refusal: %d bytes of text: %w", len(r.Text), ErrTooLarge)
	case !utf8.ValidString(r.Text):
		return errors.New("refusal: text is not UTF-8")
	}
	return nil
}
