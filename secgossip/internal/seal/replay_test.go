package seal

import (
	"crypto/cipher"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

func TestReplayIsDropped(t *testing.T) {
	c := newConversation(t)
	datagram := c.seal("once")
	wantDrop(t, "first", c.inbox, datagram, Accepted)
	wantDrop(t, "second", c.inbox, datagram, DropReplay)
	wantDrop(t, "a later one", c.inbox, c.seal("next"), Accepted)
	wantDrop(t, "third", c.inbox, datagram, DropReplay)
}

// A replayed header in front of random bytes dies at the window, before AES-GCM.
func TestReplayedHeaderWithOtherBodyIsDroppedAtTheWindow(t *testing.T) {
	c := newConversation(t)
	opened := 0
	receiver := (*c.inbox.epochs.Load())[0].byKey[c.alice.Key].receiver
	receiver.keys[0] = countedAEAD{receiver.keys[0], &opened}

	datagram := c.seal("once")
	wantDrop(t, "first", c.inbox, datagram, Accepted)
	clear(datagram[wire.DoorSize:])
	wantDrop(t, "its door again", c.inbox, datagram, DropReplay)
	if opened != 1 {
		t.Errorf("AES-GCM ran %d times, want once", opened)
	}
}

type countedAEAD struct {
	cipher.AEAD
	opened *int
}

func (a countedAEAD) Open(dst, nonce, sealed, additional []byte) ([]byte, error) {
	*a.opened++
	return a.AEAD.Open(dst, nonce, sealed, additional)
}

func TestReorderingWithinTheWindowIsAccepted(t *testing.T) {
	c := newConversation(t)
	var datagrams [][]byte
	for i := range 500 {
		datagrams = append(datagrams, c.seal(fmt.Sprint(i)))
	}
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(len(datagrams), func(i, j int) { datagrams[i], datagrams[j] = datagrams[j], datagrams[i] })
	for i, datagram := range datagrams {
		wantDrop(t, fmt.Sprintf("datagram %d", i), c.inbox, datagram, Accepted)
	}
	for i, datagram := range datagrams {
		wantDrop(t, fmt.Sprintf("datagram %d again", i), c.inbox, datagram, DropReplay)
	}
}

func TestDatagramBehindTheWindowIsDropped(t *testing.T) {
	c := newConversation(t)
	outside, inside := c.seal("0"), c.seal("1")
	for range wire.ReplayWindow - 2 {
		c.seal("")
	}
	wantDrop(t, "the newest", c.inbox, c.seal("newest"), Accepted) // counter 8,192
	wantDrop(t, "8,192 behind it", c.inbox, outside, DropReplay)
	wantDrop(t, "8,191 behind it", c.inbox, inside, Accepted)
}

func TestCopiesOpenedAtOnceAreAcceptedOnce(t *testing.T) {
	c := newConversation(t)
	for range 50 {
		datagram := c.seal("once")
		var accepted atomic.Int32
		var copies sync.WaitGroup
		for range 8 {
			copies.Go(func() {
				if _, drop := c.inbox.Open(datagram, nil); drop == Accepted {
					accepted.Add(1)
				}
			})
		}
		copies.Wait()
		if got := accepted.Load(); got != 1 {
			t.Errorf("accepted %d times, want once", got)
		}
	}
}

// bob restarts: his boot nonce is new, his windows are empty, and alice's
// counters start at zero again towards him.
func TestReplayToRestartedReceiverIsDropped(t *testing.T) {
	c := newConversation(t)
	seen, unseen := c.seal("seen"), c.seal("recorded on the way")
	wantDrop(t, "before", c.inbox, seen, Accepted)

	restarted := newConversation(t, func(c *conversation) { c.bob = party(0xb1, 0xbb) })
	wantDrop(t, "seen before", restarted.inbox, seen, DropSender)
	wantDrop(t, "recorded before", restarted.inbox, unseen, DropSender)
	wantDrop(t, "sealed for him as he is now", restarted.inbox, restarted.seal("now"), Accepted)
}

func TestReplayFromRestartedSenderIsDropped(t *testing.T) {
	c := newConversation(t)
	seen, unseen := c.seal("seen"), c.seal("recorded on the way")
	wantDrop(t, "before", c.inbox, seen, Accepted)

	c.alice.Boot = filled[[16]byte](0xaa)
	if err := c.inbox.AddPeer(c.receiverOf(c.alice), "alice"); err != nil {
		t.Fatal(err)
	}
	wantDrop(t, "seen before", c.inbox, seen, DropSender)
	wantDrop(t, "recorded before", c.inbox, unseen, DropSender)
	c.sender = c.senderTo(c.bob)
	wantDrop(t, "sealed by her as she is now", c.inbox, c.seal("now"), Accepted)
}

// The record with the new boot nonce reaches bob while he holds several epochs.
func TestRestartOfTheSenderCountsInAllEpochs(t *testing.T) {
	c := newConversation(t)
	before := c.seal("in epoch 7")
	c.epoch = 8
	c.alice.Boot = filled[[16]byte](0xaa)
	if err := c.inbox.AddEpoch(8, c.secret); err != nil {
		t.Fatal(err)
	}
	if err := c.inbox.AddPeer(c.receiverOf(c.alice), "alice"); err != nil {
		t.Fatal(err)
	}
	wantDrop(t, "recorded before, in the other epoch", c.inbox, before, DropSender)
}

func TestReplayIntoAnotherPlaceIsDropped(t *testing.T) {
	datagram := newConversation(t).seal("for bob, epoch 7")
	for _, test := range []struct {
		name   string
		change func(*conversation)
		want   Drop
	}{
		{"another epoch secret", func(c *conversation) { c.secret = filled[plainSecret](0xdd) }, DropDoor},
		{"another number of the same secret", func(c *conversation) { c.epoch = 8 }, DropDoor},
		{"another cluster of the same secret", func(c *conversation) { c.cluster = filled[[32]byte](0xc2) }, DropDoor},
		{"another receiver", func(c *conversation) { c.bob = party(0xd1, 0xb0) }, DropDoor},
		{"another agreement", func(c *conversation) { c.shared = filled[[32]byte](0x56) }, DropSender},
		{"another sender", func(c *conversation) { c.alice = party(0xd1, 0xa0) }, DropSender},
		{"the same place", func(*conversation) {}, Accepted},
	} {
		wantDrop(t, test.name, newConversation(t, test.change).inbox, datagram, test.want)
	}
}

// Back to who sealed it, who has a receiver for bob.
func TestReflectedDatagramIsDropped(t *testing.T) {
	c := newConversation(t)
	datagram := c.seal("for bob")
	alices := NewInbox[string](c.cluster, c.alice)
	if err := alices.AddEpoch(c.epoch, c.secret); err != nil {
		t.Fatal(err)
	}
	r, err := NewReceiver(c.shared[:], c.secret, c.cluster, c.epoch, c.alice, c.bob)
	if err != nil {
		t.Fatal(err)
	}
	if err := alices.AddPeer(r, "bob"); err != nil {
		t.Fatal(err)
	}
	wantDrop(t, "reflected", alices, datagram, DropDoor)
}

// Threat K01: who has the epoch secret, but neither agreement key, makes doors
// that open and nothing behind them.
func TestEpochSecretAloneSealsNothing(t *testing.T) {
	c := newConversation(t)
	r := c.reference()
	_, hint := r.secretAndHint() // as if read from a recorded door
	r.shared = [32]byte{}
	forged := r.datagram(1, 0, padded([]byte("forged")))
	wantDrop(t, "with a hint of its own", c.inbox, forged, DropSender)

	door := append([]byte{1}, hint...)
	door = append(door, make([]byte, 9)...)
	mustAES(r.doorKey()).Encrypt(forged, door)
	wantDrop(t, "with alice's hint", c.inbox, forged, DropSeal)
}
