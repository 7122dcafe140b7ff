package seal

import "github.com/secgossip/secgossip/secgossip/internal/wire"

const (
	wordBits = 64

	// windowWords has one word more than the window is long: the newest word
	// is rarely full, and the oldest is then still partly inside.
	windowWords = wire.ReplayWindow/wordBits + 1
)

// A window remembers which counters were seen among the newest ReplayWindow, in
// a ring of bits as in RFC 6479: it moves by clearing whole words and never
// shifts. The zero value has seen nothing. It must not be used concurrently.
//
// Checking and marking are apart because a counter may be marked only once its
// datagram was opened: otherwise forgeries could use up counters to come.
// Protocol 4.7.
type window struct {
	next uint64 // newest counter seen, plus one
	bits [windowWords]uint64
}

// check reports whether counter is neither seen nor older than the window.
func (w *window) check(counter uint64) bool {
	if counter >= w.next {
		return true
	}
	if w.next-counter > wire.ReplayWindow {
		return false
	}
	word, bit := place(counter)
	return w.bits[word]&bit == 0
}

// mark remembers a counter that check allowed.
func (w *window) mark(counter uint64) {
	if counter >= w.next {
		// The words from the first one that held nothing yet up to the
		// counter's own are from the last time around.
		first := (w.next + wordBits - 1) / wordBits
		last := counter / wordBits
		for i := first; i <= last && i-first < windowWords; i++ {
			w.bits[i%windowWords] = 0
		}
		w.next = counter + 1
	}
	word, bit := place(counter)
	w.bits[word] |= bit
}

// place finds the bit of a counter.
func place(counter uint64) (word, bit uint64) {
	return counter / wordBits % windowWords, 1 << (counter % wordBits)
}
