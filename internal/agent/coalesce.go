package agent

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/secgossip/secgossip/secgossip"
)

// Member events come in waves: a switch that reboots takes a rack with it. Handlers and
// streams get them as from Serf: what happens within quantum, or until nothing has
// happened for quiescent, is one event of each kind, about all members that it befell.
const (
	quantum   = 3 * time.Second
	quiescent = time.Second
)

// kindUpdate may be delivered of one member again and again; of any other kind the
// second in a row is no news.
const (
	kindUpdate = "member-update"
	kindReap   = "member-reap"
)

// coalescer gathers member events. There is one pending for each member at most, and
// one kind remembered, until the member is reaped.
type coalescer struct {
	deliver func(kind string, members []secgossip.Member)
	wake    chan struct{}

	mu      sync.Mutex
	pending map[string]change // by member, the newest
	last    map[string]string // the kind that was last delivered, by member
}

type change struct {
	kind   string
	member secgossip.Member
}

func newCoalescer(deliver func(string, []secgossip.Member)) *coalescer {
	return &coalescer{
		deliver: deliver, wake: make(chan struct{}, 1), pending: make(map[string]change), last: make(map[string]string),
	}
}

// add takes an event. It never waits.
func (c *coalescer) add(kind string, m secgossip.Member) {
	c.mu.Lock()
	c.pending[m.Name] = change{kind, m}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run delivers until ctx ends. What is pending then is not delivered: handlers end too.
func (c *coalescer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		if !c.gather(ctx) {
			return
		}
		c.flush()
	}
}

// gather waits until a wave is over. It is false when ctx ends.
func (c *coalescer) gather(ctx context.Context) bool {
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
		case <-c.wake:
			quiet.Reset(quiescent)
		}
	}
}

func (c *coalescer) flush() {
	c.mu.Lock()
	pending := c.pending
	c.pending = make(map[string]change)
	byKind := make(map[string][]secgossip.Member)
	for name, ch := range pending {
		if c.last[name] == ch.kind && ch.kind != kindUpdate {
			continue
		}
		c.last[name] = ch.kind
		if ch.kind == kindReap {
			delete(c.last, name)
		}
		byKind[ch.kind] = append(byKind[ch.kind], ch.member)
	}
	c.mu.Unlock()
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		members := byKind[kind]
		slices.SortFunc(members, func(a, b secgossip.Member) int { return cmp.Compare(a.Name, b.Name) })
		c.deliver(kind, members)
	}
}
