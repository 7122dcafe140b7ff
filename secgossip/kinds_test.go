package secgossip

import (
	"slices"
	"testing"
	"time"
)

// Of a member that is gone already everybody was told that it is. That it is evicted is
// news all the same.
func TestEvictionOfAMemberThatFailedIsToldAsThatAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		d.crash()
		time.Sleep(time.Minute)
		a.revoke(VerbEvict, "d")
		c.settle()
		for _, h := range []*host{a, b} {
			got := slices.DeleteFunc(h.seen.memberEvents(), func(e string) bool { return e[len(e)-1] != 'd' })
			if want := []string{"member-join d", "member-failed d", "member-evict d"}; !slices.Equal(got, want) {
				t.Errorf("%s was told %q, want %q", h.name, got, want)
			}
		}
	})
}

func TestNodesTellEveryStepOfAnEpochsLife(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		c.rotate(a)
		d.stop()
		a.revoke(VerbEvict, "d")
		c.settle()
		want := []string{
			`install 2 by "a" for "operator"`, `use 2 by "a" for "operator"`, `remove 1 by "a" for "init"`,
			`install 3 by "a" for "revocation"`, `use 3 by "a" for "revocation"`, `remove 2 by "a" for "operator"`,
		}
		for _, h := range []*host{a, b} {
			if got := h.seen.epochEvents(); !slices.Equal(got, want) {
				t.Errorf("%s was told %q, want %q", h.name, got, want)
			}
		}
		b.stop()
		b.seen.epochs = nil
		b.start().join(a)
		c.settle()
		if got := b.seen.epochEvents(); len(got) > 0 {
			t.Errorf("after a restart b is told %q as news", got)
		}
	})
}
