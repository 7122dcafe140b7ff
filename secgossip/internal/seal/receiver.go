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
	aead       cipher.AEAD

	mu     sync.Mutex
	window window
}

// NewReceiver makes the receiver at self for what peer's Sender seals, from the
// same arguments.
func NewReceiver(shared []byte, secret EpochSecret, cluster [32]byte, epoch uint64, self, peer Party) (*Receiver, error) {
	aead, hint, err := trafficCipher(shared, secret, cluster, epoch, peer, self)
	if err != nil {
		return nil, err
	}
	return &Receiver{cluster: cluster, epoch: epoch, self: self, peer: peer, hint: hint, aead: aead}, nil
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
	plaintext, err := r.aead.Open(scratch.plaintext[:0], scratch.nonce[:], sealed, door)
	if err != nil {
		return nil, DropSeal
	}
	r.window.mark(counter)
	payload, ok := wire.ParsePlaintext(plaintext)
	if !ok {
		return nil, DropPlaintext
	}
	return payload, Accepted
}

// scratch is the memory that opening one datagram takes. It is used again, so
// that what is dropped costs none.
type scratch struct {
	door      [wire.DoorSize]byte
	nonce     [nonceSize]byte
	plaintext [wire.MaxDatagram]byte
}
