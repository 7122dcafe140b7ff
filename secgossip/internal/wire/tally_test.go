package wire

import (
	"bytes"
	"errors"
	"testing"
)

func testTally() Tally {
	return Tally{
		From: [8]byte{1}, To: [8]byte{9},
		Entries: []TallyEntry{
			{Origin: Origin{Node: [8]byte{1}, Start: 5}, Next: 1},
			{Origin: Origin{Node: [8]byte{1}, Start: 6}, Next: 9, Above: 0b1010},
			{Origin: Origin{Node: [8]byte{9}, Start: 1}, Next: 1<<32 - 1, Above: 1 << 63},
		},
	}
}

func TestTallyThatNobodyHonestTellsIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Tally){
		"next is zero":                func(t *Tally) { t.Entries[0].Next = 0 },
		"next is there":               func(t *Tally) { t.Entries[0].Above = 1 },
		"an origin twice":             func(t *Tally) { t.Entries[1].Start = 5 },
		"out of order":                func(t *Tally) { t.Entries[0].Start = 7 },
		"below the range":             func(t *Tally) { t.From = [8]byte{2} },
		"above the range":             func(t *Tally) { t.To = [8]byte{8} },
		"range ends before it begins": func(t *Tally) { t.Entries = nil; t.To = [8]byte{} },
	} {
		tally := testTally()
		change(&tally)
		if _, err := tally.Append(nil); err == nil {
			t.Errorf("%s: appended", name)
		}
	}
	raw := must(t)(testTally().Append(nil))
	for n := range len(raw) {
		if n >= 16 && (n-16)%TallyEntrySize == 0 {
			continue // a shorter tally
		}
		if _, err := ParseTally(raw[:n]); err == nil {
			t.Errorf("cut to %d bytes: accepted", n)
		}
	}
	if _, err := ParseTally(make([]byte, MaxPayload+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too long: got %v, want ErrTooLarge", err)
	}
}

// On a stream one tally tells of all origins that there can be, and of no more.
func TestWholeTallyHasItsOwnLimit(t *testing.T) {
	whole := Tally{To: [8]byte{255, 255, 255, 255, 255, 255, 255, 255}}
	for i := range MaxWholeTally {
		origin := Origin{Node: [8]byte{byte(i >> 11), byte(i >> 3)}, Start: uint32(i % 8)}
		whole.Entries = append(whole.Entries, TallyEntry{Origin: origin, Next: 1})
	}
	raw := must(t)(whole.AppendWhole(nil))
	if got, err := ParseWholeTally(raw); err != nil || len(raw) != MaxTallyBody || len(got.Entries) != MaxWholeTally {
		t.Errorf("the largest: %d bytes, %d entries, %v", len(raw), len(got.Entries), err)
	}
	if _, err := ParseWholeTally(append(raw, make([]byte, TallyEntrySize)...)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an entry more: got %v, want ErrTooLarge", err)
	}
	whole.Entries = append(whole.Entries, TallyEntry{Origin: Origin{Node: whole.To}, Next: 1})
	if _, err := whole.AppendWhole(nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("appending an entry more: got %v, want ErrTooLarge", err)
	}
	whole.Entries = whole.Entries[:MaxTally+1]
	if _, err := whole.Append(nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("of two packets in one: got %v, want ErrTooLarge", err)
	}
}

func FuzzTallyIsWrittenBackTheSame(f *testing.F) {
	f.Add(must(f)(testTally().Append(nil)))
	f.Add(make([]byte, 16))
	f.Fuzz(func(t *testing.T, raw []byte) {
		tally, err := ParseTally(raw)
		if err != nil {
			return
		}
		if whole, err := ParseWholeTally(raw); err != nil || len(whole.Entries) != len(tally.Entries) {
			t.Errorf("%x is a tally in a packet and none on a stream: %v", raw, err)
		}
		if again, err := tally.Append(nil); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%x was written back as %x, %v", raw, again, err)
		}
	})
}
