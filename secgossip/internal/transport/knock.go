package transport

import (
	"crypto/rand"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// knock makes a knock for whoever is dialled: the node of that name, or with no
// name whoever is at the endpoint. It bears the time that the listener's clock shows,
// as far as that was read: a host whose clock is wrong is reached all the same. A
// listener that lies about its clock gets a knock that only itself can be opened with.
func (t *Transport) knock(want pki.Name, endpoint netip.AddrPort, clock *reading) wire.Knock {
	now := t.config.ClusterTime()
	if clock != nil {
		now = clock.now()
	}
	target := wire.EndpointTarget(endpoint)
	if want != "" {
		target = wire.NodeTarget(string(want))
	}
	var random [8]byte
	rand.Read(random[:])
	return wire.MakeKnock(t.config.Knock, t.config.Trust.Cluster(), target, now, random)
}

// targets is what a knock that came to the address local may be for: this node,
// that address, or one that this node tells others it is at. Behind port mapping
// only the last is what a dialler knows.
func (t *Transport) targets(local net.Addr) []wire.Target {
	all := []wire.Target{wire.NodeTarget(string(t.config.Self))}
	if tcp, ok := local.(*net.TCPAddr); ok {
		all = append(all, wire.EndpointTarget(tcp.AddrPort()))
	}
	if self := t.config.Roster.Get(t.config.Self); self != nil {
		for _, endpoint := range self.Record.Endpoints {
			all = append(all, wire.EndpointTarget(endpoint))
		}
	}
	return all
}

// knockMemory remembers knocks that were accepted, for as long as their time
// stamp would be: a recorded knock opens nothing. It holds two generations of
// two tolerances each, so an entry lives at least as long as its knock is valid.
type knockMemory struct {
	mu       sync.Mutex
	current  map[wire.Knock]struct{}
	previous map[wire.Knock]struct{}
	turned   time.Time
}

// maxKnocks bounds a generation. Only holders of the knock key can fill it: the
// MAC is checked before.
const maxKnocks = 65_536

func newKnockMemory() *knockMemory {
	return &knockMemory{current: make(map[wire.Knock]struct{})}
}

// first reports whether the knock was not seen before, and remembers it.
func (m *knockMemory) first(knock wire.Knock, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	// A knock stays valid from its stamp minus to its stamp plus the tolerance:
	// two tolerances, which is what a generation lasts.
	if age := now.Sub(m.turned); age >= 2*wire.KnockTolerance {
		m.previous, m.current = m.current, make(map[wire.Knock]struct{})
		m.turned = now
	}
	if _, seen := m.current[knock]; seen {
		return false
	}
	if _, seen := m.previous[knock]; seen {
		return false
	}
	if len(m.current) >= maxKnocks {
		return false
	}
	m.current[knock] = struct{}{}
	return true
}
