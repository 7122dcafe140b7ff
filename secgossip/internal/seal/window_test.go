package seal

import (
	"testing"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
	"pgregory.net/rapid"
)

// A naiveWindow is what a window must do, written so that it cannot be wrong.
type naiveWindow struct {
	seen   map[uint64]bool
	newest uint64
}

func (w *naiveWindow) check(counter uint64) bool {
	tooOld := len(w.seen) > 0 && counter+wire.ReplayWindow <= w.newest
	return !w.seen[counter] && !tooOld
}

func (w *naiveWindow) mark(counter uint64) {
	w.seen[counter] = true
	w.newest = max(w.newest, counter)
}

func TestWindowIsLikeASetOfTheNewestCounters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var got window
		want := naiveWindow{seen: make(map[uint64]bool)}
		// Near the newest, at the edges of words and of the window, far away.
		step := rapid.OneOf(
			rapid.Int64Range(-3, 3),
			rapid.Int64Range(-wire.ReplayWindow-130, wire.ReplayWindow+130),
			rapid.SampledFrom([]int64{
				-wire.ReplayWindow - 1, -wire.ReplayWindow, -wire.ReplayWindow + 1, -64, -63, 63, 64, 65,
				wire.ReplayWindow - 1, wire.ReplayWindow, wire.ReplayWindow + 63, wire.ReplayWindow + 64, 3 * wire.ReplayWindow,
			}),
		)
		start := rapid.SampledFrom([]uint64{0, 1, 63, 64, wire.ReplayWindow, wire.StopAfter - 1}).Draw(t, "start")
		for i := range 300 {
			counter := start
			if i > 0 {
				counter = uint64(max(0, int64(want.newest)+step.Draw(t, "step")))
			}
			if g, w := got.check(counter), want.check(counter); g != w {
				t.Fatalf("counter %d with %d the newest: got %t, want %t", counter, want.newest, g, w)
			}
			// An unmarked check must change nothing: a forgery used no counter.
			if got.check(counter) && rapid.IntRange(0, 3).Draw(t, "mark") > 0 {
				got.mark(counter)
				want.mark(counter)
			}
		}
	})
}

func TestNewWindowAcceptsTheFirstCounterOnce(t *testing.T) {
	for _, counter := range []uint64{0, 1, 63, 64, 65, wire.ReplayWindow, wire.StopAfter - 1} {
		var w window
		if !w.check(counter) {
			t.Errorf("counter %d: refused at first", counter)
		}
		w.mark(counter)
		if w.check(counter) {
			t.Errorf("counter %d: accepted again", counter)
		}
	}
}

// A full window's length of counters, each once, in descending order.
func TestWindowHoldsItsWholeLength(t *testing.T) {
	for _, newest := range []uint64{wire.ReplayWindow - 1, wire.ReplayWindow, 5*wire.ReplayWindow + 17} {
		var w window
		w.mark(newest)
		for behind := uint64(1); behind < wire.ReplayWindow; behind++ {
			if !w.check(newest - behind) {
				t.Fatalf("newest %d: %d behind it: refused at first", newest, behind)
			}
			w.mark(newest - behind)
			if w.check(newest - behind) {
				t.Fatalf("newest %d: %d behind it: accepted again", newest, behind)
			}
		}
		if newest >= wire.ReplayWindow && w.check(newest-wire.ReplayWindow) {
			t.Errorf("newest %d: %d behind it: accepted", newest, wire.ReplayWindow)
		}
	}
}
