package secgossip

import (
	"context"
	"crypto/ed25519"
	"slices"
	"sync"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// follows are the events of which clients of this node want to know who has them.
type follows struct {
	mu      sync.Mutex
	open    map[journalKey][]*follow
	all     int
	clients sharing[[32]byte] // whose those are
}

// follow is one client that waits.
type follow struct {
	client  [32]byte
	waiting map[string]bool // the members that have not said so; guarded by follows.mu
	heard   chan string     // as much room as there are members
}

const (
	// maxFollows is how many events clients may follow at once, and followsOfOne how many
	// of them one client may.
	maxFollows   = 64
	followsOfOne = maxFollows * 3 / 4

	// receiptQueue bounds the packets about receipts that wait. Who asks asks again.
	receiptQueue = 1024

	// maxReceipts is how often one member is told in a second whether we have an event:
	// all that its clients may follow, four times.
	maxReceipts = 4 * maxFollows

	// askAgain is the first wait for a member's receipt, and doubles up to askAgainMax.
	askAgain    = 50 * time.Millisecond
	askAgainMax = time.Second
)

// receiptPacket is one packet about receipts.
type receiptPacket struct {
	from *guard.Peer
	kind wire.PacketType
	key  journalKey
}

// Follow waits until each live member that an event is for has said that it has the
// event, payload and all, and calls said with each of them as it comes, from this
// goroutine. It ends with ctx, with what said returns, when the event expires, or when all
// have; then it names those that have not said so, and those that the client named and
// that are not alive, ascending. The client must have signed the event. targets, which may
// be nil, is first told who is waited for.
//
// Threat C21: whoever has it says so itself, in a packet that is sealed with its own key
// and ours. Nobody says it for another.
func (n *Node) Follow(ctx context.Context, raw []byte, client ed25519.PublicKey, targets func([]string), said func(node string) error) (missing []string, err error) {
	event, err := n.config.Verifier.VerifyEvent(raw, n.now())
	if err != nil {
		return nil, err
	}
	if !client.Equal(ed25519.PublicKey(event.ClientKey[:])) {
		return nil, ErrNotYours
	}
	names, absent, err := n.targets(event.Nodes, event.isFor)
	if err != nil {
		return nil, err
	}
	// Who has not got it by then does not get it, and who had it forgets that.
	ctx, cancel := context.WithTimeout(ctx, event.Expires.Sub(n.now()))
	defer cancel()
	f := &follow{client: event.ClientKey, waiting: make(map[string]bool), heard: make(chan string, len(names))}
	for _, name := range names {
		f.waiting[name] = true
	}
	key := event.key()
	if !n.follows.add(key, f) {
		return nil, ErrBusy
	}
	defer n.follows.remove(key, f)
	if targets != nil {
		targets(names)
	}
	left := len(names)
	again, pause := time.NewTimer(0), askAgain
	defer again.Stop()
	for left > 0 && ctx.Err() == nil && n.ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-n.ctx.Done():
		case <-again.C:
			n.askReceipts(key, f)
			again.Reset(pause)
			pause = min(2*pause, askAgainMax)
		case name := <-f.heard:
			left--
			if err := said(name); err != nil {
				return nil, err
			}
		}
	}
	n.follows.mu.Lock()
	defer n.follows.mu.Unlock()
	for name := range f.waiting {
		absent = append(absent, name)
	}
	slices.Sort(absent)
	return absent, nil
}

// askReceipts asks whoever has not said yet.
func (n *Node) askReceipts(key journalKey, f *follow) {
	n.follows.mu.Lock()
	var names []string
	for name := range f.waiting {
		names = append(names, name)
	}
	n.follows.mu.Unlock()
	for _, name := range names {
		if name == string(n.config.Identity.Name) {
			if n.journal.has(key) {
				n.follows.hear(key, name)
			}
			continue
		}
		if peer := n.roster.Get(pki.Name(name)); peer != nil {
			_ = n.transport.Send(peer, wire.PacketAskReceipt, wire.Receipt{Event: key}.Append(nil)) // it is asked again
		}
	}
}

func (f *follows) add(key journalKey, one *follow) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	// Threat C10: one client, whatever it follows, leaves places for others.
	if f.all >= maxFollows || !f.clients.take(one.client, followsOfOne) {
		return false
	}
	f.all++
	f.open[key] = append(f.open[key], one)
	return true
}

func (f *follows) remove(key journalKey, one *follow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all--
	f.clients.give(one.client)
	f.open[key] = slices.DeleteFunc(f.open[key], func(other *follow) bool { return other == one })
	if len(f.open[key]) == 0 {
		delete(f.open, key)
	}
}

// hear notes that a member has an event, for whoever waits for that.
func (f *follows) hear(key journalKey, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.open[key] {
		if one.waiting[name] {
			delete(one.waiting, name)
			one.heard <- name
		}
	}
}

// receiveReceipt takes a packet about a receipt. It runs where packets are received: it
// only queues.
func (n *Node) receiveReceipt(from *guard.Peer, kind wire.PacketType, payload []byte) {
	r, err := wire.ParseReceipt(payload)
	if err != nil {
		return // the transport has parsed it, and counted what does not parse
	}
	select {
	case n.receipts <- receiptPacket{from, kind, r.Event}:
	default:
		n.counts.receiptsDropped.Add(1)
	}
}

// receiptLoop says what we have to members that ask, and hears what they have.
func (n *Node) receiptLoop() {
	told := make(map[pki.Name]int) // in this second
	var begun time.Time
	for {
		select {
		case <-n.ctx.Done():
			return
		case r := <-n.receipts:
			if r.kind == wire.PacketReceipt {
				n.follows.hear(r.key, string(r.from.Name))
				continue
			}
			if now := time.Now(); now.Sub(begun) >= time.Second {
				begun = now
				clear(told)
			}
			// Threat C10: a member that asks without end is told so often and no more.
			if told[r.from.Name]++; told[r.from.Name] > maxReceipts {
				n.counts.receiptsDropped.Add(1)
			} else if n.journal.has(r.key) {
				_ = n.transport.Send(r.from, wire.PacketReceipt, wire.Receipt{Event: r.key}.Append(nil)) // it asks again
			}
		}
	}
}
