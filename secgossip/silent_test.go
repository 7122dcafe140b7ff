package secgossip

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Five of fifty fall silent and nobody knows it yet. A query names exactly these five, at
// its deadline and no later; so does a rotation, which carries all others along. When
// they are back they follow, though the epoch that they have is gone.
func TestFiveSilentOfFiftyAreNamedAndHoldNobodyUp(t *testing.T) {
	if testing.Short() {
		t.Skip("fifty nodes take a few seconds")
	}
	const size, silent = 50, 5
	inBubble(t, func(t *testing.T, c *cluster) {
		var all []*host
		for i := range size {
			h := c.host(fmt.Sprintf("n%02d", i)).start()
			if all = append(all, h); i > 0 {
				h.join(all[0])
			}
			answering(byName, h)
		}
		c.settle()
		first, away := all[0], all[size-silent:]
		var want []string
		for _, h := range away {
			want = append(want, h.name)
		}
		cut := func(change func(from, to *host)) {
			for _, h := range away {
				for _, other := range all {
					change(h, other)
					change(other, h)
				}
			}
		}
		cut(func(from, to *host) { c.net.Block(from.addr.Addr(), to.addr.Addr()) })

		got := c.client("memo", "query:*").ask(first, "load", nil)
		if !slices.Equal(got.missing, want) || len(got.acks) != size-silent || len(got.answers) != size-silent {
			t.Errorf("%d acks, %d answers, missing %v, want %d of each and %v", len(got.acks), len(got.answers), got.missing, size-silent, want)
		}
		// Serf's timeout for two digits' worth of nodes: 200 ms by 16 by 2.
		if timeout := 6400 * time.Millisecond; got.took != timeout {
			t.Errorf("the query took %v, want %v", got.took, timeout)
		}

		begin := time.Now()
		rotation := c.rotate(first)
		if !slices.Equal(rotation.Missing, want) || rotation.Using != size-silent || !rotation.Removed {
			t.Errorf("rotation ended as %+v, want that it names %v", rotation, want)
		}
		if took := time.Since(begin); took > 2*rotateDeadline {
			t.Errorf("the rotation took %v", took)
		}

		cut(func(from, to *host) { c.net.Unblock(from.addr.Addr(), to.addr.Addr()) })
		behind := away
		for begin := time.Now(); len(behind) > 0 && time.Since(begin) < time.Minute; time.Sleep(time.Second) {
			behind = slices.DeleteFunc(behind, func(h *host) bool {
				_, primary := h.node.EpochState()
				return primary == rotation.Epoch
			})
		}
		for _, h := range behind {
			t.Errorf("%s does not seal with epoch %d", h.name, rotation.Epoch)
		}
	})
}
