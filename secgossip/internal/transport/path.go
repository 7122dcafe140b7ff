package transport

import (
	"net/netip"
	"sync"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// The times of a path check. Protocol: path check.
const (
	// tryEvery is how long an answer may take; satellites need 0.6 s. After
	// pathTries challenges without one the path is blocked: with three datagrams
	// in ten lost, both ways, that happens by accident once in 280 checks (the
	// last three are answered by stream, so that only they themselves can get
	// lost: 0.51^3 * 0.3^3), and ends with the first answer.
	tryEvery  = time.Second
	pathTries = 6

	// checkEvery is how often a path that works is checked, and checkShare what
	// one peer adds to that: 5 challenges a second for all that work. With those
	// that are new or blocked it is maxChecks at most.
	checkEvery = 30 * time.Second
	checkShare = 200 * time.Millisecond

	// blockedEvery is how often a blocked path is tried.
	blockedEvery = 5 * time.Second

	// pathUsed is how long after the last packet a path counts as used. Nobody
	// looks after the others: most peers of a large cluster, and the dead.
	pathUsed = time.Minute

	// tellEvery is how often the log may mention one path. Whoever can drop
	// datagrams decides how often it changes, and not how much we write.
	tellEvery = 10 * time.Minute
)

// A path is what is known of the way by UDP to one peer: whether datagrams of
// full length get there. It is about one direction; the other is the peer's to
// find out. It has no clock, no chance and no socket of its own. The zero value
// is a path that was never used.
type path struct {
	mu      sync.Mutex
	blocked bool
	instead bool      // packets went by stream since it is blocked
	told    bool      // and that was logged
	toldAt  time.Time // when it last was
	known   bool      // a challenge was answered since the path was new, or blocked
	used    time.Time
	asked   time.Time
	tries   int                  // challenges since the last answer
	sent    [pathTries]challenge // the last ones; number i is at i % pathTries
}

// challenge is one that awaits its answer.
type challenge struct {
	token [8]byte
	to    netip.AddrPort
	at    time.Time
}

// renew makes the path a new one: the peer is somewhere else now.
func (p *path) renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known, p.tries, p.asked = false, 0, time.Time{}
}

// use notes that a packet is sent, and reports whether UDP is blocked for it. A
// path that nobody used for long is asked at once whether that still holds.
func (p *path) use(now time.Time) (blocked bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.used) > pathUsed {
		p.known, p.tries, p.asked = false, 0, time.Time{}
	}
	p.used = now
	return p.blocked
}

// doubt has a path that works checked now: something did not come back. A check
// that is under way goes on.
func (p *path) doubt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.blocked && p.tries == 0 {
		p.asked = time.Time{}
	}
}

// block makes the path a blocked one: there is no way at all.
func (p *path) block() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocked, p.known = true, false
}

// due reports whether a challenge is due; a path that works is checked every
// interval. It blocks the path when the last try has had its time.
func (p *path) due(now time.Time, interval time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	wait := interval
	switch {
	case now.Sub(p.used) > pathUsed:
		return false
	case p.blocked:
		wait = blockedEvery
	case p.tries > 0:
		wait = tryEvery
	case !p.known:
		wait = 0
	}
	// Whoever asks does so every tryEvery, now a little early and now a little
	// late. A challenge that is all but due must not wait for the next time.
	if now.Sub(p.asked) < wait-tryEvery/2 {
		return false
	}
	if p.tries >= pathTries {
		p.blocked, p.known = true, false
	}
	return true
}

// ask makes the next challenge, to one of the peer's endpoints in turn.
func (p *path) ask(now time.Time, token [8]byte, endpoints []netip.AddrPort) (wire.Challenge, netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := endpoints[p.tries%len(endpoints)]
	p.sent[p.tries%pathTries] = challenge{token, at, now}
	c := wire.Challenge{Token: token, Try: uint8(min(p.tries, 255))}
	p.tries++
	p.asked = now
	return c, at
}

// answered notes a response. It reports which challenge it answers, and whether a
// blocked path that was told of is open again.
func (p *path) answered(token [8]byte) (sent challenge, reopened, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, c := range p.sent {
		if i < p.tries && c.token == token {
			reopened = p.told
			p.blocked, p.instead, p.told, p.known, p.tries = false, false, false, true, 0
			return c, reopened, true
		}
	}
	return challenge{}, false, false
}

// carried notes that a packet went by stream, and reports whether that is to be told
// of: once until the path opens, and no more often than every tellEvery.
func (p *path) carried(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.instead = p.blocked
	if !p.blocked || p.told || !p.toldAt.IsZero() && now.Sub(p.toldAt) < tellEvery {
		return false
	}
	p.told, p.toldAt = true, now
	return true
}

// isKnown reports whether datagrams are known to get there.
func (p *path) isKnown() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known
}

// state reports whether the path is blocked, and whether packets go by stream
// instead: of a peer that is not there at all, only the first is true.
func (p *path) state() (blocked, carried bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.blocked, p.instead
}
