package seal

import (
	"bytes"
	"crypto/cipher"
	"math/rand/v2"
	"testing"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

func TestWhatIsSealedOpens(t *testing.T) {
	c := newConversation(t)
	for _, packet := range []wire.PacketType{wire.PacketGossip, wire.PacketEvents, wire.PacketEpochs} {
		for _, size := range []int{0, 1, 30, 31, 94, 95, wire.MaxPayload} {
			payload := bytes.Repeat([]byte{byte(size)}, size)
			datagram, err := c.sender.Seal(nil, packet, payload)
			if err != nil {
				t.Fatal(err)
			}
			if len(datagram) != wire.DatagramSize(size) {
				t.Errorf("payload of %d: got a datagram of %d, want %d", size, len(datagram), wire.DatagramSize(size))
			}
			got, drop := c.inbox.Open(datagram, nil)
			if drop != Accepted || got.Peer != "alice" || got.Epoch != 7 || got.Type != packet || !bytes.Equal(got.Payload, payload) {
				t.Errorf("type %d, payload of %d: got %+v (%v)", packet, size, got, drop)
			}
		}
	}
}

// A flipped bit of the door changes the whole block; behind the door the tag
// sees it. Neither uses up the counter of the datagram that was damaged.
func TestEveryFlippedBitIsDropped(t *testing.T) {
	c := newConversation(t)
	datagram := c.seal("the payload of a datagram")
	for bit := range len(datagram) * 8 {
		bad := bytes.Clone(datagram)
		bad[bit/8] ^= 1 << (bit % 8)
		want := DropSeal
		if bit < wire.DoorSize*8 {
			want = DropDoor
		}
		if _, got := c.inbox.Open(bad, nil); got != want {
			t.Errorf("bit %d flipped: got %v, want %v", bit, got, want)
		}
	}
	wantDrop(t, "the datagram itself, afterwards", c.inbox, datagram, Accepted)
}

func TestEveryTruncationIsDropped(t *testing.T) {
	c := newConversation(t)
	datagram := c.seal(string(make([]byte, 200)))
	for n := range datagram {
		want := DropSize
		if n > 0 && n%wire.DatagramStep == 0 {
			want = DropSeal
		}
		if _, got := c.inbox.Open(datagram[:n], nil); got != want {
			t.Errorf("%d of %d bytes: got %v, want %v", n, len(datagram), got, want)
		}
	}
	wantDrop(t, "a step more", c.inbox, append(bytes.Clone(datagram), make([]byte, 64)...), DropSeal)
	wantDrop(t, "the datagram itself, afterwards", c.inbox, datagram, Accepted)
}

// Any member can make bob's door. Another type in front of what alice sealed must
// not turn her gossip into something else: the door is associated data.
func TestMemberCannotChangeTheTypeOfAnothersDatagram(t *testing.T) {
	c := newConversation(t)
	gossip := c.seal("gossip")
	forged := c.reference().datagram(byte(wire.PacketEpochs), 0, nil) // the same hint and counter
	forged = append(forged[:wire.DoorSize], gossip[wire.DoorSize:]...)
	wantDrop(t, "another type", c.inbox, forged, DropSeal)
	wantDrop(t, "as it was sealed", c.inbox, gossip, Accepted)
}

func TestJunkOfAnyLengthIsDropped(t *testing.T) {
	c := newConversation(t)
	random := rand.NewChaCha8([32]byte{1})
	for n := range 2000 {
		junk := make([]byte, n)
		random.Read(junk)
		want := DropSize
		if n >= wire.MinDatagram && n <= wire.MaxDatagram && n%wire.DatagramStep == 0 {
			want = DropDoor
		}
		wantDrop(t, "junk", c.inbox, junk, want)
	}
}

// Threat N06: what a stranger costs is one AES block for each epoch, or nothing.
func TestStrangerCostsOneBlockPerEpoch(t *testing.T) {
	c := newConversation(t)
	if err := c.inbox.AddEpoch(8, c.secret); err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for _, epoch := range *c.inbox.epochs.Load() {
		epoch.door = countedBlock{epoch.door, &blocks}
	}
	for _, test := range []struct {
		size, want int
	}{
		{0, 0}, {16, 0}, {63, 0}, {65, 0}, {1217, 0}, {1280, 0}, {65507, 0},
		{64, 2}, {640, 2}, {1216, 2},
	} {
		blocks = 0
		c.inbox.Open(make([]byte, test.size), nil)
		if blocks != test.want {
			t.Errorf("%d bytes: got %d blocks, want %d", test.size, blocks, test.want)
		}
	}
}

type countedBlock struct {
	cipher.Block
	blocks *int
}

func (b countedBlock) Decrypt(dst, src []byte) {
	*b.blocks++
	b.Block.Decrypt(dst, src)
}

func TestInboxWithoutEpochsOpensNothing(t *testing.T) {
	c := newConversation(t)
	empty := NewInbox[string](c.cluster, c.bob)
	wantDrop(t, "a datagram", empty, c.seal("x"), DropDoor)
}

func TestSealedNonsenseIsDropped(t *testing.T) {
	c := newConversation(t)
	good := padded([]byte("payload"))
	badPadding := bytes.Clone(good)
	badPadding[len(badPadding)-1] = 1
	for i, test := range []struct {
		name     string
		packet   byte
		counter  uint64
		sealed   []byte
		expected Drop
	}{
		{"unknown type", 99, 0, good, DropDoor},
		{"type zero", 0, 0, good, DropDoor},
		{"padding that is not zero", 1, 1, badPadding, DropPlaintext},
		{"length beyond the end", 1, 2, append([]byte{0xff, 0xff}, good[2:]...), DropPlaintext},
		{"a step too many", 1, 3, append(good[:len(good):len(good)], make([]byte, 64)...), DropPlaintext},
		{"the counter after the last", 1, wire.StopAfter, good, DropReplay},
		{"the largest counter", 1, wire.MaxCounter, good, DropReplay},
		{"nothing wrong", 1, 4, good, Accepted},
	} {
		datagram := c.reference().datagram(test.packet, test.counter, test.sealed)
		if _, got := c.inbox.Open(datagram, nil); got != test.expected {
			t.Errorf("%d, %s: got %v, want %v", i, test.name, got, test.expected)
		}
	}
}

// memberlist keeps what it is given, and transport reads into the same buffer again.
func TestPayloadIsAppendedAndSharesNothing(t *testing.T) {
	c := newConversation(t)
	datagram := c.seal("payload")
	opened, drop := c.inbox.Open(datagram, []byte("before "))
	if drop != Accepted || string(opened.Payload) != "payload" {
		t.Fatalf("got %q (%v)", opened.Payload, drop)
	}
	clear(datagram)
	if _, drop := c.inbox.Open(c.seal("another"), nil); drop != Accepted {
		t.Fatal(drop)
	}
	if string(opened.Payload) != "payload" {
		t.Errorf("the payload became %q", opened.Payload)
	}

	buffer := make([]byte, 7, 100)
	copy(buffer, "before ")
	opened, drop = c.inbox.Open(c.seal("payload"), buffer)
	if got := string(buffer[:14]); drop != Accepted || got != "before payload" {
		t.Errorf("got %q (%v), want it in the caller's room", got, drop)
	}
	wantDrop(t, "junk", c.inbox, make([]byte, 64), DropDoor)
	if got := string(buffer[:14]); got != "before payload" {
		t.Errorf("a drop changed the caller's room: %q", got)
	}
}

// FuzzNothingUnsealedIsAccepted gives the inbox bytes behind no door, then behind
// a good one.
func FuzzNothingUnsealedIsAccepted(f *testing.F) {
	c := newConversation(f)
	datagram := c.seal("payload")
	f.Add(datagram[:63])
	f.Add(append(bytes.Clone(datagram[:48]), make([]byte, 16)...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if bytes.Equal(raw, datagram) {
			return
		}
		if opened, drop := c.inbox.Open(raw, nil); drop == Accepted {
			t.Errorf("accepted as %+v", opened)
		}
		if len(raw) < wire.DoorSize {
			return
		}
		copy(raw, datagram[:wire.DoorSize])
		if opened, drop := c.inbox.Open(raw, nil); drop == Accepted && !bytes.Equal(raw, datagram) {
			t.Errorf("behind a good door: accepted as %+v", opened)
		}
	})
}
