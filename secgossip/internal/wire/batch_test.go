package wire

import (
	"bytes"
	"errors"
	"testing"
)

func TestBatchOfNothing(t *testing.T) {
	for _, test := range []struct {
		batch Batch
		ok    bool // a stream's answer may be that there is nothing; a datagram's may not
	}{
		{BatchEvents, false}, {BatchEpochs, false},
		{BatchRoster, true}, {BatchIssuers, true}, {BatchStatements, true}, {BatchRepair, true},
	} {
		if _, err := test.batch.Append(nil, nil); (err == nil) != test.ok {
			t.Errorf("appending an empty %v: got %v, want ok %t", test.batch, err, test.ok)
		}
		if _, err := test.batch.Parse(nil); (err == nil) != test.ok {
			t.Errorf("parsing an empty %v: got %v, want ok %t", test.batch, err, test.ok)
		}
	}
}

func TestBatchOverItsLimitsIsRefused(t *testing.T) {
	for _, batch := range []Batch{BatchEvents, BatchEpochs, BatchRoster, BatchIssuers, BatchStatements, BatchRepair} {
		_, most, longest, total := batch.limits()

		tooLong := [][]byte{make([]byte, longest+1)}
		if _, err := batch.Append(nil, tooLong); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v: appending an item of %d bytes: got %v, want ErrTooLarge", batch, longest+1, err)
		}
		raw := append([]byte{byte((longest + 1) >> 8), byte(longest + 1)}, tooLong[0]...)
		if _, err := batch.Parse(raw); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v: parsing an item of %d bytes: got %v, want ErrTooLarge", batch, longest+1, err)
		}

		tooMany := bytes.Repeat([]byte{0, 1, 'x'}, most+1)
		if _, err := batch.Parse(tooMany); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v: parsing %d items: got %v, want ErrTooLarge", batch, most+1, err)
		}
		items := make([][]byte, most+1)
		for i := range items {
			items[i] = []byte("x")
		}
		if _, err := batch.Append(nil, items); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v: appending %d items: got %v, want ErrTooLarge", batch, most+1, err)
		}

		// As many of the longest as there may be: within the total, or refused for it.
		for i := range items[:most] {
			items[i] = make([]byte, longest)
		}
		raw, err := batch.Append(nil, items[:most])
		if fits := most*(LengthSize+longest) <= total; (err == nil) != fits || len(raw) > total {
			t.Errorf("%v: %d items of %d bytes: got %d bytes (%v), total %d", batch, most, longest, len(raw), err, total)
		}
	}
}

func TestFailedAppendLeavesDestination(t *testing.T) {
	got, err := BatchEvents.Append([]byte("before"), [][]byte{[]byte("one"), nil})
	if err == nil || string(got) != "before" {
		t.Errorf("got %q, %v, want dst unchanged and an error", got, err)
	}
}

func TestMalformedBatchIsRefused(t *testing.T) {
	for _, test := range []struct {
		name string
		raw  []byte
		want error
	}{
		{"half a length", []byte{0}, errItemTruncated},
		{"length and nothing", []byte{0, 1}, errItemTruncated},
		{"second item cut off", []byte{0, 1, 'x', 0, 2, 'y'}, errItemTruncated},
		{"empty item", []byte{0, 1, 'x', 0, 0}, errItemEmpty},
	} {
		if items, err := BatchEvents.Parse(test.raw); !errors.Is(err, test.want) {
			t.Errorf("%s: got %q, %v, want %v", test.name, items, err, test.want)
		}
	}
}
