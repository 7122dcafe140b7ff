package transport

import (
	"time"

	"github.com/secgossip/secgossip/pki"
)

// A reading is what a peer's clock showed at one moment. It is kept beside our own
// steady clock, so that it stays right when the clock of this host is set.
type reading struct {
	theirs time.Time
	at     time.Time // monotonic
}

// readClock notes what the peer's clock showed some time between sent and got: in the
// middle, as far as we can tell. Whoever delays the answer moves that by half of the
// delay: what took longer than a sync may take tells nothing.
func (p *session) readClock(theirs, sent, got time.Time) {
	if got.Sub(sent) <= streamTimeout {
		p.clock.Store(&reading{theirs: theirs, at: sent.Add(got.Sub(sent) / 2)})
	}
}

// now is what the peer's clock shows now, if it goes as ours does.
func (r *reading) now() time.Time { return r.theirs.Add(time.Since(r.at)) }

// clockOf is what is known of a node's clock, nil if nothing.
func (t *Transport) clockOf(name pki.Name) *reading {
	if p := t.sessions.get(name); p != nil {
		return p.clock.Load()
	}
	return nil
}

// forgetClock gives up a reading by which a knock was made that was not accepted: the
// clock there has been set since. The next knock bears the cluster's time.
func (t *Transport) forgetClock(name pki.Name, clock *reading) {
	if p := t.sessions.get(name); p != nil && clock != nil {
		p.clock.CompareAndSwap(clock, nil)
	}
}
