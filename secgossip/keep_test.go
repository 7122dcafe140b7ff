package secgossip

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/pki"
)

// rotating is a host whose epochs are rotated that often, with the log it writes.
func (h *host) rotating(every time.Duration) *logBuffer {
	log := new(logBuffer)
	h.settings = func(c *Config) {
		c.RotateEvery = every
		c.Logger = slog.New(slog.NewTextHandler(log, nil))
	}
	return log
}

func TestEpochsAreRotatedByAge(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.host("a"), c.host("b", pki.RoleKeeper), c.host("d")
		logs := []*logBuffer{a.rotating(10 * time.Minute), b.rotating(10 * time.Minute), d.rotating(10 * time.Minute)}
		a.start()
		b.start().join(a)
		d.start().join(a)
		time.Sleep(35 * time.Minute)
		for _, h := range []*host{a, b, d} {
			if got := h.epochs(); got != "4*" {
				t.Errorf("after 35 minutes %s holds %q, want %q", h.name, got, "4*")
			}
		}
		if len(lines(logs[0], "epoch rotated")) != 3 || len(lines(logs[1], "epoch rotated")) != 0 {
			t.Errorf("a rotated %d times and b %d times, want the keeper with the lowest name alone",
				len(lines(logs[0], "epoch rotated")), len(lines(logs[1], "epoch rotated")))
		}
		a.crash() // the next one takes over
		time.Sleep(11 * time.Minute)
		if got := primaries(b, d); len(got) != 1 || !strings.HasPrefix(got[0], "5 ") {
			t.Errorf("ten minutes after a is gone they seal with %q, want epoch 5", got)
		}
		a.start().join(d)
		c.settle()
		c.wantOne(a, b, d)
	})
}

// The keeper is gone when everybody holds the new epoch and nobody uses it. Nobody
// need do anything: the next keeper goes on with it once it sees that the first is
// gone, or the same one when it is back. Neither waits for time that nobody uses.
func TestRotationThatWasCutShortIsResumed(t *testing.T) {
	for _, another := range []bool{true, false} {
		inBubble(t, func(t *testing.T, c *cluster) {
			a, d := c.host("a"), c.host("d")
			b := c.host("b")
			if another {
				b = c.host("c", pki.RoleKeeper)
			}
			a.start()
			b.start().join(a)
			d.start().join(a)
			c.settle()
			begin, install, err := a.node.beginEpoch("operator")
			if err != nil {
				t.Fatal(err)
			}
			a.node.carry(t.Context(), install, StepInstalled, func(Progress) {}, installed(begin.Number))
			a.crash()
			if got := d.epochs(); got != "1* 2" {
				t.Fatalf("d holds %q, want %q", got, "1* 2")
			}
			time.Sleep(unfinished / 2)
			if !another {
				a.start().join(d)
				time.Sleep(unfinished / 4)
			}
			if got := primaries(b, d); len(got) != 1 || !strings.HasPrefix(got[0], "2 ") {
				t.Errorf("another keeper %t: they seal with %q, want epoch 2", another, got)
			}
			if another {
				a.start().join(d)
			}
			c.settle()
			c.wantOne(a, b, d)
			if got := d.epochs(); got != "2*" {
				t.Errorf("another keeper %t: d holds %q, want %q", another, got, "2*")
			}
		})
	}
}

// A live member that cannot take the new epoch keeps the old one alive. When it can,
// the old one goes by itself.
func TestEpochThatWasKeptForAMemberGoesAfterwards(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		if err := os.Rename(d.state, d.state+".gone"); err != nil {
			t.Fatal(err)
		}
		c.rotate(a)
		time.Sleep(5 * time.Minute)
		if got := a.epochs() + ", " + b.epochs(); got != "1 2*, 1 2*" {
			t.Errorf("while d needs epoch 1 a and b hold %s", got)
		}
		if err := os.Rename(d.state+".gone", d.state); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		for _, h := range []*host{a, b, d} {
			if got := h.epochs(); got != "2*" {
				t.Errorf("afterwards %s holds %q, want %q", h.name, got, "2*")
			}
		}
	})
}

// Without a keeper the cluster goes on, and says so once an hour.
func TestClusterWithoutAKeeperGoesOnAndSaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.host("a"), c.host("b"), c.host("d")
		log := d.rotating(10 * time.Minute)
		a.start()
		b.start().join(a)
		d.start().join(a)
		c.settle()
		a.crash()
		time.Sleep(9 * time.Minute)
		if got := len(lines(log, "no keeper is alive")); got != 0 {
			t.Errorf("%d warnings before the epoch's time is over", got)
		}
		time.Sleep(warnEvery + 10*time.Minute)
		if got := len(lines(log, "no keeper is alive")); got != 2 {
			t.Errorf("%d warnings in an hour and ten minutes, want 2", got)
		}
		if err := c.client("memo", "event:*").fire(b, "deploy", ""); err != nil {
			t.Fatal(err)
		}
		c.settle()
		if got := len(d.seen.names()); got != 1 {
			t.Errorf("d heard of %d events, want 1", got)
		}
	})
}

func TestEpochsHaveAShortestLife(t *testing.T) {
	_, err := New(Config{RotateEvery: MinRotateEvery - 1})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint(MinRotateEvery)) {
		t.Errorf("got %v, want the shortest life of an epoch", err)
	}
}
