package secgossip

import "crypto/sha256"

// recent remembers the digests of the last few thousand events that were
// verified and accepted, byte for byte. Gossip brings each event several times;
// the copies need no second look. It decides only about bytes that were
// authenticated before. Two generations keep it bounded; one goroutine uses it.
type recent struct {
	current, previous map[[sha256.Size]byte]struct{}
}

const recentGeneration = 4096

func (r *recent) has(digest [sha256.Size]byte) bool {
	if _, ok := r.current[digest]; ok {
		return true
	}
	_, ok := r.previous[digest]
	return ok
}

func (r *recent) add(digest [sha256.Size]byte) {
	if r.current == nil || len(r.current) >= recentGeneration {
		r.previous, r.current = r.current, make(map[[sha256.Size]byte]struct{}, recentGeneration)
	}
	r.current[digest] = struct{}{}
}
