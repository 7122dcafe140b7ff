package memnet

import (
	"bytes"
	"net/netip"
	"time"
)

// Datagram is one datagram as the network sees it.
type Datagram struct {
	From, To netip.AddrPort
	Data     []byte
	At       time.Time // when it was sent; Inject does not look at it
}

// clone returns a datagram that shares no bytes with d.
func (d Datagram) clone() Datagram {
	d.Data = bytes.Clone(d.Data)
	return d
}

// Tap lets record see every datagram a host sends, before loss and rules, in
// the order in which they are sent; Data is its own to keep. record is never
// called twice at once. It may change rules and Inject, and must not send from
// a host. What is injected is not shown: whoever injects knows.
func (n *Network) Tap(record func(Datagram)) {
	n.tapping.Lock()
	defer n.tapping.Unlock()
	n.taps = append(n.taps, record)
}

// Inject lets a datagram arrive now, from any source, as somebody on the way
// could: no rule, loss, delay or Hold applies. It reports whether a socket took
// it.
func (n *Network) Inject(d Datagram) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.takeLocked(d.clone())
}

// Hold keeps back every datagram that would arrive from now on.
func (n *Network) Hold() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.holding = true
}

// Take removes the datagrams held so far from the network and returns them in
// the order of their arrival; holding goes on. Inject puts back those that
// shall arrive, in any order.
func (n *Network) Take() []Datagram {
	n.mu.Lock()
	defer n.mu.Unlock()
	taken := n.held
	n.held = nil
	return taken
}

// Release ends Hold and lets the held datagrams arrive in their order, as far
// as their path is open now.
func (n *Network) Release() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.holding = false
	held := n.held
	n.held = nil
	for _, d := range held {
		n.arriveLocked(d)
	}
}

// transmit sends a datagram of a host; d is the network's own copy.
func (n *Network) transmit(d Datagram) {
	n.tapping.Lock()
	for _, tap := range n.taps {
		tap(d.clone())
	}
	n.mu.Lock()
	n.tapping.Unlock() // only now: taps see datagrams in the order they are sent
	defer n.mu.Unlock()
	if n.closed || !n.openUDPLocked(d.From.Addr(), d.To.Addr()) || n.chanceLocked(n.loss) {
		return
	}
	copies := 1
	if n.chanceLocked(n.duplicate) {
		copies = 2
	}
	for range copies {
		n.sendLocked(n.arrivalLocked(), func() { n.arriveLocked(d) })
	}
}

func (n *Network) arriveLocked(d Datagram) {
	switch {
	case !n.openUDPLocked(d.From.Addr(), d.To.Addr()):
	case n.holding:
		n.held = append(n.held, d.clone())
	default:
		n.takeLocked(d)
	}
}

// takeLocked hands d to the socket it is for, if there is one with room.
func (n *Network) takeLocked(d Datagram) bool {
	h := n.hosts[d.To.Addr().Unmap()]
	if h == nil {
		return false
	}
	socket := h.packets[d.To.Port()]
	return socket != nil && socket.takeLocked(d)
}
