package secgossip

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/transport"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Rotation by volume: the datagrams sealed in the epoch in use are counted over the
// whole cluster, and at a mark the next epoch is due. What others have sealed they say
// at the end of every sync. A member can say anything; what that leads to is bounded
// here, and nothing but the moment of a rotation hangs on it.

const (
	// volumeMark is how many datagrams all members together seal in one epoch: a
	// quarter of the budget of one sender towards one peer, which stops at
	// wire.StopAfter. Counted over all keys, as if they were one, it is as careful
	// as a count can be: no traffic key then even comes to its second generation.
	volumeMark = wire.StopAfter / 4

	// maxSealRate is how many datagrams a second one member can count for, since
	// the epoch began: 2^18 of the largest are 2.5 Gbit/s, more than the one socket
	// of an agent sends. A member that claims any number reaches the mark alone
	// after volumeMark / maxSealRate = 68 minutes.
	maxSealRate = 1 << 18

	// minVolumeAge is how old the epoch in use is before its volume counts, so that
	// however many members claim what they like, they do not keep the cluster busy.
	// By then no honest one has sealed 2^28 datagrams: minVolumeAge * maxSealRate.
	minVolumeAge = 10 * time.Minute

	// maxAge keeps the sum from overflowing: 2^18 * 2^26 s, of 2^12 members.
	maxAge = 1 << 26 * time.Second

	// A member that was not heard for unheardAfter is asked by the acting keeper,
	// askAtOnce of them every keepEvery: 1,920 in that time, and the 4,096 of the
	// largest cluster in twice as long. Small clusters hear each other anyway,
	// because memberlist has each node sync with another twice a minute.
	unheardAfter = 10 * time.Minute
	askAtOnce    = syncWorkers
)

// sealed is how many datagrams are known to be sealed in an epoch: by us, and by each
// live member as it last said, where that is about this epoch.
func (n *Node) sealed(number uint64, age time.Duration) uint64 {
	var said []uint64
	for _, p := range n.livePeers() {
		if state := n.transport.Seen(p).Said; state.Primary == number {
			said = append(said, state.Sealed)
		}
	}
	return countSealed(n.transport.Sealed(number), said, age)
}

// countSealed adds to our own datagrams what others say of theirs. It takes nobody's
// word for more than one member can have sealed in an epoch of that age.
func countSealed(own uint64, said []uint64, age time.Duration) uint64 {
	most := uint64(min(max(age, 0), maxAge)/time.Second) * maxSealRate
	for _, sealed := range said {
		own += min(sealed, most)
	}
	return own
}

// dueByVolume reports whether an epoch of that age has sealed its share.
func dueByVolume(sealed uint64, age time.Duration, mark uint64) bool {
	return age >= minVolumeAge && sealed >= mark
}

// hearSome asks a few of the live members that were not heard for so long.
func (n *Node) hearSome(ctx context.Context, long time.Duration) {
	var unheard []*guard.Peer
	for _, p := range n.livePeers() {
		if synced := n.transport.Seen(p).Synced; time.Since(synced) >= long {
			unheard = append(unheard, p)
		}
	}
	// In random order: those that do not answer must not keep the others waiting.
	rand.Shuffle(len(unheard), func(i, j int) { unheard[i], unheard[j] = unheard[j], unheard[i] })
	unheard = unheard[:min(len(unheard), askAtOnce)]
	n.syncAll(ctx, unheard, func(transport.State) bool { return true })
}
