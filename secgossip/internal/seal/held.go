package seal

import (
	"crypto/cipher"
	"slices"
	"sync"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// A heldEpoch is an epoch in an inbox: its door, and the peers behind it.
type heldEpoch[P any] struct {
	number      uint64
	door        cipher.Block
	fingerprint [wire.DoorSize]byte // tells this epoch from another of its number

	// The lock is for the maps only, and only those whose datagram opened the
	// door reach it. Copying the maps at each change instead would cost a
	// cluster of 4,096, which adds them all at each epoch, eight million steps.
	mu sync.RWMutex

	// byHint has more than one peer for a hint about once in 2^25 epochs of
	// the largest cluster. They are tried in turn: refusing the later one would
	// be a silence between two nodes that nobody could ever explain.
	byHint map[[wire.HintSize]byte][]*sendingPeer[P]

	// byKey also has the peers that were silenced, for the sake of their windows.
	byKey map[[32]byte]*sendingPeer[P]
}

// A sendingPeer is a receiver and what the caller knows its peer by. It is never
// changed, only replaced.
type sendingPeer[P any] struct {
	receiver *Receiver
	handle   P
}

func newHeldEpoch[P any](number uint64, door cipher.Block) *heldEpoch[P] {
	e := &heldEpoch[P]{
		number: number,
		door:   door,
		byHint: make(map[[wire.HintSize]byte][]*sendingPeer[P]),
		byKey:  make(map[[32]byte]*sendingPeer[P]),
	}
	// A block that no sender makes: its check bytes are not zero.
	fingerprinted := [wire.DoorSize]byte{15: 1}
	door.Encrypt(e.fingerprint[:], fingerprinted[:])
	return e
}

// open opens a datagram whose door was this epoch's.
func (e *heldEpoch[P]) open(scratch *scratch, door wire.Door, datagram, dst []byte) (Opened[P], Drop) {
	e.mu.RLock()
	peers := e.byHint[door.Hint] // what is in the slice never changes
	e.mu.RUnlock()

	drop := DropSender
	for _, peer := range peers {
		var payload []byte
		payload, drop = peer.receiver.open(scratch, datagram, door.Counter)
		if drop == Accepted {
			dst = append(dst, payload...)
			payload = dst[len(dst)-len(payload):]
			return Opened[P]{Peer: peer.handle, Epoch: e.number, Type: door.Type, Payload: payload}, Accepted
		}
	}
	return Opened[P]{}, drop
}

// add adds a peer that forgetEarlier has seen.
func (e *heldEpoch[P]) add(r *Receiver, handle P) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if old := e.byKey[r.peer.Key]; old != nil {
		e.unlistLocked(old)
		r = old.receiver
	}
	peer := &sendingPeer[P]{receiver: r, handle: handle}
	e.byKey[r.peer.Key] = peer
	e.byHint[r.hint] = append(e.byHint[r.hint], peer)
}

// forgetEarlier forgets the receiver of the same node with another boot nonce.
// Its window is of no more use: the node's record, whose sequence only grows,
// never brings the earlier nonce back.
func (e *heldEpoch[P]) forgetEarlier(peer Party) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if old := e.byKey[peer.Key]; old != nil && old.receiver.peer.Boot != peer.Boot {
		e.unlistLocked(old)
		delete(e.byKey, peer.Key)
	}
}

// silence makes the peer's hint unknown, and keeps its window.
func (e *heldEpoch[P]) silence(key [32]byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if old := e.byKey[key]; old != nil {
		e.unlistLocked(old)
	}
}

func (e *heldEpoch[P]) unlistLocked(peer *sendingPeer[P]) {
	hint := peer.receiver.hint
	rest := slices.DeleteFunc(slices.Clone(e.byHint[hint]), func(p *sendingPeer[P]) bool { return p == peer })
	if len(rest) == 0 {
		delete(e.byHint, hint)
	} else {
		e.byHint[hint] = rest
	}
}
