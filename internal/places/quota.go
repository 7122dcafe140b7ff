package places

import "sync"

// Quota bounds how much may be in use at once, in all and by one holder.
type Quota[K comparable] struct {
	all, each int

	mu    sync.Mutex
	inUse int
	by    map[K]int
}

// NewQuota returns a quota of all, each of them for one holder.
func NewQuota[K comparable](all, each int) *Quota[K] {
	return &Quota[K]{all: all, each: each, by: make(map[K]int)}
}

// Take reports whether holder may have one more, and gives it one.
func (q *Quota[K]) Take(holder K) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.inUse >= q.all || q.by[holder] >= q.each {
		return false
	}
	q.inUse++
	q.by[holder]++
	return true
}

// GiveBack ends what one Take allowed.
func (q *Quota[K]) GiveBack(holder K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inUse--
	if q.by[holder]--; q.by[holder] == 0 {
		delete(q.by, holder)
	}
}

// InUse is how much all holders have.
func (q *Quota[K]) InUse() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.inUse
}
