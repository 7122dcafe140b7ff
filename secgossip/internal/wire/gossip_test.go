package wire

import (
	"bytes"
	"errors"
	"testing"
)

func TestGossipThatCannotBeSentIsRefused(t *testing.T) {
	many := make([][]byte, MaxPacketItems+1)
	for i := range many {
		many[i] = []byte("x")
	}
	for _, test := range []struct {
		name string
		g    Gossip
		want error
	}{
		{"no packet", Gossip{Evidence: [][]byte{[]byte("x")}}, errNoPacket},
		{"empty evidence", Gossip{Evidence: [][]byte{{}}, Packet: []byte("p")}, errItemEmpty},
		{"evidence over the limit", Gossip{Evidence: [][]byte{make([]byte, MaxRecord+1)}, Packet: []byte("p")}, ErrTooLarge},
		{"too many pieces", Gossip{Evidence: many, Packet: []byte("p")}, ErrTooLarge},
		{"packet over the limit", Gossip{Packet: make([]byte, MaxPayload)}, ErrTooLarge},
	} {
		got, err := test.g.Append([]byte("before"))
		if !errors.Is(err, test.want) || string(got) != "before" {
			t.Errorf("%s: got %q, %v, want dst unchanged and %v", test.name, got, err, test.want)
		}
	}
}

func TestGossipFillsADatagramExactly(t *testing.T) {
	g := Gossip{Evidence: [][]byte{make([]byte, MaxRecord)}, Packet: make([]byte, 379)}
	raw, err := g.Append(nil)
	if err != nil || len(raw) != MaxPayload || g.Size() != MaxPayload {
		t.Errorf("got %d bytes, Size %d (%v), want %d", len(raw), g.Size(), err, MaxPayload)
	}
}

func TestMalformedGossipIsRefused(t *testing.T) {
	for _, test := range []struct {
		name string
		raw  []byte
		want error
	}{
		{"nothing", nil, errNoPacket},
		{"a count and no packet", []byte{0}, errNoPacket},
		{"evidence and no packet", []byte{1, 0, 1, 'e'}, errNoPacket},
		{"evidence longer than the rest", []byte{1, 0, 9, 'e', 'p'}, errItemTruncated},
		{"count larger than the list", []byte{2, 0, 1, 'e', 'p'}, errItemTruncated},
		{"empty evidence", []byte{1, 0, 0, 'p'}, errItemEmpty},
		{"evidence over the limit", append([]byte{1, 3, 33}, make([]byte, MaxRecord+2)...), ErrTooLarge},
		{"count over the limit", append([]byte{MaxPacketItems + 1}, bytes.Repeat([]byte{0, 1, 'e'}, 20)...), ErrTooLarge},
	} {
		if g, err := ParseGossip(test.raw); !errors.Is(err, test.want) {
			t.Errorf("%s: got %+v, %v, want %v", test.name, g, err, test.want)
		}
	}
}

// An item cannot be appended to in place over what follows it.
func TestPartsOfGossipDoNotReachIntoEachOther(t *testing.T) {
	raw := must(t)(Gossip{Evidence: [][]byte{[]byte("evidence")}, Packet: []byte("packet")}.Append(nil))
	g, err := ParseGossip(raw)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(g.Evidence[0], "XXX"...)
	if string(g.Packet) != "packet" {
		t.Errorf("packet became %q", g.Packet)
	}
}
