package seal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Threat N11: one key seals 2^30 datagrams and the next goes on where it ended.
func TestEveryGenerationHasAKeyOfItsOwn(t *testing.T) {
	c := newConversation(t)
	r := c.reference()
	seen := make(map[string]bool)
	for g := range uint64(4) {
		for _, counter := range []uint64{g << 30, (g+1)<<30 - 1} {
			c.sender.counter = counter
			got := c.seal("x")
			if want := r.datagram(1, counter, padded([]byte("x"))); !bytes.Equal(got, want) {
				t.Errorf("counter %d: got %x, want %x", counter, got, want)
			}
			wantDrop(t, fmt.Sprint(counter), c.inbox, got, Accepted)
			wantDrop(t, fmt.Sprint(counter, " again"), c.inbox, got, DropReplay)
		}
		seen[string(r.trafficKey(g<<30))] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d keys for 4 generations", len(seen))
	}
}

// Datagrams overtake each other also where the key changes.
func TestReorderingAcrossTheChangeOfKeysIsAccepted(t *testing.T) {
	c := newConversation(t)
	c.sender.counter = wire.RekeyAfter - 2
	datagrams := [][]byte{c.seal("0"), c.seal("1"), c.seal("2"), c.seal("3")}
	for _, i := range []int{3, 1, 2, 0} {
		wantDrop(t, fmt.Sprint(i), c.inbox, datagrams[i], Accepted)
	}
}

// A member has the door's key and can claim any counter. That must not cost the
// receiver the key it is using.
func TestClaimOfALaterGenerationCostsNoKey(t *testing.T) {
	c := newConversation(t)
	before := c.seal("before")
	forged := c.reference().datagram(1, 3<<30, padded([]byte("forged")))
	forged[len(forged)-1] ^= 1
	wantDrop(t, "the claim", c.inbox, forged, DropSeal)
	wantDrop(t, "what was sealed before it", c.inbox, before, Accepted)
	wantDrop(t, "what was sealed after it", c.inbox, c.seal("after"), Accepted)
}

// What a receiver keeps leads to no key of a generation that is over.
func TestKeysOfPastGenerationsAreGivenUp(t *testing.T) {
	c := newConversation(t)
	receiver := (*c.inbox.epochs.Load())[0].byKey[c.alice.Key].receiver
	first := c.reference().datagram(1, 5, padded([]byte("x")))
	c.sender.counter = 2 * wire.RekeyAfter
	wantDrop(t, "of the third generation", c.inbox, c.seal("x"), Accepted)
	if receiver.keys[0] != nil || receiver.keys[1] == nil || receiver.keys[2] == nil {
		t.Errorf("keys held: %t, %t, %t, want the last two", receiver.keys[0] != nil, receiver.keys[1] != nil, receiver.keys[2] != nil)
	}
	wantDrop(t, "of the first", c.inbox, first, DropReplay)
}

func TestSenderStopsBeforeItsCountersRunOut(t *testing.T) {
	c := newConversation(t)
	c.sender.counter = wire.StopAfter - 1
	wantDrop(t, "the last", c.inbox, c.seal("the last"), Accepted)
	for range 3 {
		got, err := c.sender.Seal([]byte("before"), wire.PacketGossip, []byte("one too many"))
		if !errors.Is(err, ErrExhausted) || string(got) != "before" {
			t.Errorf("after the last: got %q, %v, want dst unchanged and ErrExhausted", got, err)
		}
	}
}

func TestWhatCannotBeSealedUsesNoCounter(t *testing.T) {
	c := newConversation(t)
	if _, err := c.sender.Seal(nil, wire.PacketGossip, make([]byte, wire.MaxPayload+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: got %v, want ErrTooLarge", err)
	}
	for _, packet := range []wire.PacketType{0, 99} {
		if _, err := c.sender.Seal(nil, packet, nil); err == nil {
			t.Errorf("type %d: sealed", packet)
		}
	}
	if c.sender.counter != 0 {
		t.Errorf("counter is %d, want 0", c.sender.counter)
	}
}

func TestConcurrentSealsNeverShareANonce(t *testing.T) {
	c := newConversation(t)
	const workers, each = 4, 100
	datagrams := make(chan []byte, workers*each)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for range each {
				datagrams <- c.seal("x")
			}
		})
	}
	all.Wait()
	close(datagrams)
	for datagram := range datagrams {
		wantDrop(t, "each opens once", c.inbox, datagram, Accepted)
	}
	if c.sender.counter != workers*each {
		t.Errorf("counter is %d, want %d", c.sender.counter, workers*each)
	}
}

// Nothing on the wire is constant: equal payloads give datagrams without an
// equal block, and none has a readable part.
func TestEqualPayloadsShareNoBlock(t *testing.T) {
	c := newConversation(t)
	blocks := make(map[string]bool)
	for range 200 {
		datagram := c.seal(strings.Repeat("the same payload", 4))
		for block := range chunks(datagram, 16) {
			if blocks[string(block)] {
				t.Fatalf("block %x twice", block)
			}
			blocks[string(block)] = true
		}
	}
}

func chunks(b []byte, size int) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) >= size && yield(b[:size]) {
			b = b[size:]
		}
	}
}

func TestSealAppends(t *testing.T) {
	c := newConversation(t)
	got, err := c.sender.Seal([]byte("before"), wire.PacketGossip, []byte("x"))
	if err != nil || !bytes.HasPrefix(got, []byte("before")) {
		t.Fatalf("got %q, %v", got, err)
	}
	wantDrop(t, "what was appended", c.inbox, got[len("before"):], Accepted)
}

func TestKeysAreNotPrinted(t *testing.T) {
	c := newConversation(t)
	key := c.reference().trafficKey(0)
	chainSecret, _ := c.reference().secretAndHint()
	receiver := c.receiverOf(c.alice)
	for _, value := range []any{c.sender, receiver, c.inbox, *c.inbox.epochs.Load()} {
		encoded, _ := json.Marshal(value) // an inbox has none, and an error is as good
		text := fmt.Sprintf("%v %+v %#v %x %s", value, value, value, value, encoded)
		for _, secret := range [][]byte{key, chainSecret, c.sender.chain.secret[:], c.reference().doorKey(), c.shared[:], c.secret[:]} {
			decimal := strings.Trim(fmt.Sprint(secret[:8]), "[]")
			if strings.Contains(text, hex.EncodeToString(secret[:8])) || strings.Contains(text, decimal) {
				t.Errorf("%T prints a key: %s", value, text)
			}
		}
	}
}
