package transport

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/seal"
)

// session is one start of one peer: the keys with it, and what its packets tell
// about it.
type session struct {
	peer    atomic.Pointer[guard.Peer]
	seen    atomic.Pointer[netip.AddrPort] // where an authenticated packet or stream last came from or went
	epoch   atomic.Uint64                  // the epoch it last sealed with
	sending atomic.Pointer[seal.Sender]    // in the primary epoch; nil: none yet

	// Under sessions.mu.
	party   seal.Party
	shared  []byte // X25519 with the peer
	senders map[uint64]*seal.Sender
}

// heard notes an authenticated packet. The peer is followed to wherever that came
// from: a recorded one cannot mislead us, because it does not open again.
func (p *session) heard(from netip.AddrPort, epoch uint64) {
	at := netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	if seen := p.seen.Load(); seen == nil || *seen != at {
		p.seen.Store(&at)
	}
	p.epoch.Store(epoch)
}

// follow takes a newer record of the peer. When it names other endpoints than
// the one before, the peer has moved, and where it was seen says nothing.
func (p *session) follow(peer *guard.Peer) {
	before := p.peer.Swap(peer)
	if !slices.Equal(before.Record.Endpoints, peer.Record.Endpoints) {
		p.seen.Store(nil)
	}
}

// wipe forgets the keys.
func (p *session) wipe() {
	p.sending.Store(nil)
	clear(p.shared)
}

// wayTo returns what a packet to a peer is sealed with and where it goes.
func (s *sessions) wayTo(peer *guard.Peer) (*seal.Sender, netip.AddrPort, error) {
	p := s.get(peer.Name)
	if p == nil {
		return nil, netip.AddrPort{}, errNoKeys
	}
	sender := p.sending.Load()
	if sender == nil {
		return nil, netip.AddrPort{}, errNoKeys
	}
	if seen := p.seen.Load(); seen != nil {
		return sender, *seen, nil
	}
	return sender, peer.Record.Endpoints[0], nil // a record has at least one
}

// reached notes where a peer answered.
func (s *sessions) reached(peer *guard.Peer, at netip.AddrPort) {
	if p := s.get(peer.Name); p != nil {
		p.seen.Store(&at)
	}
}

// endpoints lists where a peer may be reached: where it was last, then what its
// record says.
func (s *sessions) endpoints(peer *guard.Peer) []netip.AddrPort {
	all := slices.Clone(peer.Record.Endpoints)
	p := s.get(peer.Name)
	if p == nil {
		return all
	}
	if seen := p.seen.Load(); seen != nil {
		all = slices.DeleteFunc(all, func(a netip.AddrPort) bool { return a == *seen })
		all = slices.Insert(all, 0, *seen)
	}
	return all
}
