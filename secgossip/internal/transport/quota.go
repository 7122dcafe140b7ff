package transport

import (
	"net"
	"net/netip"
	"sync"
)

// quota bounds how much may be in use at once, in all and by one holder.
type quota[K comparable] struct {
	all, each int

	mu    sync.Mutex
	inUse int
	by    map[K]int
}

func newQuota[K comparable](all, each int) *quota[K] {
	return &quota[K]{all: all, each: each, by: make(map[K]int)}
}

// take reports whether holder may have one more, and gives it one.
func (q *quota[K]) take(holder K) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.inUse >= q.all || q.by[holder] >= q.each {
		return false
	}
	q.inUse++
	q.by[holder]++
	return true
}

// giveBack ends what one take allowed.
func (q *quota[K]) giveBack(holder K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inUse--
	if q.by[holder]--; q.by[holder] == 0 {
		delete(q.by, holder)
	}
}

// sourceOf is what a stranger is counted by: an IPv4 address, or the /64 of an
// IPv6 address, because one host has all of that.
func sourceOf(remote net.Addr) netip.Prefix {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{} // no source we know: all such share one
	}
	addr := tcp.AddrPort().Addr().Unmap()
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	source, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return source
}
