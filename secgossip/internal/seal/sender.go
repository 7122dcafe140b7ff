package seal

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Why nothing was sealed.
var (
	// ErrTooLarge says that a payload has more than wire.MaxPayload bytes.
	ErrTooLarge = wire.ErrTooLarge
	// ErrExhausted says that wire.StopAfter datagrams were sealed. There are no
	// more counters; another epoch is needed.
	ErrExhausted = errors.New("traffic key is exhausted")
)

// A Sender seals datagrams to one peer in one epoch. It is safe for concurrent
// use.
//
// There must be only one for its arguments, ever: a second one would begin at
// counter zero again and use every nonce twice, which gives AES-GCM away. So keep
// it as long as the epoch is held, also while the peer is away, and make another
// only for another boot nonce or epoch. An Inbox that refuses an epoch with
// ErrEpochSpent says that no Sender may be made for it either. Across restarts
// our own boot nonce sees to it. Protocol 4.5 and 4.8.
type Sender struct {
	door cipher.Block
	hint [wire.HintSize]byte

	mu      sync.Mutex
	chain   chain
	aead    cipher.AEAD     // of the newest generation made
	counter uint64          // of the next datagram
	nonce   [nonceSize]byte // here because the cipher would make a local one escape
}

// NewSender makes the sender from self to peer. shared is the X25519 agreement
// of the two, 32 bytes; it is not kept.
func NewSender(shared []byte, secret EpochSecret, cluster [32]byte, epoch uint64, self, peer Party) (*Sender, error) {
	door, err := doorCipher(secret, cluster, epoch, peer.Key)
	if err != nil {
		return nil, err
	}
	s := &Sender{door: door}
	if s.chain, s.hint, err = newChain(shared, secret, cluster, epoch, self, peer); err != nil {
		return nil, err
	}
	s.aead, err = s.chain.next()
	return s, err
}

// Seal appends one datagram to dst, wire.DatagramSize(len(payload)) bytes, and
// allocates only if dst has no room for it. payload must not be in that room.
// The error is ErrTooLarge or ErrExhausted; dst is then as it was.
func (s *Sender) Seal(dst []byte, packet wire.PacketType, payload []byte) ([]byte, error) {
	if !packet.Known() {
		return dst, fmt.Errorf("unknown packet type %d", packet)
	}
	if len(payload) > wire.MaxPayload {
		return dst, ErrTooLarge
	}
	out := slices.Grow(dst, wire.DatagramSize(len(payload)))
	out = out[:len(dst)+wire.DoorSize]
	out, err := wire.AppendPlaintext(out, payload)
	if err != nil {
		return dst, err
	}
	door := out[len(dst) : len(dst)+wire.DoorSize]
	plaintext := out[len(dst)+wire.DoorSize:]

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counter >= wire.StopAfter {
		return dst, ErrExhausted
	}
	for s.chain.made <= generationOf(s.counter) { // threat N11: the key changes, the counter goes on
		if s.aead, err = s.chain.next(); err != nil {
			return dst, err
		}
	}
	wire.Door{Type: packet, Hint: s.hint, Counter: s.counter}.Put((*[wire.DoorSize]byte)(door))
	s.door.Encrypt(door, door)
	putNonce(&s.nonce, s.counter)
	s.counter++
	return s.aead.Seal(out[:len(dst)+wire.DoorSize], s.nonce[:], plaintext, door), nil
}

// Sealed returns the number of datagrams sealed so far.
func (s *Sender) Sealed() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counter
}
