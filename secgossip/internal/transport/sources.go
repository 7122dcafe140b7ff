package transport

import (
	"net/netip"
	"sync"

	"github.com/secgossip/secgossip/internal/places"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
)

// sources knows where members are: what their signed records name, and where
// something authenticated of theirs last came from. It follows both as they come,
// so that whoever connects is looked up in one step. It holds as many nodes as
// the roster, each with at most wire.MaxEndpoints sources and the one seen.
//
// A member that lies can name the sources of strangers. They then share the
// reserve with members, at most strangersPerSource places for each.
type sources struct {
	mu      sync.Mutex
	members map[pki.Name]*whereabouts
	count   map[netip.Prefix]int // how often members name or use a source
}

type whereabouts struct {
	named []netip.Prefix
	seen  netip.Prefix // zero: nowhere yet
}

func newSources() *sources {
	return &sources{members: make(map[pki.Name]*whereabouts), count: make(map[netip.Prefix]int)}
}

// known reports whether a member is at a source.
func (s *sources) known(source netip.Prefix) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count[source] > 0
}

// named follows a new or changed record.
func (s *sources) named(peer *guard.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.ofLocked(peer.Name)
	for _, source := range at.named {
		s.lessLocked(source)
	}
	at.named = at.named[:0]
	for _, endpoint := range peer.Record.Endpoints {
		source := places.SourceOf(endpoint.Addr())
		at.named = append(at.named, source)
		s.count[source]++
	}
}

// seen notes where something authenticated came from.
func (s *sources) seen(name pki.Name, source netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.ofLocked(name)
	if at.seen == source {
		return
	}
	s.lessLocked(at.seen)
	at.seen = source
	s.count[source]++
}

func (s *sources) ofLocked(name pki.Name) *whereabouts {
	at := s.members[name]
	if at == nil {
		at = new(whereabouts)
		s.members[name] = at
	}
	return at
}

func (s *sources) lessLocked(source netip.Prefix) {
	if s.count[source]--; s.count[source] <= 0 {
		delete(s.count, source)
	}
}
