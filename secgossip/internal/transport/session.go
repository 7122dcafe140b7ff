package transport

import (
	"cmp"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/seal"
)

// session is one start of one peer: the keys with it, and the ways to it.
type session struct {
	peer    atomic.Pointer[guard.Peer]
	epoch   atomic.Uint64                  // the epoch it last sealed with
	sending atomic.Pointer[seal.Sender]    // in the primary epoch; nil: none yet
	source  atomic.Pointer[netip.AddrPort] // where its last authenticated datagram came from
	seen    atomic.Pointer[netip.AddrPort] // where it was last reached, or came from when that changed
	said    atomic.Pointer[said]           // how far it said it is, and when last; nil: not yet
	clock   atomic.Pointer[reading]        // its clock; nil: not read yet
	last    atomic.Int64                   // when its last packet came, in nanoseconds since Transport.begun; 0: none did
	path    path
	carrier carrier

	// out says that the peer's credential does not hold any more, or that another
	// start of it has a session: nothing goes to it, nothing is taken from it. Its
	// keys and windows stay as they are until they are dropped.
	out atomic.Bool

	// Under sessions.mu.
	party   seal.Party
	shared  []byte // X25519 with the peer
	senders map[uint64]*seal.Sender
}

// heard notes an authenticated datagram. When the peer's datagrams come from
// somewhere else than before, it has moved and is followed: a recorded one cannot
// mislead us, because it does not open again.
func (p *session) heard(from netip.AddrPort, epoch uint64) {
	at := netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	if source := p.source.Load(); source == nil || *source != at {
		p.source.Store(&at)
		p.move(at)
	}
	p.epoch.Store(epoch)
}

// move notes that the peer is at an endpoint. Whether datagrams get there is to be
// found out.
func (p *session) move(at netip.AddrPort) {
	if seen := p.seen.Swap(&at); seen == nil || *seen != at {
		p.path.renew()
	}
}

// said is what a peer said about itself, and when.
type said struct {
	State
	at time.Time
}

// synced notes how far the peer says that it is; of two words, which may come in any
// order, the one that is further. It may be the only word of the epoch that it seals
// with: what is carried is sealed by TLS.
func (p *session) synced(state State) {
	for {
		before := p.said.Load()
		now := &said{state, time.Now()}
		if before != nil && before.after(state) {
			now.State = before.State
		}
		if p.said.CompareAndSwap(before, now) {
			break
		}
	}
	if state.Primary > p.epoch.Load() {
		p.epoch.Store(state.Primary)
	}
}

// after reports whether a node says s later than before: epochs only rise.
func (s State) after(before State) bool {
	return cmp.Or(cmp.Compare(s.Primary, before.Primary), cmp.Compare(s.Highest, before.Highest), cmp.Compare(s.Lowest, before.Lowest), cmp.Compare(s.Sealed, before.Sealed)) > 0
}

// follow takes a newer record of the peer. When it names other endpoints than
// the one before, the peer has moved, and where it was seen says nothing.
func (p *session) follow(peer *guard.Peer) {
	before := p.peer.Swap(peer)
	if !slices.Equal(before.Record.Endpoints, peer.Record.Endpoints) {
		p.source.Store(nil)
		p.seen.Store(nil)
		p.path.renew()
		p.carrier.hangUp()
	}
}

// wipe forgets the keys.
func (p *session) wipe() {
	p.sending.Store(nil)
	clear(p.shared)
}

// endpointsOf lists where a peer may be: where it was last, where its datagrams
// come from, then what its record says.
func (s *sessions) endpointsOf(p *session) []netip.AddrPort {
	record := p.peer.Load().Record
	all := make([]netip.AddrPort, 0, 2+len(record.Endpoints))
	for _, at := range []*netip.AddrPort{p.seen.Load(), p.source.Load()} {
		if at != nil && !slices.Contains(all, *at) {
			all = append(all, *at)
		}
	}
	for _, at := range record.Endpoints {
		if s.meansAnother(at) && !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return all
}

// reachable lists those of them that datagrams of ours can get to.
func (s *sessions) reachable(p *session) []netip.AddrPort {
	return slices.DeleteFunc(s.endpointsOf(p), func(at netip.AddrPort) bool { return !s.reaches(at) })
}

// wayTo is the first of those: where datagrams go. It is false if there is none.
func (s *sessions) wayTo(p *session) (netip.AddrPort, bool) {
	if seen := p.seen.Load(); seen != nil && s.reaches(*seen) {
		return *seen, true // as nearly always, and without allocation
	}
	if all := s.reachable(p); len(all) > 0 {
		return all[0], true
	}
	return netip.AddrPort{}, false
}

// reaches reports whether a socket of ours can send to an endpoint: it is of one
// family or of both.
func (s *sessions) reaches(at netip.AddrPort) bool {
	bound := s.config.Bind.Addr()
	if bound.Is6() && bound.IsUnspecified() {
		return true
	}
	return bound.Is4() == at.Addr().Is4()
}

// meansAnother reports whether an endpoint in somebody's record leads to them. One
// of our own leads to us, whoever else has the same on a network of its own; and so
// does a loopback address, unless all of us are on this host.
func (s *sessions) meansAnother(at netip.AddrPort) bool {
	self := s.config.Roster.Get(s.config.Self)
	if self == nil {
		return !at.Addr().IsLoopback()
	}
	if slices.Contains(self.Record.Endpoints, at) {
		return false
	}
	return !at.Addr().IsLoopback() || self.Record.Endpoints[0].Addr().IsLoopback() // a record has none of them or no others
}

// reached notes where a peer was dialled. What datagrams have proved counts more.
func (s *sessions) reached(peer *guard.Peer, at netip.AddrPort) {
	if p := s.get(peer.Name); p != nil && (p.seen.Load() == nil || !p.path.isKnown()) {
		p.move(at)
	}
}

// endpoints lists where a peer may be dialled.
func (s *sessions) endpoints(peer *guard.Peer) []netip.AddrPort {
	if p := s.get(peer.Name); p != nil {
		return s.endpointsOf(p)
	}
	return slices.DeleteFunc(slices.Clone(peer.Record.Endpoints), func(at netip.AddrPort) bool { return !s.meansAnother(at) })
}
