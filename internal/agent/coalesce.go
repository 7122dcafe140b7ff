package agent

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/secgossip/secgossip/secgossip"
)

// What happens comes in waves: a switch that reboots takes a rack with it, and whoever
// fires an event for each of a hundred changes means the last. Handlers and streams get
// it as from Serf: what happens within quantum, or until nothing has happened for
// quiescent, is told at once. Member events and events of clients have waves of their own.
const (
	quantum   = 3 * time.Second
	quiescent = time.Second
)

// waves says when what was gathered is delivered.
type waves struct {
	wake    chan struct{} // something was put in
	deliver func()        // delivers all that was gathered
	over    atomic.Bool   // nothing is gathered any more

	delivering sync.Mutex // held meanwhile, so that stop returns behind it
}

func newWaves(deliver func()) *waves { return &waves{wake: make(chan struct{}, 1), deliver: deliver} }

// put says that there is something to be delivered: with the wave, and after stop at
// once. Who calls it has gathered that before, so that stop misses nothing.
func (w *waves) put() {
	if w.over.Load() {
		w.flush()
		return
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *waves) flush() {
	w.delivering.Lock()
	defer w.delivering.Unlock()
	w.deliver()
}

// stop delivers what is gathered, and from then on everything at once.
func (w *waves) stop() {
	w.over.Store(true)
	w.flush()
}

// run delivers until ctx ends. What is gathered then is stop's.
func (w *waves) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		if !w.gather(ctx) {
			return
		}
		w.flush()
	}
}

// gather waits until a wave is over. It is false when ctx ends.
func (w *waves) gather(ctx context.Context) bool {
	longest, quiet := time.NewTimer(quantum), time.NewTimer(quiescent)
	defer longest.Stop()
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-longest.C:
			return true
		case <-quiet.C:
			return true
		case <-w.wake:
			quiet.Reset(quiescent)
		}
	}
}

// kindUpdate may be delivered of one member again and again; of any other kind of Serf's
// the second in a row is no news. What kinds of our own say, Serf's say in their way too:
// neither stands for the other.
const (
	kindUpdate     = "member-update"
	kindReap       = "member-reap"
	kindEvict      = "member-evict"
	kindQuarantine = "member-quarantine"
)

// coalescer gathers member events. There is one pending for each member at most, one
// beside it of each kind of our own, and one kind remembered, until the member is reaped.
type coalescer struct {
	*waves
	tell func(kind string, members []secgossip.Member)

	mu      sync.Mutex
	pending map[pendingKey]change // the newest
	last    map[string]string     // the kind of Serf's that was last delivered, by member
}

// pendingKey is a member and, if it is not one of Serf's, the kind.
type pendingKey struct{ member, own string }

type change struct {
	kind   string
	member secgossip.Member
}

func newCoalescer(tell func(kind string, members []secgossip.Member)) *coalescer {
	c := &coalescer{tell: tell, pending: make(map[pendingKey]change), last: make(map[string]string)}
	c.waves = newWaves(c.tellAll)
	return c
}

// add takes an event.
func (c *coalescer) add(kind string, m secgossip.Member) {
	key := pendingKey{member: m.Name}
	if kind == kindEvict || kind == kindQuarantine {
		key.own = kind
	}
	c.mu.Lock()
	c.pending[key] = change{kind, m}
	c.mu.Unlock()
	c.put()
}

func (c *coalescer) tellAll() {
	c.mu.Lock()
	pending := c.pending
	c.pending = make(map[pendingKey]change)
	byKind := make(map[string][]secgossip.Member)
	for key, ch := range pending {
		if key.own == "" {
			if c.last[key.member] == ch.kind && ch.kind != kindUpdate {
				continue
			}
			c.last[key.member] = ch.kind
			if ch.kind == kindReap {
				delete(c.last, key.member)
			}
		}
		byKind[ch.kind] = append(byKind[ch.kind], ch.member)
	}
	c.mu.Unlock()
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		members := byKind[kind]
		slices.SortFunc(members, func(a, b secgossip.Member) int { return cmp.Compare(a.Name, b.Name) })
		c.tell(kind, members)
	}
}

// eventCoalescer gathers events of clients that may be coalesced. Of one name the latest
// Lamport time counts, and all events of that time. An event that is left out counts as
// done: it is in the node's journal.
type eventCoalescer struct {
	*waves
	tell    func(secgossip.Event)
	leftOut func(secgossip.Event)

	mu      sync.Mutex
	pending []secgossip.Event // in the order in which they came
	newest  map[string]uint64 // Lamport time of those that are pending, by name
	bytes   int               // of those that are pending
}

const (
	// maxGathered and maxGatheredBytes bound a wave of events. One that is full is
	// delivered at once: nothing is lost by it.
	maxGathered      = 1024
	maxGatheredBytes = 4 << 20
)

func newEventCoalescer(tell, leftOut func(secgossip.Event)) *eventCoalescer {
	c := &eventCoalescer{tell: tell, leftOut: leftOut, newest: make(map[string]uint64)}
	c.waves = newWaves(c.tellAll)
	return c
}

// gathers reports whether an event is to be gathered. One that ends before its wave may
// is not: nobody would take it after that.
func (c *eventCoalescer) gathers(e secgossip.Event, now time.Time) bool {
	return e.Coalesce && e.Expires.After(now.Add(quantum+quiescent))
}

// add takes an event.
func (c *eventCoalescer) add(e secgossip.Event) {
	c.mu.Lock()
	newest, ok := c.newest[e.Name]
	var out []secgossip.Event
	switch {
	case ok && e.LTime < newest:
		out = append(out, e)
	case ok && e.LTime > newest:
		c.pending = slices.DeleteFunc(c.pending, func(p secgossip.Event) bool {
			if p.Name != e.Name {
				return false
			}
			out = append(out, p)
			c.bytes -= size(p)
			return true
		})
		fallthrough
	default:
		c.pending, c.newest[e.Name] = append(c.pending, e), e.LTime
		c.bytes += size(e)
	}
	full := len(c.pending) >= maxGathered || c.bytes >= maxGatheredBytes
	c.mu.Unlock()
	for _, e := range out {
		c.leftOut(e)
	}
	if full {
		c.flush()
		return
	}
	c.put()
}

func size(e secgossip.Event) int { return len(e.Payload) + len(e.Raw) }

func (c *eventCoalescer) tellAll() {
	c.mu.Lock()
	pending := c.pending
	c.pending, c.newest, c.bytes = nil, make(map[string]uint64), 0
	c.mu.Unlock()
	for _, e := range pending {
		c.tell(e)
	}
}
