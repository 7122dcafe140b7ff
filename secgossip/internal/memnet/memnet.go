// Package memnet is a network in memory, for tests.
//
// Hosts with IP addresses exchange datagrams and streams without a socket of
// the operating system. A test can drop, hold, delay, reorder, duplicate,
// record and forge datagrams, and stall or reset streams:
//
//	synctest.Test(t, func(t *testing.T) {
//		n := memnet.New(memnet.Seed(7))
//		defer n.Close()
//		a, b := n.Host(addrA), n.Host(addrB)
//		... a.ListenPacket, b.Listen, a.Dial ...
//		n.Partition([]netip.Addr{addrA}, []netip.Addr{addrB})
//		...
//		n.Heal()
//	})
//
// It is made for testing/synctest: whatever waits, waits on a sync.Cond, a
// channel or a timer, so that a bubble's clock moves on as soon as nothing else
// can happen. Make the Network inside the bubble that uses it. It works outside
// of one too, in real time.
//
// A bubble does not count a goroutine that waits for a mutex as waiting. Over a
// network with delays, code that keeps a mutex during I/O can therefore stop the
// clock. crypto/tls does so in one place: let one goroutine finish the handshake
// before a second reads or writes.
//
// What sockets report is what Linux reports: the same error types, addresses
// and end-of-stream rules, so that code under test cannot tell. What is not
// modelled: fragmentation, congestion, ICMP. A stream loses nothing; Loss,
// Duplicate, Hold, Tap and Inject are about datagrams only.
//
// A seed fixes every random choice of the network. The order in which
// goroutines send is still the scheduler's, so two runs with one seed are alike
// and not identical.
package memnet

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Network connects hosts. It has one lock for everything: a test's traffic is
// small, and one lock makes each step of the network easy to reason about.
type Network struct {
	mu     sync.Mutex
	closed bool
	random *rand.Rand
	hosts  map[netip.Addr]*Host

	// Conditions of datagrams; see condition.go.
	loss, duplicate    float64
	minDelay, maxDelay time.Duration

	// Who reaches whom; see rules.go.
	blocked    map[path]bool
	blockedUDP map[path]bool
	groups     map[netip.Addr]int
	stalled    []*pipe    // pipes with bytes that wait for their path
	changed    *sync.Cond // a dial that could not go on may try again

	// What is on its way, and what was stopped; see schedule.go, datagram.go.
	flights flights
	flight  *time.Timer
	sent    uint64
	holding bool
	held    []Datagram

	// Timers whose function has not finished; Close waits for them on idle.
	timers int
	idle   *sync.Cond

	// tapping is held while a tap runs, so that a recorder needs no lock. It
	// is never taken under mu: a tap may call Inject and the rules.
	tapping sync.Mutex
	taps    []func(Datagram)
}

// Option changes a Network before its first use.
type Option func(*Network)

// Seed fixes the random choices: loss, duplicates, delays. Without it the seed
// is 1, so that a test does the same thing each time.
func Seed(seed uint64) Option {
	return func(n *Network) { n.random = rand.New(rand.NewPCG(seed, 0)) }
}

// New returns a network on which everything arrives at once and exactly once.
func New(options ...Option) *Network {
	n := &Network{
		hosts:      make(map[netip.Addr]*Host),
		blocked:    make(map[path]bool),
		blockedUDP: make(map[path]bool),
	}
	n.changed = sync.NewCond(&n.mu)
	n.idle = sync.NewCond(&n.mu)
	Seed(1)(n)
	for _, option := range options {
		option(n)
	}
	return n
}

// Host returns the host at addr. It exists from its first mention on; after
// Kill the next mention makes a new one.
func (n *Network) Host(addr netip.Addr) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	addr = addr.Unmap()
	h := n.hosts[addr]
	if h == nil {
		h = newHost(n, addr)
		n.hosts[addr] = h
	}
	return h
}

// Close ends the network: every socket of every host is closed, what is on its
// way is dropped, and no timer or goroutine of the network is left. Calls that
// wait return net.ErrClosed.
func (n *Network) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	for _, h := range n.hosts {
		h.shutLocked(func(c *conn) { c.shutLocked() })
	}
	n.flights = nil
	n.rearmLocked()
	n.changed.Broadcast()
	for n.timers > 0 {
		n.idle.Wait()
	}
}

// startTimerLocked runs f under the lock after d.
func (n *Network) startTimerLocked(d time.Duration, f func()) *time.Timer {
	n.timers++
	return time.AfterFunc(d, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		f()
		n.timers--
		n.idle.Broadcast()
	})
}

// stopTimerLocked stops a timer of startTimerLocked; nil is none. Its function
// may still run once when it had started already.
func (n *Network) stopTimerLocked(t *time.Timer) {
	if t != nil && t.Stop() {
		n.timers--
		n.idle.Broadcast()
	}
}
