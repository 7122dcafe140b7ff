package secgossip

import (
	"cmp"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
)

// pulls are the payloads that this node lacks, of events that it has verified.
type pulls struct {
	kick chan struct{} // somebody has put one in

	mu      sync.Mutex
	wanted  map[journalKey]*pull
	clients sharing[[32]byte] // who signed their events
	running int
	from    map[string]int   // how many are under way, by member
	of      map[[32]byte]int // the same, by client
}

// pull is one of them.
type pull struct {
	event Event
	tries int
	next  time.Time // when it is tried again
	busy  bool      // it is under way
}

const (
	// maxPulls bounds the events whose payload is still to come, at 2 KiB each. What is
	// announced beyond that is not taken, and repaired later.
	maxPulls = 256

	// pullsOfOne is how many of them are one client's: one whose payloads nobody gives
	// leaves room for others.
	pullsOfOne = maxPulls * 3 / 4

	// maxPulling is how many payloads are under way at once, 1 MiB of memory each, and
	// pullsPerMember how many from one member: a slow one holds up few.
	maxPulling     = 4
	pullsPerMember = 2

	// pullTick is how often is looked after pulls that wait, and pullAgain the first
	// wait after one that failed. The wait doubles, up to pullAgainMax, and half of it
	// is chance: members that lack the same do not come at the same time.
	pullTick     = 50 * time.Millisecond
	pullAgain    = 100 * time.Millisecond
	pullAgainMax = 5 * time.Second

	// pullPatience is how long a pull waits for others from the same origin to end
	// before it tries elsewhere.
	pullPatience = 2 * time.Second
)

func newPulls() *pulls {
	return &pulls{kick: make(chan struct{}, 1), wanted: make(map[journalKey]*pull), from: make(map[string]int), of: make(map[[32]byte]int)}
}

// want has the payload of a verified event pulled. It is false when too many are wanted,
// or too many of its client.
//
// Threat C10: what is announced and not given is wanted until it expires.
func (p *pulls) want(event Event, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := event.key()
	if p.wanted[key] != nil {
		return true
	}
	if len(p.wanted) >= maxPulls || !p.clients.take(event.ClientKey, pullsOfOne) {
		return false
	}
	p.wanted[key] = &pull{event: event, next: now}
	wake(p.kick)
	return true
}

// forgetLocked lets go of a payload that has come, or is of no more use.
func (p *pulls) forgetLocked(w *pull) {
	delete(p.wanted, w.event.key())
	p.clients.give(w.event.ClientKey)
}

func (p *pulls) some() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.wanted) > 0
}

// pullLoop starts pulls when it is their time.
func (n *Node) pullLoop() {
	var tick <-chan time.Time // nil: nothing to look after
	for {
		if tick == nil && n.pulls.some() {
			tick = time.After(pullTick)
		}
		select {
		case <-n.ctx.Done():
			return
		case <-n.pulls.kick:
		case <-tick:
			tick = nil
		}
		n.tendPulls()
	}
}

// tendPulls starts what is due, and gives up what has expired. Whose client has the fewest
// under way comes first, and of one client what has been due for longest: what was tried
// in vain holds up neither others nor what was not tried yet.
func (n *Node) tendPulls() {
	p, now := n.pulls, time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	var due []*pull
	for _, w := range p.wanted {
		switch {
		case w.busy:
		case !n.now().Before(w.event.Expires):
			p.forgetLocked(w)
			n.counts.payloadsMissing.Add(1)
			n.logger.Warn("nobody gave the payload of an event until it expired",
				slog.String("event", w.event.Name), slog.String("node", w.event.Origin))
		case !now.Before(w.next):
			due = append(due, w)
		}
	}
	slices.SortFunc(due, func(a, b *pull) int {
		return cmp.Or(cmp.Compare(p.of[a.event.ClientKey], p.of[b.event.ClientKey]), a.next.Compare(b.next))
	})
	for _, w := range due {
		if p.running >= maxPulling {
			return
		}
		from, soon := n.whoMayHave(w, now)
		if soon {
			continue
		}
		if from == nil || !n.payloads.room(w.event.ClientKey, w.event.Size, n.now()) {
			w.later(now)
			continue
		}
		w.busy = true
		p.running++
		p.from[string(from.Name)]++
		p.of[w.event.ClientKey]++
		n.running.Go(func() { n.pull(w, from) }) // pullLoop is one of them: Close waits
	}
}

// later has a pull wait for its next try.
func (w *pull) later(now time.Time) {
	wait := min(pullAgain<<min(w.tries, 10), pullAgainMax)
	w.tries++
	w.next = now.Add(wait/2 + rand.N(wait/2))
}

// whoMayHave picks whom to ask, with pulls.mu held: the origin, and every other time, or
// when it is away, another member that the event is for. Every one of them pulls too. soon
// says that the origin is asked for others just now, and to wait for that.
func (n *Node) whoMayHave(w *pull, now time.Time) (from *guard.Peer, soon bool) {
	free := func(p *guard.Peer) bool { return n.pulls.from[string(p.Name)] < pullsPerMember }
	origin := n.roster.Get(pki.Name(w.event.Origin))
	if origin != nil && w.tries%2 == 0 && origin.Name != n.config.Identity.Name {
		switch status, _ := n.members.get(string(origin.Name)); {
		case !status.IsLive():
		case free(origin):
			return origin, false
		case now.Sub(w.next) < pullPatience:
			return nil, true
		}
	}
	for _, p := range n.randomPeers(n.liveCount()) {
		_, tags := n.members.get(string(p.Name))
		if free(p) && w.event.isFor(string(p.Name), tags) {
			return p, false
		}
	}
	return nil, false
}

// pull fetches one payload, and hands its event on when it is kept.
func (n *Node) pull(w *pull, from *guard.Peer) {
	p := n.pulls
	content, err := n.transport.Pull(n.ctx, from, w.event.Digest, w.event.Size)
	if err == nil {
		err = n.payloads.put(w.event.ClientKey, w.event.Digest, content, w.event.Expires, n.now())
		if err != nil && !errors.Is(err, ErrBusy) {
			n.counts.eventsUnkept.Add(1)
			n.logger.Warn("payload of an event not kept", slog.String("event", w.event.Name), slog.Any("error", err))
		}
	}
	p.mu.Lock()
	w.busy = false
	p.running--
	if p.from[string(from.Name)]--; p.from[string(from.Name)] == 0 {
		delete(p.from, string(from.Name))
	}
	if p.of[w.event.ClientKey]--; p.of[w.event.ClientKey] == 0 {
		delete(p.of, w.event.ClientKey)
	}
	if err != nil {
		w.later(time.Now())
		p.mu.Unlock()
		n.logger.Debug("payload not pulled", slog.String("node", string(from.Name)), slog.Any("error", err))
		return
	}
	p.forgetLocked(w)
	p.mu.Unlock()
	wake(p.kick)
	n.counts.payloadsPulled.Add(1)
	select {
	case n.pulled <- w.event:
	case <-n.ctx.Done():
	}
}
