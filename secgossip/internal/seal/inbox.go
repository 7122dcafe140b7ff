package seal

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Why an epoch or a peer was not added.
var (
	// ErrEpochKnown says that an epoch of this number is held.
	ErrEpochKnown = errors.New("epoch is already held")
	// ErrEpochUnknown says that no epoch of this number is held.
	ErrEpochUnknown = errors.New("epoch is not held")
	// ErrEpochSpent says that the epoch was held and removed. Its windows are
	// gone, and whatever was recorded in it would open once more.
	ErrEpochSpent = errors.New("epoch was removed before")
	// ErrTooManyEpochs says that wire.MaxEpochs are held.
	ErrTooManyEpochs = errors.New("too many epochs held")
	// ErrForeignReceiver says that a receiver was made for another node,
	// another start of this one, or another cluster.
	ErrForeignReceiver = errors.New("receiver does not belong to this inbox")
)

// An Inbox is the receiving side of a node: it finds out who sealed a datagram
// and opens it. P is what the caller knows its peers by. It is safe for
// concurrent use, and meant for a reader that never waits for a change.
type Inbox[P any] struct {
	cluster [32]byte
	self    Party

	epochs  atomic.Pointer[[]*heldEpoch[P]] // newest first; never changed, only replaced
	spare   atomic.Pointer[scratch]         // for one reader: a third cheaper to take than from a pool
	scratch sync.Pool                       // of *scratch, for whoever finds none

	mu    sync.Mutex // for changes; Open does not take it
	spent spentEpochs
}

// Opened is an accepted datagram.
type Opened[P any] struct {
	Peer    P
	Epoch   uint64
	Type    wire.PacketType
	Payload []byte
}

// NewInbox makes an empty inbox for one start of a node.
func NewInbox[P any](cluster [32]byte, self Party) *Inbox[P] {
	in := &Inbox[P]{cluster: cluster, self: self}
	in.epochs.Store(new([]*heldEpoch[P]))
	in.scratch.New = func() any { return new(scratch) }
	return in
}

// Open opens a datagram and appends its payload to dst; Opened.Payload is the
// part appended. It reads datagram only, and keeps none of it.
//
// What a stranger sends costs a comparison when its length is wrong and one AES
// block per epoch otherwise, no lock and no allocation. Nothing is allocated
// for any drop. Protocol 4.6.
func (in *Inbox[P]) Open(datagram, dst []byte) (opened Opened[P], drop Drop) {
	if len(datagram) < wire.MinDatagram || len(datagram) > wire.MaxDatagram || len(datagram)%wire.DatagramStep != 0 {
		return opened, DropSize
	}
	scratch := in.take()
	drop = DropDoor
	if epoch, door := in.tryDoors(scratch, datagram); epoch != nil {
		opened, drop = epoch.open(scratch, door, datagram, dst)
	}
	in.giveBack(scratch)
	return opened, drop
}

// take returns memory for one datagram. The node has one reader, as a rule, and
// that one always finds the spare.
func (in *Inbox[P]) take() *scratch {
	if s := in.spare.Swap(nil); s != nil {
		return s
	}
	return in.scratch.Get().(*scratch)
}

func (in *Inbox[P]) giveBack(s *scratch) {
	if !in.spare.CompareAndSwap(nil, s) {
		in.scratch.Put(s)
	}
}

// tryDoors finds the epoch whose door a datagram opens, nil for none.
//
// The door of one epoch opens by accident to one datagram of another in 2^37.
// Losing that one is no worse than what networks do.
func (in *Inbox[P]) tryDoors(scratch *scratch, datagram []byte) (*heldEpoch[P], wire.Door) {
	for _, epoch := range *in.epochs.Load() {
		epoch.door.Decrypt(scratch.door[:], datagram[:wire.DoorSize])
		if door, ok := wire.ParseDoor(&scratch.door); ok {
			return epoch, door
		}
	}
	return nil, wire.Door{}
}

// AddEpoch adds an epoch without any peer. The secret is not kept.
func (in *Inbox[P]) AddEpoch(number uint64, secret EpochSecret) error {
	door, err := doorCipher(secret, in.cluster, number, in.self.Key)
	if err != nil {
		return err
	}
	epoch := newHeldEpoch[P](number, door)

	in.mu.Lock()
	defer in.mu.Unlock()
	held := *in.epochs.Load()
	switch {
	case in.findLocked(number) != nil:
		return ErrEpochKnown
	case in.spent.has(number, epoch.fingerprint):
		return ErrEpochSpent
	case len(held) >= wire.MaxEpochs:
		return ErrTooManyEpochs
	}
	held = append(slices.Clone(held), epoch)
	slices.SortFunc(held, func(a, b *heldEpoch[P]) int { // newest first
		if a.number > b.number {
			return -1
		}
		return 1
	})
	in.epochs.Store(&held)
	return nil
}

// RemoveEpoch forgets an epoch with all its receivers. It cannot be added again.
func (in *Inbox[P]) RemoveEpoch(number uint64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	epoch := in.findLocked(number)
	if epoch == nil {
		return
	}
	held := slices.DeleteFunc(slices.Clone(*in.epochs.Load()), func(e *heldEpoch[P]) bool { return e == epoch })
	in.epochs.Store(&held)
	in.spent.add(number, epoch.fingerprint)
}

// AddPeer adds the receiver of a peer in one epoch. Open reports its datagrams
// as handle's.
//
// When the peer has restarted, its receivers from before go, in all epochs: what
// was sealed then opens no more. When it has not, and the inbox had a receiver
// for it in this epoch, even one removed since, that one stays with its window:
// a new one would accept everything again.
func (in *Inbox[P]) AddPeer(r *Receiver, handle P) error {
	if r.cluster != in.cluster || r.self != in.self {
		return ErrForeignReceiver
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	target := in.findLocked(r.epoch)
	if target == nil {
		return ErrEpochUnknown
	}
	for _, epoch := range *in.epochs.Load() {
		epoch.forgetEarlier(r.peer)
	}
	target.add(r, handle)
	return nil
}

// RemovePeer stops accepting what the node with this key sends, in all epochs.
func (in *Inbox[P]) RemovePeer(key [32]byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, epoch := range *in.epochs.Load() {
		epoch.silence(key)
	}
}

func (in *Inbox[P]) findLocked(number uint64) *heldEpoch[P] {
	for _, epoch := range *in.epochs.Load() {
		if epoch.number == number {
			return epoch
		}
	}
	return nil
}
