package places

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// SourceOf is the part of an address that one caller is sure to share: all of an
// IPv4 address, the first half of an IPv6 address, whose second half a host picks
// as it likes. No address gives the zero prefix, which is a source like any other.
func SourceOf(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap()
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	source, err := addr.Prefix(bits) // without the zone: an interface of ours
	if err != nil {
		return netip.Prefix{}
	}
	return source
}

// sourceOf is the source of a connection.
func sourceOf(remote net.Addr) netip.Prefix {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	return SourceOf(tcp.AddrPort().Addr())
}

// Recent remembers sources for one to two hours, and at most 2,048 of them: two
// generations of 1,024, with 100 bytes each. The zero value is ready.
type Recent struct {
	mu       sync.Mutex
	current  map[netip.Prefix]struct{}
	previous map[netip.Prefix]struct{}
	turned   time.Time
}

const (
	recentLife = time.Hour
	maxRecent  = 1024
)

// Add remembers a source from now on.
func (r *Recent) Add(source netip.Prefix, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turnLocked(now)
	if _, ok := r.current[source]; !ok && len(r.current) >= maxRecent {
		r.nextLocked(now)
	}
	r.current[source] = struct{}{}
}

// Has reports whether a source is remembered.
func (r *Recent) Has(source netip.Prefix, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turnLocked(now)
	if _, ok := r.current[source]; ok {
		return true
	}
	_, ok := r.previous[source]
	return ok
}

// turnLocked begins a new generation when the current one is old enough.
func (r *Recent) turnLocked(now time.Time) {
	switch age := now.Sub(r.turned); {
	case r.current == nil || age >= 2*recentLife:
		r.nextLocked(now)
		r.previous = nil
	case age >= recentLife:
		r.nextLocked(now)
	}
}

func (r *Recent) nextLocked(now time.Time) {
	r.previous, r.current, r.turned = r.current, make(map[netip.Prefix]struct{}), now
}
