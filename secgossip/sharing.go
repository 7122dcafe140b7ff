package secgossip

import "sync"

// sharing counts what each of many has of something that is bounded, so that none of
// them gets all of it. The zero value is ready.
type sharing[K comparable] struct {
	mu  sync.Mutex
	has map[K]int
}

// take counts one more, unless who has the most already that one may have.
func (s *sharing[K]) take(who K, most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has[who] >= most {
		return false
	}
	if s.has == nil {
		s.has = make(map[K]int)
	}
	s.has[who]++
	return true
}

// give counts one less. Who has none is forgotten.
func (s *sharing[K]) give(who K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has[who]--; s.has[who] <= 0 {
		delete(s.has, who)
	}
}
