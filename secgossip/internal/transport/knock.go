package transport

import (
	"sync"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

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
