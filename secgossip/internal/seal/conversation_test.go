package seal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"testing"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// plainSecret is an epoch secret in plain memory, as keyring defines Derive.
type plainSecret [32]byte

func (s plainSecret) Derive(prefix, info []byte, size int) ([]byte, error) {
	return hkdf.Key(sha256.New, append(bytes.Clone(prefix), s[:]...), nil, string(info), size)
}

func filled[T ~[32]byte | ~[16]byte](b byte) (out T) {
	for i := range len(out) {
		out[i] = b
	}
	return out
}

func party(key, boot byte) Party {
	return Party{Key: filled[[32]byte](key), Boot: filled[[16]byte](boot)}
}

// A conversation is one node that seals, alice, and one that opens, bob, in one
// epoch. Everything about it is fixed; tests change what they are about.
type conversation struct {
	t          testing.TB
	shared     [32]byte
	secret     plainSecret
	cluster    [32]byte
	epoch      uint64
	alice, bob Party
	sender     *Sender
	inbox      *Inbox[string] // bob's
}

func newConversation(t testing.TB, changes ...func(*conversation)) *conversation {
	t.Helper()
	c := &conversation{
		t:       t,
		shared:  filled[[32]byte](0x55),
		secret:  filled[plainSecret](0xee),
		cluster: filled[[32]byte](0xc1),
		epoch:   7,
		alice:   party(0xa1, 0xa0),
		bob:     party(0xb1, 0xb0),
	}
	for _, change := range changes {
		change(c)
	}
	c.sender = c.senderTo(c.bob)
	c.inbox = NewInbox[string](c.cluster, c.bob)
	if err := c.inbox.AddEpoch(c.epoch, c.secret); err != nil {
		t.Fatal(err)
	}
	if err := c.inbox.AddPeer(c.receiverOf(c.alice), "alice"); err != nil {
		t.Fatal(err)
	}
	return c
}

// senderTo is a sender of alice.
func (c *conversation) senderTo(peer Party) *Sender {
	c.t.Helper()
	s, err := NewSender(c.shared[:], c.secret, c.cluster, c.epoch, c.alice, peer)
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// receiverOf is a receiver of bob.
func (c *conversation) receiverOf(peer Party) *Receiver {
	c.t.Helper()
	r, err := NewReceiver(c.shared[:], c.secret, c.cluster, c.epoch, c.bob, peer)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

func (c *conversation) reference() reference {
	return reference{c.shared, c.secret, c.cluster, c.epoch, c.alice, c.bob}
}

func (c *conversation) seal(payload string) []byte {
	c.t.Helper()
	datagram, err := c.sender.Seal(nil, wire.PacketGossip, []byte(payload))
	if err != nil {
		c.t.Fatal(err)
	}
	return datagram
}

// wantDrop opens a datagram at in and checks what becomes of it.
func wantDrop(t testing.TB, what string, in *Inbox[string], datagram []byte, want Drop) {
	t.Helper()
	if opened, got := in.Open(datagram, nil); got != want {
		t.Errorf("%s: got %v (%+v), want %v", what, got, opened, want)
	}
}
