package seal

import (
	"crypto/cipher"
	"math/rand/v2"
	"testing"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

func stranger() []byte {
	junk := make([]byte, wire.MaxDatagram)
	rand.NewChaCha8([32]byte{9}).Read(junk)
	return junk
}

func TestDropsDoNotAllocate(t *testing.T) {
	c := newConversation(t)
	replayed := c.seal("x")
	wantDrop(t, "first", c.inbox, replayed, Accepted)
	forged := c.seal("x")
	forged[len(forged)-1] ^= 1
	unknown := newConversation(t, func(c *conversation) { c.alice.Boot[0]++ }).seal("x")
	for _, test := range []struct {
		want     Drop
		datagram []byte
	}{
		{DropSize, make([]byte, 1300)},
		{DropDoor, stranger()},
		{DropSender, unknown},
		{DropReplay, replayed},
		{DropSeal, forged},
	} {
		wantDrop(t, "warm", c.inbox, test.datagram, test.want)
		if got := testing.AllocsPerRun(100, func() { c.inbox.Open(test.datagram, nil) }); got != 0 {
			t.Errorf("%v: %v allocations, want 0", test.want, got)
		}
	}
}

func TestSealingAndOpeningAllocateOnlyThePayload(t *testing.T) {
	c := newConversation(t)
	payload := make([]byte, wire.MaxPayload)
	datagram := make([]byte, 0, wire.MaxDatagram)
	var drop Drop
	for _, test := range []struct {
		name string
		dst  []byte
		most float64
	}{
		{"into the caller's room", make([]byte, 0, wire.MaxPayload), 0},
		{"into memory of its own", nil, 1},
	} {
		got := testing.AllocsPerRun(100, func() {
			sealed, err := c.sender.Seal(datagram, wire.PacketGossip, payload)
			if err != nil {
				t.Fatal(err)
			}
			_, drop = c.inbox.Open(sealed, test.dst)
		})
		if got > test.most || drop != Accepted {
			t.Errorf("%s: %v allocations (%v), want at most %v", test.name, got, drop, test.most)
		}
	}
}

func BenchmarkRejectStranger(b *testing.B) {
	c := newConversation(b)
	junk := stranger()
	b.ReportAllocs()
	for b.Loop() {
		c.inbox.Open(junk, nil)
	}
}

func BenchmarkRejectReplay(b *testing.B) {
	c := newConversation(b)
	datagram := c.seal(string(make([]byte, wire.MaxPayload)))
	c.inbox.Open(datagram, nil)
	b.ReportAllocs()
	for b.Loop() {
		c.inbox.Open(datagram, nil)
	}
}

func BenchmarkSeal1182(b *testing.B) {
	c := newConversation(b)
	payload := make([]byte, wire.MaxPayload)
	dst := make([]byte, 0, wire.MaxDatagram)
	b.SetBytes(wire.MaxPayload)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.sender.Seal(dst, wire.PacketGossip, payload); err != nil {
			b.Fatal(err)
		}
	}
}

// Opening a datagram a second time needs a window that has not seen it.
func BenchmarkOpen1182(b *testing.B) {
	c := newConversation(b)
	datagram := c.seal(string(make([]byte, wire.MaxPayload)))
	receiver := (*c.inbox.epochs.Load())[0].byKey[c.alice.Key].receiver
	b.SetBytes(wire.MaxPayload)
	b.ReportAllocs()
	for b.Loop() {
		receiver.window.next, receiver.window.bits[0] = 0, 0
		if _, drop := c.inbox.Open(datagram, nil); drop != Accepted {
			b.Fatal(drop)
		}
	}
}

// What there is to compare with: the cipher alone, on as many bytes.

func bareGCM(b *testing.B) cipher.AEAD {
	gcm, err := cipher.NewGCM(mustAES(make([]byte, 32)))
	if err != nil {
		b.Fatal(err)
	}
	return gcm
}

func BenchmarkBareGCMSeal1184(b *testing.B) {
	gcm, nonce, door := bareGCM(b), make([]byte, 12), make([]byte, 16)
	plaintext := make([]byte, wire.LengthSize+wire.MaxPayload, wire.MaxDatagram)
	b.SetBytes(wire.MaxPayload)
	for b.Loop() {
		gcm.Seal(plaintext[:0], nonce, plaintext, door)
	}
}

func BenchmarkBareGCMOpen1184(b *testing.B) {
	gcm, nonce, door := bareGCM(b), make([]byte, 12), make([]byte, 16)
	sealed := gcm.Seal(nil, nonce, make([]byte, wire.LengthSize+wire.MaxPayload), door)
	dst := make([]byte, 0, wire.MaxDatagram)
	b.SetBytes(wire.MaxPayload)
	for b.Loop() {
		if _, err := gcm.Open(dst, nonce, sealed, door); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBareAESBlock(b *testing.B) {
	block, buffer := mustAES(make([]byte, 32)), make([]byte, 16)
	for b.Loop() {
		block.Decrypt(buffer, buffer)
	}
}
