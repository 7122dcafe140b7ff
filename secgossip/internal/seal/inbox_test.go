package seal

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

func TestEveryEpochHeldIsTried(t *testing.T) {
	c := newConversation(t)
	var datagrams [][]byte
	for _, number := range []uint64{9, 5, 6} { // 7 is there; not in order
		c.epoch = number
		if err := c.inbox.AddEpoch(number, c.secret); err != nil {
			t.Fatal(err)
		}
		if err := c.inbox.AddPeer(c.receiverOf(c.alice), "alice"); err != nil {
			t.Fatal(err)
		}
		c.sender = c.senderTo(c.bob)
		datagrams = append(datagrams, c.seal("x"))
	}
	var order []uint64
	for _, epoch := range *c.inbox.epochs.Load() {
		order = append(order, epoch.number)
	}
	if want := []uint64{9, 7, 6, 5}; !slices.Equal(order, want) {
		t.Errorf("doors are tried in order %v, want the newest first: %v", order, want)
	}
	for i, want := range []uint64{9, 5, 6} {
		if opened, drop := c.inbox.Open(datagrams[i], nil); drop != Accepted || opened.Epoch != want {
			t.Errorf("got epoch %d (%v), want %d", opened.Epoch, drop, want)
		}
	}
	if err := c.inbox.AddEpoch(10, c.secret); !errors.Is(err, ErrTooManyEpochs) {
		t.Errorf("a fifth epoch: got %v, want ErrTooManyEpochs", err)
	}
}

func TestRemovedEpochOpensNothing(t *testing.T) {
	c := newConversation(t)
	datagram := c.seal("x")
	c.inbox.RemoveEpoch(99) // not held
	c.inbox.RemoveEpoch(7)
	wantDrop(t, "after removal", c.inbox, datagram, DropDoor)
	if err := c.inbox.AddPeer(c.receiverOf(c.alice), "alice"); !errors.Is(err, ErrEpochUnknown) {
		t.Errorf("adding a peer: got %v, want ErrEpochUnknown", err)
	}
}

// A member that was asleep still has the epoch and offers it.
func TestRemovedEpochIsNotAddedAgain(t *testing.T) {
	c := newConversation(t)
	datagram := c.seal("x")
	wantDrop(t, "at first", c.inbox, datagram, Accepted)
	c.inbox.RemoveEpoch(7)
	if err := c.inbox.AddEpoch(7, c.secret); !errors.Is(err, ErrEpochSpent) {
		t.Errorf("got %v, want ErrEpochSpent", err)
	}
	wantDrop(t, "again", c.inbox, datagram, DropDoor)
	// Two keepers had taken the number, and the other one's epoch holds.
	if err := c.inbox.AddEpoch(7, filled[plainSecret](0xdd)); err != nil {
		t.Errorf("another epoch of that number: %v", err)
	}
}

func TestVeryOldEpochsAreRefusedByNumber(t *testing.T) {
	var spent spentEpochs
	for number := range uint64(wire.MaxSpentEpochs + 10) {
		spent.add(number, [16]byte{1})
	}
	if len(spent.list) != wire.MaxSpentEpochs {
		t.Errorf("remembers %d, want %d", len(spent.list), wire.MaxSpentEpochs)
	}
	for _, test := range []struct {
		number      uint64
		fingerprint byte
		want        bool
	}{
		{0, 1, true}, {9, 1, true}, {9, 2, true}, // forgotten one by one
		{10, 1, true}, {10, 2, false}, {wire.MaxSpentEpochs + 9, 1, true}, {wire.MaxSpentEpochs + 10, 1, false},
	} {
		if got := spent.has(test.number, [16]byte{test.fingerprint}); got != test.want {
			t.Errorf("number %d, fingerprint %d: got %t, want %t", test.number, test.fingerprint, got, test.want)
		}
	}
}

func TestEpochIsNotAddedTwice(t *testing.T) {
	c := newConversation(t)
	if err := c.inbox.AddEpoch(7, filled[plainSecret](0xdd)); !errors.Is(err, ErrEpochKnown) {
		t.Errorf("got %v, want ErrEpochKnown", err)
	}
	wantDrop(t, "in the one that was there", c.inbox, c.seal("x"), Accepted)
}

func TestReceiverOfAnotherNodeIsRefused(t *testing.T) {
	c := newConversation(t)
	for name, change := range map[string]func(*conversation){
		"another node":      func(c *conversation) { c.bob = party(0xd1, 0xb0) },
		"before we started": func(c *conversation) { c.bob = party(0xb1, 0xbb) },
		"another cluster":   func(c *conversation) { c.cluster = filled[[32]byte](0xc2) },
	} {
		other := newConversation(t, change)
		if err := c.inbox.AddPeer(other.receiverOf(other.alice), "alice"); !errors.Is(err, ErrForeignReceiver) {
			t.Errorf("%s: got %v, want ErrForeignReceiver", name, err)
		}
	}
}

// A peer that was lost and found again did not restart: what it sealed before
// must not open again, what it seals next must.
func TestRemovedPeerComesBackWithItsWindow(t *testing.T) {
	c := newConversation(t)
	seen := c.seal("seen")
	wantDrop(t, "at first", c.inbox, seen, Accepted)

	c.inbox.RemovePeer(c.alice.Key)
	c.inbox.RemovePeer(c.bob.Key) // not there
	lost := c.seal("sealed meanwhile")
	wantDrop(t, "removed", c.inbox, lost, DropSender)

	if err := c.inbox.AddPeer(c.receiverOf(c.alice), "alice again"); err != nil {
		t.Fatal(err)
	}
	wantDrop(t, "seen before", c.inbox, seen, DropReplay)
	if opened, drop := c.inbox.Open(lost, nil); drop != Accepted || opened.Peer != "alice again" {
		t.Errorf("not seen before: got %+v (%v)", opened, drop)
	}
}

func TestPeerAddedTwiceKeepsItsWindow(t *testing.T) {
	c := newConversation(t)
	seen := c.seal("seen")
	wantDrop(t, "at first", c.inbox, seen, Accepted)
	if err := c.inbox.AddPeer(c.receiverOf(c.alice), "alice again"); err != nil {
		t.Fatal(err)
	}
	wantDrop(t, "seen before", c.inbox, seen, DropReplay)
	c.inbox.RemovePeer(c.alice.Key)
	wantDrop(t, "after one removal", c.inbox, c.seal("x"), DropSender)
}

// sameHint is a secret under which all traffic keys have one hint.
type sameHint struct{ plainSecret }

func (s sameHint) Derive(prefix, info []byte, size int) ([]byte, error) {
	key, err := s.plainSecret.Derive(prefix, info, size)
	if err == nil && size > trafficKeySize {
		clear(key[trafficKeySize:])
	}
	return key, err
}

func TestPeersWithOneHintAreToldApart(t *testing.T) {
	c := newConversation(t)
	secret := sameHint{c.secret}
	inbox := NewInbox[string](c.cluster, c.bob)
	if err := inbox.AddEpoch(7, secret); err != nil {
		t.Fatal(err)
	}
	peers := map[string]Party{"alice": c.alice, "carol": party(0xc3, 0xc4), "dave": party(0xd3, 0xd4)}
	senders := make(map[string]*Sender)
	for name, peer := range peers {
		r, err := NewReceiver(c.shared[:], secret, c.cluster, 7, c.bob, peer)
		if err != nil {
			t.Fatal(err)
		}
		if err := inbox.AddPeer(r, name); err != nil {
			t.Fatal(err)
		}
		if senders[name], err = NewSender(c.shared[:], secret, c.cluster, 7, peer, c.bob); err != nil {
			t.Fatal(err)
		}
	}
	check := func(name string, want bool) {
		t.Helper()
		datagram, err := senders[name].Seal(nil, wire.PacketGossip, []byte(name))
		if err != nil {
			t.Fatal(err)
		}
		opened, drop := inbox.Open(datagram, nil)
		if (drop == Accepted) != want || want && opened.Peer != name {
			t.Errorf("from %s: got %+v (%v), want accepted %t", name, opened, drop, want)
		}
		if _, drop := inbox.Open(datagram, nil); drop == Accepted {
			t.Errorf("from %s again: accepted", name)
		}
	}
	for name := range peers {
		check(name, true)
	}
	inbox.RemovePeer(peers["carol"].Key)
	check("alice", true)
	check("carol", false)
	check("dave", true)
}

type brokenSecret struct {
	key []byte
	err error
}

func (s brokenSecret) Derive([]byte, []byte, int) ([]byte, error) { return s.key, s.err }

// A short key must not become a weaker cipher.
func TestBrokenSecretIsAnError(t *testing.T) {
	c := newConversation(t)
	destroyed := errors.New("secret is destroyed")
	for name, secret := range map[string]brokenSecret{
		"destroyed": {nil, destroyed},
		"AES-128":   {make([]byte, 16), nil},
		"empty":     {nil, nil},
	} {
		if err := c.inbox.AddEpoch(8, secret); err == nil {
			t.Errorf("%s: AddEpoch took it", name)
		} else if secret.err != nil && !errors.Is(err, destroyed) {
			t.Errorf("%s: AddEpoch: got %v, want the cause", name, err)
		}
		if _, err := NewSender(c.shared[:], secret, c.cluster, 7, c.alice, c.bob); err == nil {
			t.Errorf("%s: NewSender took it", name)
		}
		if _, err := NewReceiver(c.shared[:], secret, c.cluster, 7, c.bob, c.alice); err == nil {
			t.Errorf("%s: NewReceiver took it", name)
		}
	}
}

// rememberingSecret keeps what it derived, to see what becomes of it.
type rememberingSecret struct {
	plainSecret
	derived *[][]byte
}

func (s rememberingSecret) Derive(prefix, info []byte, size int) ([]byte, error) {
	key, err := s.plainSecret.Derive(prefix, info, size)
	*s.derived = append(*s.derived, key)
	return key, err
}

func TestDerivedKeysAreWiped(t *testing.T) {
	c := newConversation(t)
	var derived [][]byte
	secret := rememberingSecret{c.secret, &derived}
	if err := c.inbox.AddEpoch(8, secret); err != nil {
		t.Fatal(err)
	}
	if _, err := NewSender(c.shared[:], secret, c.cluster, 8, c.alice, c.bob); err != nil {
		t.Fatal(err)
	}
	if _, err := NewReceiver(c.shared[:], secret, c.cluster, 8, c.bob, c.alice); err != nil {
		t.Fatal(err)
	}
	if len(derived) != 4 {
		t.Errorf("derived %d keys, want 4: two doors, two directions", len(derived))
	}
	for i, key := range derived {
		if !bytes.Equal(key, make([]byte, len(key))) {
			t.Errorf("key %d was left in memory", i)
		}
	}
}

func TestBadAgreementIsAnError(t *testing.T) {
	c := newConversation(t)
	if _, err := NewSender(c.shared[:31], c.secret, c.cluster, 7, c.alice, c.bob); err == nil {
		t.Error("31 bytes: accepted")
	}
	if _, err := NewReceiver(nil, c.secret, c.cluster, 7, c.bob, c.alice); err == nil {
		t.Error("no bytes: accepted")
	}
	if _, err := NewSender(c.shared[:], c.secret, c.cluster, 7, c.alice, Party{Key: c.alice.Key}); err == nil {
		t.Error("with itself: accepted, and both directions would have one key")
	}
}

// For the race detector: changes while datagrams come in.
func TestChangesWhileReading(t *testing.T) {
	c := newConversation(t)
	var all sync.WaitGroup
	all.Go(func() {
		for range 200 {
			c.inbox.Open(c.seal("x"), nil)
		}
	})
	all.Go(func() {
		other := newConversation(t, func(c *conversation) { c.alice = party(0xc3, 0xc4) })
		for range 50 {
			if err := c.inbox.AddPeer(other.receiverOf(other.alice), "carol"); err != nil {
				t.Error(err)
			}
			c.inbox.RemovePeer(other.alice.Key)
		}
	})
	all.Go(func() {
		for number := range uint64(50) {
			if err := c.inbox.AddEpoch(100+number, c.secret); err != nil {
				t.Error(err)
			}
			c.inbox.RemoveEpoch(100 + number)
		}
	})
	all.Wait()
	wantDrop(t, "afterwards", c.inbox, c.seal("x"), Accepted)
}

func TestDropsHaveNames(t *testing.T) {
	seen := make(map[string]bool)
	for d := range Drops {
		if name := d.String(); name == "unknown" || seen[name] {
			t.Errorf("drop %d is called %q", d, name)
		} else {
			seen[name] = true
		}
	}
	if got := Drops.String(); got != "unknown" {
		t.Errorf("got %q, want unknown", got)
	}
}
