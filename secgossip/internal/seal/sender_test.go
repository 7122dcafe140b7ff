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

func TestSenderStopsBeforeItsCountersRunOut(t *testing.T) {
	c := newConversation(t)
	c.sender.counter = wire.RekeyAfter - 1
	if c.sender.NeedsRekey() {
		t.Error("wants another epoch a datagram early")
	}
	c.seal("the last before")
	if !c.sender.NeedsRekey() {
		t.Error("does not want another epoch")
	}

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
	for _, packet := range []wire.PacketType{0, 5} {
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
	key, _ := c.reference().trafficKeyAndHint()
	receiver := c.receiverOf(c.alice)
	for _, value := range []any{c.sender, receiver, c.inbox, *c.inbox.epochs.Load()} {
		encoded, _ := json.Marshal(value) // an inbox has none, and an error is as good
		text := fmt.Sprintf("%v %+v %#v %x %s", value, value, value, value, encoded)
		for _, secret := range [][]byte{key, c.reference().doorKey(), c.shared[:], c.secret[:]} {
			decimal := strings.Trim(fmt.Sprint(secret[:8]), "[]")
			if strings.Contains(text, hex.EncodeToString(secret[:8])) || strings.Contains(text, decimal) {
				t.Errorf("%T prints a key: %s", value, text)
			}
		}
	}
}
