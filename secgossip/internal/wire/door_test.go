package wire

import "testing"

func TestDoorWithAWrongCheckIsRefused(t *testing.T) {
	var block [DoorSize]byte
	Door{Type: PacketGossip, Hint: [6]byte{1}, Counter: 5}.Put(&block)
	for bit := 12 * 8; bit < 16*8; bit++ {
		bad := [DoorSize]byte(flipped(block[:], bit))
		if d, ok := ParseDoor(&bad); ok {
			t.Errorf("check bit %d flipped: accepted as %+v", bit, d)
		}
	}
}

func TestDoorOfUnknownTypeIsRefused(t *testing.T) {
	for i := range 256 {
		block := [DoorSize]byte{0: byte(i)}
		want := i >= 1 && i <= 11 || i >= 13 && i <= 19
		if _, ok := ParseDoor(&block); ok != want {
			t.Errorf("type %d: got %t, want %t", i, ok, want)
		}
	}
}

func TestDoorCounterHas40Bits(t *testing.T) {
	want := Door{Type: PacketEpochs, Hint: [6]byte{255, 255, 255, 255, 255, 255}, Counter: MaxCounter}
	var block [DoorSize]byte
	want.Put(&block)
	if got, ok := ParseDoor(&block); !ok || got != want {
		t.Errorf("got %+v (%t), want %+v", got, ok, want)
	}
	defer func() {
		if recover() == nil {
			t.Error("a counter of 41 bits: no panic, it would have become another counter")
		}
	}()
	Door{Type: PacketGossip, Counter: MaxCounter + 1}.Put(&block)
}
