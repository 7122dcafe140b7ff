package secgossip

import (
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/secgossip/secgossip/pki"
)

func TestOnlyMostClocksTogetherSayThatOursIsWrong(t *testing.T) {
	const h = time.Hour
	for _, test := range []struct {
		ahead     []time.Duration
		offset    time.Duration
		off, sure bool
	}{
		{nil, 0, false, true}, // alone
		{[]time.Duration{h}, 0, false, false},
		{[]time.Duration{-h}, 0, false, false},
		{[]time.Duration{0, h}, 0, false, true},
		{[]time.Duration{h, h}, h, true, false},
		{[]time.Duration{-h, -h}, -h, true, false},
		{[]time.Duration{h, -h}, 0, false, false},
		{[]time.Duration{0, h, h}, 0, false, false},
		{[]time.Duration{0, -h, -h}, 0, false, false},
		{[]time.Duration{h, h, h + time.Minute, 0}, h, true, false},
		{[]time.Duration{1 << 62, -1 << 62, 0, 0}, 0, false, true},
		{[]time.Duration{pki.Tolerance, pki.Tolerance}, pki.Tolerance, false, true},
	} {
		got := compareClocks(test.ahead)
		if got.offset != test.offset || got.isOff() != test.off || got.isSure() != test.sure {
			t.Errorf("clocks %v ahead: offset %v, off %t, sure %t; want %v, %t, %t", test.ahead, got.offset, got.isOff(), got.isSure(),
				test.offset, test.off, test.sure)
		}
	}
}

// wrong gives a host a clock that can be set wrong, and a log.
func (h *host) wrong() (ahead *atomic.Int64, log *logBuffer) {
	ahead, log = new(atomic.Int64), new(logBuffer)
	before := h.settings
	h.settings = func(c *Config) {
		if before != nil {
			before(c)
		}
		c.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		c.Logger = slog.New(slog.NewTextHandler(log, nil))
	}
	return ahead, log
}

// Threat N16: the clock of a keeper goes an hour wrong. It stays a member, says so
// once, begins no epoch, and follows those that another keeper begins.
func TestKeeperWithAWrongClockFollowsAndDoesNotAct(t *testing.T) {
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		inBubble(t, func(t *testing.T, c *cluster) {
			a, b, d := c.host("a"), c.host("b", pki.RoleKeeper), c.host("d")
			for _, h := range []*host{a, b, d} {
				h.rotating(3 * time.Hour)
			}
			ahead, log := a.wrong()
			_, logD := d.wrong()
			time.Sleep(3*time.Hour - 5*time.Minute) // certificates of now would not be valid an hour ago
			a.start()
			b.start().join(a)
			d.start().join(a)
			c.settle()
			ahead.Store(int64(off))
			time.Sleep(2 * time.Minute)
			if _, err := a.node.Rotate(t.Context(), func(Progress) {}); !errors.Is(err, ErrClock) || !strings.Contains(err.Error(), "1h0m0s") {
				t.Errorf("%v off: a is asked to rotate: %v, want ErrClock with the amount", off, err)
			}
			if got := a.node.ActingKeeper() + b.node.ActingKeeper() + d.node.ActingKeeper(); got != "bbb" {
				t.Errorf("%v off: a, b and d take %q to act, want b", off, got)
			}
			if got := a.node.Info()["clock"]["offset"]; got != (-off).String() {
				t.Errorf("info says offset %s, want %v", got, -off)
			}
			time.Sleep(5 * time.Minute)
			if got := primaries(a, b, d); len(got) != 1 || !strings.HasPrefix(got[0], "2 ") {
				t.Errorf("%v off: they seal with %q, want epoch 2", off, got)
			}
			c.rotate(b)
			if got := primaries(a, b, d); len(got) != 1 || !strings.HasPrefix(got[0], "3 ") {
				t.Errorf("%v off: rotated by hand on b they seal with %q, want epoch 3", off, got)
			}
			if got := d.statuses(); got != "a alive, b alive, d alive" {
				t.Errorf("%v off: d sees %s", off, got)
			}
			for _, text := range []string{"member-failed a", "member-failed b", "member-failed d"} {
				for _, h := range []*host{a, b, d} {
					if strings.Contains(strings.Join(h.seen.memberEvents(), ","), text) {
						t.Errorf("%v off: %s saw %s", off, h.name, text)
					}
				}
			}
			ahead.Store(0)
			time.Sleep(time.Minute) // until the others have read it again
			if got := a.node.ActingKeeper() + d.node.ActingKeeper(); got != "aa" {
				t.Errorf("when a's clock is right a and d take %q to act, want a", got)
			}
			c.wantOne(a, b, d)
			for what, want := range map[string]int{"the clock of this host is wrong": 1, "the clock is right again": 1} {
				if got := len(lines(log, what)); got != want {
					t.Errorf("a logs %q %d times, want %d", what, got, want)
				}
			}
			if got := lines(logD, "the clock of a node is wrong"); len(got) != 1 || !strings.Contains(got[0], "node=a") {
				t.Errorf("d logs %q, want one line that names a", got)
			}
		})
	}
}

// A node that starts with a wrong clock has read nobody's, and nobody its: it is not let
// in. Both ends say why, and once the clock is right it is a member again unaided.
func TestNodeThatStartsWithAWrongClockIsBackWhenItIsRight(t *testing.T) {
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		inBubble(t, func(t *testing.T, c *cluster) {
			a, b, d := c.host("a"), c.host("b"), c.host("d")
			time.Sleep(2 * time.Hour)
			ahead, log := d.wrong()
			_, logB := b.wrong()
			a.start()
			b.start().join(a)
			d.start().join(a)
			c.settle()
			d.stop()
			c.rotate(a)
			time.Sleep(time.Minute)
			ahead.Store(int64(off))
			d.start()
			time.Sleep(2 * time.Minute)
			if got := b.statuses(); got != "a alive, b alive, d failed" {
				t.Errorf("%v off: b sees %s", off, got)
			}
			const said = "knocks with a wrong time were refused: set the clock"
			if got := lines(log, said); len(got) == 0 || !strings.Contains(got[0], "offset="+(-off).String()) {
				t.Errorf("%v off: d logs %q, want how far others are ahead", off, got)
			}
			if got := lines(logB, said); len(got) == 0 || !strings.Contains(got[0], "offset="+off.String()) {
				t.Errorf("%v off: b logs %q, want how far d is ahead", off, got)
			}
			ahead.Store(0)
			time.Sleep(reconnectInterval + time.Second)
			c.wantOne(a, b, d)
		})
	}
}

// Of two clocks nobody can say which is right: no keeper begins an epoch by itself, both
// ends say so, and an operator still can.
func TestNoKeeperActsByItselfWhileTwoClocksDiffer(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.host("a"), c.host("b", pki.RoleKeeper)
		var logs []*logBuffer
		a.rotating(3 * time.Hour)
		b.rotating(3 * time.Hour)
		_, log := a.wrong()
		logs = append(logs, log)
		ahead, log := b.wrong()
		logs = append(logs, log)
		time.Sleep(3*time.Hour - 5*time.Minute)
		a.start()
		b.start().join(a)
		c.settle()
		ahead.Store(int64(-time.Hour))
		time.Sleep(10 * time.Minute)
		if got := a.epochs() + " " + b.epochs(); got != "1* 1*" {
			t.Errorf("five minutes after epoch 1 had its time a and b hold %s, want 1* 1*", got)
		}
		for i, log := range logs {
			if got := lines(log, "clocks differ"); len(got) != 1 {
				t.Errorf("node %d says %q, want once that clocks differ", i, got)
			}
		}
		if got := a.node.Info()["clock"]["right"]; got != "unknown" {
			t.Errorf("info says that the clock is right: %s, want unknown", got)
		}
		if _, err := a.node.Rotate(t.Context(), func(Progress) {}); err != nil {
			t.Errorf("an operator rotates: %v", err)
		}
	})
}

// What /metrics shows of a rotation, and of a member that is gone.
func TestFiguresFollowTheCluster(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, _, d := c.three()
		time.Sleep(time.Minute)
		if f := a.node.Figures(); f.Members[StatusAlive] != 3 || f.Epoch != 1 || f.Rotations != 0 || f.Keepers != 1 || f.Behind != 0 || f.Sealed == 0 {
			t.Errorf("of three nodes: %+v", f)
		}
		d.crash()
		time.Sleep(time.Minute)
		c.rotate(a)
		if f := a.node.Figures(); f.Members[StatusAlive] != 2 || f.Members[StatusFailed] != 1 || f.Epoch != 2 || f.Rotations != 1 || f.Behind != 0 {
			t.Errorf("when one is gone and an epoch was replaced: %+v", f)
		}
	})
}
