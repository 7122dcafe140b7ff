package memnet

import (
	"container/heap"
	"time"
)

// flight is something that happens when it arrives. arrive runs under the
// network's lock.
type flight struct {
	at     time.Time
	seq    uint64
	arrive func()
}

// flights is a heap by time of arrival. What arrives at the same instant
// arrives in the order it was sent, which separate timers would not promise.
type flights []flight

func (f flights) Len() int { return len(f) }
func (f flights) Less(i, j int) bool {
	if !f[i].at.Equal(f[j].at) {
		return f[i].at.Before(f[j].at)
	}
	return f[i].seq < f[j].seq
}
func (f flights) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flights) Push(x any)   { *f = append(*f, x.(flight)) }
func (f *flights) Pop() any {
	old := *f
	last := old[len(old)-1]
	*f = old[:len(old)-1]
	return last
}

// sendLocked lets something arrive at a time: now, when that has come already.
func (n *Network) sendLocked(at time.Time, arrive func()) {
	if !at.After(time.Now()) {
		arrive()
		return
	}
	n.sent++
	heap.Push(&n.flights, flight{at: at, seq: n.sent, arrive: arrive})
	if n.flights[0].seq == n.sent {
		n.rearmLocked()
	}
}

// rearmLocked sets the one timer to the next arrival.
func (n *Network) rearmLocked() {
	n.stopTimerLocked(n.flight)
	if len(n.flights) > 0 {
		n.flight = n.startTimerLocked(time.Until(n.flights[0].at), n.landLocked)
	}
}

// landLocked lets everything arrive that is due.
func (n *Network) landLocked() {
	for now := time.Now(); len(n.flights) > 0 && !n.flights[0].at.After(now); {
		heap.Pop(&n.flights).(flight).arrive()
	}
	n.rearmLocked()
}
