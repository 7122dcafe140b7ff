package memnet

import "time"

// Loss sets the share of datagrams that get lost, from 0 to 1. Injected
// datagrams and streams are not affected.
func (n *Network) Loss(p float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = p
}

// Duplicate sets the share of datagrams that arrive twice, from 0 to 1. The
// second copy has a delay of its own.
func (n *Network) Duplicate(p float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.duplicate = p
}

// Delay sets how long everything is on its way, each time anew between min and
// max. Datagrams overtake each other when the two differ; equal delays keep the
// order. The bytes of a stream never overtake, and Dial takes two delays.
func (n *Network) Delay(min, max time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.minDelay, n.maxDelay = min, max
}

// arrivalLocked returns when something sent now arrives.
func (n *Network) arrivalLocked() time.Time {
	delay := n.minDelay
	if spread := n.maxDelay - n.minDelay; spread > 0 {
		delay += time.Duration(n.random.Int64N(int64(spread) + 1))
	}
	return time.Now().Add(delay)
}

// chanceLocked is true in a share p of all calls. It draws nothing for 0, so
// that switching one condition on leaves the others' choices alone.
func (n *Network) chanceLocked(p float64) bool {
	return p > 0 && n.random.Float64() < p
}
