package secgossip

import (
	"strings"
	"testing"
	"time"
)

// No member alone seals as much: it is what all of them say that is counted.
func TestEpochIsRotatedByTheVolumeOfAllMembers(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		const mark = 6000
		a, b, d := c.host("a"), c.host("b"), c.host("d")
		log := a.rotating(7 * 24 * time.Hour)
		settings := a.settings
		a.settings = func(c *Config) { settings(c); c.volumeMark = mark }
		a.start()
		b.start().join(a)
		d.start().join(a)
		var own, all uint64
		for range 60 {
			time.Sleep(time.Minute)
			if len(lines(log, "epoch rotated")) > 0 {
				break
			}
			own, all = a.node.transport.Sealed(1), a.node.Epochs()[0].Sealed
		}
		if got := lines(log, "epoch rotated"); len(got) != 1 || !strings.Contains(got[0], "reason=volume") {
			t.Fatalf("a has sealed %d and heard of %d, and logs %q, want one rotation by volume", own, all, got)
		}
		if own > mark/2 || all <= own {
			t.Errorf("a alone sealed %d of the %d it knew of: the others need not have been counted", own, all)
		}
		if got := primaries(a, b, d); len(got) != 1 || !strings.HasPrefix(got[0], "2 ") {
			t.Errorf("they seal with %q, want epoch 2", got)
		}
	})
}

func TestMembersThatWereNotHeardAreAsked(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		time.Sleep(freshFor) // until then nodes that are there are asked in any case
		heard := func(h *host) time.Time { return a.node.transport.Seen(a.node.roster.Get(h.identity.Name)).Synced }
		before := []time.Time{heard(b), heard(d)}
		a.node.hearSome(t.Context(), time.Minute)
		if !heard(b).Equal(before[0]) || !heard(d).Equal(before[1]) {
			t.Error("members that were just heard are asked")
		}
		a.node.hearSome(t.Context(), time.Second)
		if !heard(b).After(before[0]) || !heard(d).After(before[1]) {
			t.Errorf("heard at %v and %v, as before: members that were not heard for long are not asked", heard(b), heard(d))
		}
	})
}

func TestLiarDoesNotRotateTheCluster(t *testing.T) {
	const lie = 1<<64 - 1
	for age := time.Duration(0); age <= DefaultRotateEvery; age += time.Minute {
		if dueByVolume(countSealed(1000, []uint64{lie}, age), age, volumeMark) {
			t.Fatalf("one liar makes an epoch due after %v, before it is so by age", age)
		}
	}
	all := make([]uint64, 4095)
	for i := range all {
		all[i] = lie
	}
	if age := minVolumeAge - time.Second; dueByVolume(countSealed(lie/2, all, age), age, volumeMark) {
		t.Errorf("a cluster of liars makes an epoch due after %v", age)
	}
	for _, age := range []time.Duration{-time.Hour, 1<<63 - 1} {
		if got := countSealed(5, all, age); got < 5 || got > 1<<63 {
			t.Errorf("of an epoch that is %v old %d datagrams are counted: it overflows", age, got)
		}
	}
}

func TestVolumeIsCountedOverAllMembers(t *testing.T) {
	age := 20 * time.Minute
	quarter := uint64(volumeMark / 4)
	if got := countSealed(quarter, []uint64{quarter, quarter}, age); got != 3*quarter || dueByVolume(got, age, volumeMark) {
		t.Errorf("three quarters of the mark: %d, or already due", got)
	}
	if got := countSealed(quarter, []uint64{quarter, quarter, quarter}, age); !dueByVolume(got, age, volumeMark) {
		t.Errorf("the mark of %d is reached with %d and nothing is due", uint64(volumeMark), got)
	}
}
