package seal

import (
	"crypto/cipher"
	"sync"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// A Receiver opens the datagrams of one peer in one epoch, each once. It does so
// inside an Inbox, which finds the right one.
type Receiver struct {
	cluster    [32]byte
	epoch      uint64
	self, peer Party
	hint       [wire.HintSize]byte

	mu     sync.Mutex
	window window
	chain  chain
	keys   [generations]cipher.AEAD // by generation; nil: not made yet, or of no more use
}

// NewReceiver makes the receiver at self for what peer's Sender seals, from the
// same arguments.
func NewReceiver(shared []byte, secret EpochSecret, cluster [32]byte, epoch uint64, self, peer Party) (*Receiver, error) {
	r := &Receiver{cluster: cluster, epoch: epoch, self: self, peer: peer}
	var err error
	if r.chain, r.hint, err = newChain(shared, secret, cluster, epoch, peer, self); err != nil {
		return nil, err
	}
	r.keys[0], err = r.chain.next()
	return r, err
}

// keyLocked returns the key of a counter below wire.StopAfter that the window
// allows, nil if there is none. It makes generations that are new: any member can
// claim a counter of the last one, so none is given up for a claim.
func (r *Receiver) keyLocked(counter uint64) cipher.AEAD {
	for r.chain.made <= generationOf(counter) {
		key, err := r.chain.next()
		if err != nil {
			return nil // the cipher refuses its own key length: it never does
		}
		r.keys[r.chain.made-1] = key
	}
	return r.keys[generationOf(counter)]
}

// markLocked notes a counter whose datagram has opened. The window is far shorter
// than a generation: of those before the one before, nothing opens any more.
func (r *Receiver) markLocked(counter uint64) {
	r.window.mark(counter)
	if g := generationOf(counter); g > 1 {
		clear(r.keys[:g-1])
	}
}

// open opens a datagram whose door gave counter. The payload is in scratch. From
// the check of the window to its mark the lock is held: of two copies that are
// opened at once, one is late.
func (r *Receiver) open(scratch *scratch, datagram []byte, counter uint64) ([]byte, Drop) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if counter >= wire.StopAfter || !r.window.check(counter) {
		return nil, DropReplay
	}
	door, sealed := datagram[:wire.DoorSize], datagram[wire.DoorSize:]
	putNonce(&scratch.nonce, counter)
	key := r.keyLocked(counter)
	if key == nil {
		return nil, DropSeal
	}
	plaintext, err := key.Open(scratch.plaintext[:0], scratch.nonce[:], sealed, door)
	if err != nil {
		return nil, DropSeal
	}
	r.markLocked(counter)
	payload, ok := wire.ParsePlaintext(plaintext)
	if !ok {
		return nil, DropPlaintext
	}
	return payload, Accepted
}

// scratch is the memory that opening one datagram takes. It is used again, so
// that what is dropped costs none.
type scratch struct {
	plaintext [wire.MaxDatagram]byte // first, so that whole blocks are written to whole lines of the cache
	door      [wire.DoorSize]byte
	nonce     [nonceSize]byte
}
