package secgossip

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
	"github.com/secgossip/secgossip/pki"
)

// A Lamport clock says what came after what, whatever the clocks of hosts show. A node
// has three, as in Serf. Each is above all times that the node has seen: of events and
// queries, which clients sign with their own clock in milliseconds or, if an agent has
// seen more, with what that has seen; and of members, whose records count so too. So
// whoever fires at this node after something was taken in here has a later time, also
// after restarts and though another client's clock was ahead.
type lamportClocks struct {
	mu    sync.Mutex
	times keptClocks
	saved keptClocks
	read  bool          // what was kept is known: it may be replaced
	moved chan struct{} // there is something to be saved
}

// keptClocks is what is kept of them, and the file's content.
type keptClocks struct {
	Event  uint64 `cbor:"1,keyasint"`
	Query  uint64 `cbor:"2,keyasint"`
	Member uint64 `cbor:"3,keyasint"`
}

const (
	clocksFile    = "clocks"
	maxClocksFile = 64

	// saveClocksEvery is how old what is on disk may be: a node that is killed is so
	// much behind.
	saveClocksEvery = time.Second
)

func newLamportClocks() *lamportClocks {
	return &lamportClocks{times: keptClocks{1, 1, 1}, moved: make(chan struct{}, 1)}
}

func (c *lamportClocks) now() keptClocks {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.times
}

// lamportLimit is the latest time that is believed: clocks may be pki.Tolerance apart.
// Whoever signs a later one moves nobody's clock further than that.
func lamportLimit(now time.Time) uint64 { return uint64(now.Add(pki.Tolerance).UnixMilli()) }

// witness moves one of the clocks above a time that was seen and verified.
func (c *lamportClocks) witness(which func(*keptClocks) *uint64, seen uint64, now time.Time) {
	seen = min(seen, lamportLimit(now))
	c.mu.Lock()
	defer c.mu.Unlock()
	clock := which(&c.times)
	if seen < *clock {
		return
	}
	*clock = seen + 1
	wake(c.moved)
}

func eventClock(c *keptClocks) *uint64  { return &c.Event }
func queryClock(c *keptClocks) *uint64  { return &c.Query }
func memberClock(c *keptClocks) *uint64 { return &c.Member }

// EventTime is the Lamport time that an event of now is to have at least.
func (n *Node) EventTime() uint64 { return n.lamport.now().Event }

// QueryTime is the same of a query.
func (n *Node) QueryTime() uint64 { return n.lamport.now().Query }

// check refuses what no clock of ours can show. It is one above what was seen.
func (c keptClocks) check(now time.Time) error {
	var problems []error
	for _, clock := range []struct {
		name string
		time uint64
	}{{"event time", c.Event}, {"query time", c.Query}, {"member time", c.Member}} {
		if most := lamportLimit(now) + 1; clock.time < 1 || clock.time > most {
			problems = append(problems, fmt.Errorf("%s %d: 1 to %d, which is %v from now", clock.name, clock.time, most, pki.Tolerance))
		}
	}
	return errors.Join(problems...)
}

// loadClocks takes up the clocks of the start before.
func (n *Node) loadClocks() error {
	if n.config.StateDir == "" {
		return nil
	}
	err := n.loadKept(filepath.Join(n.config.StateDir, clocksFile), maxClocksFile, func(body []byte) error {
		var kept keptClocks
		err := cose.Unmarshal(body, &kept)
		if err == nil {
			err = kept.check(n.now())
		}
		if err != nil {
			return err
		}
		n.lamport.mu.Lock()
		defer n.lamport.mu.Unlock()
		// Some were seen by now: what is kept of members.
		n.lamport.times = keptClocks{
			max(n.lamport.times.Event, kept.Event), max(n.lamport.times.Query, kept.Query), max(n.lamport.times.Member, kept.Member),
		}
		n.lamport.saved = kept
		return nil
	})
	n.lamport.read = err == nil // another cluster's stay as they are
	return err
}

// clocksLoop keeps the clocks, away from everybody who must not wait for the disk.
func (n *Node) clocksLoop() {
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-n.lamport.moved:
		}
		if !n.pause(saveClocksEvery) {
			return
		}
		n.unwritten.note(clocksFile, n.saveClocks())
	}
}

func (n *Node) saveClocks() error {
	now := n.lamport.now()
	if !n.lamport.read || now == n.lamport.saved {
		return nil
	}
	body, err := cose.Marshal(now)
	if err == nil {
		err = writeKept(filepath.Join(n.config.StateDir, clocksFile), n.config.Trust.Cluster(), body)
	}
	if err == nil {
		n.lamport.saved = now
	}
	return err
}
