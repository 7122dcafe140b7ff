package wire

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
)

// A Tally says what its sender has of the events of each origin whose hint is
// within From and To. What lies there and is not in it, the sender has nothing of.
// Protocol 5.8.
type Tally struct {
	From, To [8]byte
	Entries  []TallyEntry // ascending by origin; at most MaxTally, on a stream MaxWholeTally
}

// A TallyEntry is about one origin.
type TallyEntry struct {
	Origin
	Next  uint32 // the lowest sequence that the sender lacks, not 0
	Above uint64 // bit i: it has Next+i all the same; bit 0 is never set
}

// CompareOrigins orders as tallies do.
func CompareOrigins(a, b Origin) int {
	return cmp.Or(bytes.Compare(a.Node[:], b.Node[:]), cmp.Compare(a.Start, b.Start))
}

// Append appends the payload of a PacketTally or PacketLacks to dst.
func (t Tally) Append(dst []byte) ([]byte, error) { return t.append(dst, MaxTally) }

// AppendWhole appends the body of a FrameTally to dst.
func (t Tally) AppendWhole(dst []byte) ([]byte, error) { return t.append(dst, MaxWholeTally) }

func (t Tally) append(dst []byte, most int) ([]byte, error) {
	if err := t.check(most); err != nil {
		return dst, fmt.Errorf("tally: %w", err)
	}
	dst = append(append(dst, t.From[:]...), t.To[:]...)
	for _, e := range t.Entries {
		dst = append(dst, e.Node[:]...)
		dst = binary.BigEndian.AppendUint32(dst, e.Start)
		dst = binary.BigEndian.AppendUint32(dst, e.Next)
		dst = binary.BigEndian.AppendUint64(dst, e.Above)
	}
	return dst, nil
}

// ParseTally reads the payload of a PacketTally or PacketLacks.
func ParseTally(raw []byte) (Tally, error) { return parseTally(raw, MaxTally) }

// ParseWholeTally reads the body of a FrameTally.
func ParseWholeTally(raw []byte) (Tally, error) { return parseTally(raw, MaxWholeTally) }

func parseTally(raw []byte, most int) (Tally, error) {
	if len(raw) > 16+most*TallyEntrySize {
		return Tally{}, fmt.Errorf("tally: %w", ErrTooLarge)
	}
	if len(raw) < 16 || (len(raw)-16)%TallyEntrySize != 0 {
		return Tally{}, fmt.Errorf("tally: %d bytes", len(raw))
	}
	t := Tally{From: [8]byte(raw[:8]), To: [8]byte(raw[8:16])}
	for rest := raw[16:]; len(rest) > 0; rest = rest[TallyEntrySize:] {
		t.Entries = append(t.Entries, TallyEntry{
			Origin: Origin{Node: [8]byte(rest[:8]), Start: binary.BigEndian.Uint32(rest[8:])},
			Next:   binary.BigEndian.Uint32(rest[12:]),
			Above:  binary.BigEndian.Uint64(rest[16:]),
		})
	}
	if err := t.check(most); err != nil {
		return Tally{}, fmt.Errorf("tally: %w", err)
	}
	return t, nil
}

func (t Tally) check(most int) error {
	if bytes.Compare(t.From[:], t.To[:]) > 0 {
		return errors.New("range ends before it begins")
	}
	if len(t.Entries) > most {
		return fmt.Errorf("%d entries: %w", len(t.Entries), ErrTooLarge)
	}
	for i, e := range t.Entries {
		switch {
		case e.Next == 0 || e.Above&1 != 0:
			return errors.New("sequence that is both there and lacking")
		case bytes.Compare(e.Node[:], t.From[:]) < 0 || bytes.Compare(e.Node[:], t.To[:]) > 0:
			return errors.New("origin out of range")
		case i > 0 && CompareOrigins(t.Entries[i-1].Origin, e.Origin) >= 0:
			return errors.New("origins out of order")
		}
	}
	return nil
}
