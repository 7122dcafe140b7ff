package wire

import (
	"testing"
	"time"
)

func TestImpossibleHelloIsRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Hello)
	}{
		{"no purpose", func(h *Hello) { h.Purpose = 0 }},
		{"unknown purpose", func(h *Hello) { h.Purpose = 7 }},
		{"no record", func(h *Hello) { h.Record = nil }},
		{"long record", func(h *Hello) { h.Record = make([]byte, MaxRecord+1) }},
		{"seals with what it does not know", func(h *Hello) { h.Primary = h.Highest + 1 }},
		{"a clock before 1970", func(h *Hello) { h.Time = time.Unix(-1, 0) }},
		{"no clock", func(h *Hello) { h.Time = time.Time{} }},
	} {
		h := testHello()
		test.change(&h)
		if raw, err := h.Append([]byte("before")); err == nil || string(raw) != "before" {
			t.Errorf("%s: got %x, %v, want dst unchanged and an error", test.name, raw, err)
		}
	}
	// The one mistake that two correct encodings of Go's values share.
	if _, err := ParseHello([]byte{0xa6, 1, 1, 2, 0xf6, 3, 0x40, 4, 0, 5, 0, 6, 1}); err == nil {
		t.Error("null instead of a record: accepted")
	}
}

// A newcomer knows no epoch and still gets in.
func TestNewcomersHelloIsAccepted(t *testing.T) {
	h := testHello()
	h.Highest, h.Primary = 0, 0
	if _, err := ParseHello(must(t)(h.Append(nil))); err != nil {
		t.Error(err)
	}
}

func TestSecretRequestForNoEpochIsRefused(t *testing.T) {
	if _, err := ParseSecretRequest(make([]byte, SecretRequestSize)); err == nil {
		t.Error("accepted")
	}
}
