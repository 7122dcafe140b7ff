package rpcauth

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/secgossip/secgossip/internal/places"
)

// Threat K08: how many refused attempts are looked at, the rest being turned
// away unread. Only failures count.
const (
	sourceRate  = 1 // a second, from one source
	sourceBurst = 10

	// In any minute at most 1,200 from all sources together, 20 a second: the
	// burst, and 1,180 after it.
	totalBurst = 20
	totalRate  = (1200.0 - totalBurst) / 60

	// A source is forgotten once it has all its attempts back, 10 seconds after
	// its last failure. At 20 failures a second that leaves about 220 sources;
	// an entry has 150 bytes.
	maxSources = 1024

	// Callers who have standing, in each of two generations. The key has 32
	// bytes. More clients than this at once share the strangers' attempts.
	maxStanding = 1024
)

// callerKey is the raw Ed25519 key of the certificate that a caller presented.
// TLS has seen that the caller holds it; nothing else about it is known.
type callerKey [32]byte

// limiter slows down those who fail and nobody else.
//
// A caller who was let in has standing from then on: it is heard even when its
// source, or all sources together, have used up their attempts. So a flood of
// bad tokens locks out no client that works, be it behind the same address.
// Standing is lost at the first failure.
type limiter struct {
	// strangers is held while a caller without standing is checked. One at a
	// time: otherwise many at once could all be heard on the last attempt left.
	strangers sync.Mutex

	mu       sync.Mutex // guards what follows
	total    *rate.Limiter
	sources  map[netip.Prefix]*rate.Limiter
	swept    time.Time // when sources was last rid of those with nothing to say
	standing generations[callerKey, struct{}]
	notes    *rate.Limiter // audit records about callers turned away unread
	skipped  uint64        // such callers since the last record
}

func newLimiter() *limiter {
	return &limiter{
		total:    rate.NewLimiter(totalRate, totalBurst),
		sources:  make(map[netip.Prefix]*rate.Limiter),
		standing: generations[callerKey, struct{}]{limit: maxStanding},
		notes:    rate.NewLimiter(1, 1),
	}
}

// attempt runs check, which says whether the caller is let in, and reports
// whether it did. It did not if the caller is to be turned away unread.
func (l *limiter) attempt(now time.Time, source netip.Prefix, caller callerKey, check func() bool) bool {
	if !l.hasStanding(caller) {
		l.strangers.Lock()
		defer l.strangers.Unlock()
		if !l.mayTry(now, source) {
			return false
		}
	}
	l.count(now, source, caller, check())
	return true
}

func (l *limiter) hasStanding(caller callerKey) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.standing.get(caller)
	return ok
}

func (l *limiter) mayTry(now time.Time, source netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.sources[source]; s != nil && s.TokensAt(now) < 1 {
		return false
	}
	return l.total.TokensAt(now) >= 1
}

// count takes note of a check's result.
func (l *limiter) count(now time.Time, source netip.Prefix, caller callerKey, passed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if passed {
		l.standing.put(caller, struct{}{})
		return
	}
	l.standing.remove(caller)
	l.total.AllowN(now, 1)
	if s := l.sourceLocked(now, source); s != nil {
		s.AllowN(now, 1)
	}
}

// sourceLocked returns the source's attempts, nil if there is no room for them:
// then the total alone counts.
func (l *limiter) sourceLocked(now time.Time, source netip.Prefix) *rate.Limiter {
	if s := l.sources[source]; s != nil {
		return s
	}
	if len(l.sources) >= maxSources && now.Sub(l.swept) >= time.Second {
		l.swept = now
		for prefix, s := range l.sources {
			if s.TokensAt(now) >= sourceBurst {
				delete(l.sources, prefix)
			}
		}
	}
	if len(l.sources) >= maxSources {
		return nil
	}
	s := rate.NewLimiter(sourceRate, sourceBurst)
	l.sources[source] = s
	return s
}

// note reports whether a caller turned away unread is to be put on record, one a
// second, and how many were passed over since the last one that was.
func (l *limiter) note(now time.Time) (skipped uint64, record bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.notes.AllowN(now, 1) {
		l.skipped++
		return 0, false
	}
	skipped, l.skipped = l.skipped, 0
	return skipped, true
}

// sourceOf is the source of a request. An address that does not read, as that of a
// local socket, gives the zero prefix, which is a source like any other.
func sourceOf(remote string) netip.Prefix {
	addr, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	return places.SourceOf(addr.Addr())
}
