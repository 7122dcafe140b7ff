package memnet

import "net/netip"

// path is one direction between two hosts.
type path struct{ from, to netip.Addr }

// Block stops everything from one host to another. Datagrams are dropped, also
// those on their way. Streams stall: what was written waits and arrives after
// Unblock. The other direction stays open, but no new stream can be dialled
// without both.
func (n *Network) Block(from, to netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.blocked[path{from.Unmap(), to.Unmap()}] = true
}

// BlockUDP stops the datagrams from one host to another and lets streams pass.
func (n *Network) BlockUDP(from, to netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.blockedUDP[path{from.Unmap(), to.Unmap()}] = true
}

// Unblock ends a Block and a BlockUDP in this direction.
func (n *Network) Unblock(from, to netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.blocked, path{from.Unmap(), to.Unmap()})
	delete(n.blockedUDP, path{from.Unmap(), to.Unmap()})
	n.resumeLocked()
}

// Partition splits the network: two hosts reach each other only when they are
// in the same group. The hosts in no group form one more. A second Partition
// replaces the first. Streams across stall, as with Block.
func (n *Network) Partition(groups ...[]netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.groups = make(map[netip.Addr]int)
	for i, group := range groups {
		for _, addr := range group {
			n.groups[addr.Unmap()] = i + 1 // 0 is every host not named
		}
	}
	n.resumeLocked()
}

// Heal ends a Partition. What was blocked by Block or BlockUDP stays so.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.groups = nil
	n.resumeLocked()
}

// CutStreams resets every stream between two hosts, at both ends and at once,
// as a router on the way would that forgot about them.
func (n *Network) CutStreams(a, b netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, b = a.Unmap(), b.Unmap()
	for _, way := range []path{{a, b}, {b, a}} {
		if h := n.hosts[way.from]; h != nil {
			for c := range h.conns {
				if c.remote.Addr() == way.to {
					c.failLocked()
				}
			}
		}
	}
}

func (n *Network) openLocked(from, to netip.Addr) bool {
	return !n.blocked[path{from, to}] && n.groups[from] == n.groups[to]
}

func (n *Network) openUDPLocked(from, to netip.Addr) bool {
	return n.openLocked(from, to) && !n.blockedUDP[path{from, to}]
}

// resumeLocked sends on what waited for a path that may be open now.
func (n *Network) resumeLocked() {
	waiting := n.stalled
	n.stalled = nil
	for _, p := range waiting {
		p.resumeLocked()
	}
	n.changed.Broadcast()
}
