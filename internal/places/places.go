package places

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// Limits says how many places a listener has.
type Limits struct {
	All      int // in all
	Each     int // for one source
	Reserved int // of All, for known sources only
}

// Places are the places of one listener.
type Places struct {
	limits Limits
	known  func(source netip.Prefix) bool
	turns  turns

	mu   sync.Mutex
	held []*Conn // in the order in which they came, limits.All at most
}

// New returns the places of a listener. known is asked once for each connection
// and must answer without looking far: strangers ask as often as they like.
func New(limits Limits, known func(source netip.Prefix) bool) *Places {
	return &Places{limits: limits, known: known, turns: newTurns()}
}

// Held is how many places are taken.
func (p *Places) Held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.held)
}

// take finds a place for a connection. If somebody must make room for it, that is
// who; nil for both means that there is no place, because known sources have all.
func (p *Places) take(raw net.Conn) (taken, yields *Conn) {
	source := sourceOf(raw.RemoteAddr())
	c := &Conn{
		Conn: raw, places: p, source: source, known: p.known(source),
		lost: make(chan struct{}), gone: make(chan struct{}),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// At most limits.All to look at: 256 take less than a microsecond, far from
	// what the kernel has done for the connection.
	same, unknown := 0, 0
	for _, h := range p.held {
		if h.source == source {
			same++
		}
		if !h.known {
			unknown++
		}
	}
	full := len(p.held) >= p.limits.All
	isUnknown := func(h *Conn) bool { return !h.known }
	switch {
	case same >= p.limits.Each:
		yields = p.nextToGoLocked(func(h *Conn) bool { return h.source == source })
	case c.known && full:
		if yields = p.nextToGoLocked(isUnknown); yields == nil {
			yields = p.nextToGoLocked(func(*Conn) bool { return true })
		}
	case !c.known && (full || unknown >= p.limits.All-p.limits.Reserved):
		if yields = p.nextToGoLocked(isUnknown); yields == nil {
			return nil, nil
		}
	}
	if yields != nil {
		p.removeLocked(yields)
		close(yields.lost)
	}
	p.held = append(p.held, c)
	return c, yields
}

// nextToGoLocked is who makes room among those that match, nil if none does: in
// their older half the oldest that is silent, or else the oldest. The younger half
// is spared because everybody is silent at first.
func (p *Places) nextToGoLocked(match func(*Conn) bool) *Conn {
	var all []*Conn
	for _, h := range p.held {
		if match(h) {
			all = append(all, h)
		}
	}
	for _, h := range all[:len(all)/2] {
		if !h.heard {
			return h
		}
	}
	if len(all) > 0 {
		return all[0]
	}
	return nil
}

// removeLocked reports whether c held a place until now.
func (p *Places) removeLocked(c *Conn) bool {
	i := slices.Index(p.held, c)
	if i < 0 {
		return false
	}
	p.held = slices.Delete(p.held, i, i+1)
	return true
}
