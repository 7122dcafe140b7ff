package transport

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Either end of a sync learns how much the other has sealed, and what time it is there.
func TestSyncTellsBothWhatWasSealedAndTheTime(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		const wrong = 90 * time.Second
		b.wrong.Store(int64(wrong))
		a.gossip(b, ackOf(1))
		state, err := a.Sync(t.Context(), b.to())
		if err != nil {
			t.Fatal(err)
		}
		// At the least a's packet and a challenge.
		if got := b.Seen(b.of(a)); got.Said.Primary != 1 || got.Said.Sealed < 1 || got.Said.Sealed != a.Sealed(1) || got.Ahead != -wrong {
			t.Errorf("b knows of a %+v, want %d sealed and a clock %v behind", got, a.Sealed(1), wrong)
		}
		if got := a.Seen(a.of(b)); got.Said != state || state.Sealed != b.Sealed(1) || got.Ahead != wrong || got.Synced.IsZero() {
			t.Errorf("a knows of b %+v, want %d sealed and a clock %v ahead", got, b.Sealed(1), wrong)
		}
	})
}

// A path check reads the clock too: it needs no stream.
func TestAnsweredChallengeTellsTheTime(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.net.Delay(time.Second/4, time.Second/4)
		a, b := c.pair()
		const wrong = -time.Hour
		b.wrong.Store(int64(wrong))
		a.gossip(b, ackOf(1))
		time.Sleep(3 * time.Second)
		if got := a.Seen(a.of(b)); got.Ahead != wrong || got.Read.IsZero() {
			t.Errorf("a reads b's clock as %v ahead at %v, want %v", got.Ahead, got.Read, wrong)
		}
		// Time goes on, there as here, also when this host's own clock is set.
		a.wrong.Store(int64(-time.Hour))
		time.Sleep(10 * time.Second)
		if got := a.Seen(a.of(b)); got.Ahead != 0 {
			t.Errorf("once a's clock is as wrong as b's, b's is %v ahead, want 0", got.Ahead)
		}
	})
}

// Whoever keeps answers back shifts what is read: what is too old is not read.
func TestClockIsNotReadFromALateAnswer(t *testing.T) {
	var p session
	sent := time.Now()
	p.readClock(sent, sent, sent.Add(streamTimeout+time.Millisecond))
	if p.clock.Load() != nil {
		t.Error("read from an answer that took longer than a sync may take")
	}
	p.readClock(sent, sent, sent.Add(streamTimeout))
	if p.clock.Load() == nil {
		t.Error("not read")
	}
}

// Threat N16: a host whose clock is an hour off is reached, and reaches others, by
// whoever has read the other's clock from datagrams.
func TestHostWithAWrongClockIsReachedByWhoeverReadIt(t *testing.T) {
	for _, wrong := range []time.Duration{time.Hour, -time.Hour} {
		inBubble(t, func(t *testing.T, c *cluster) {
			a, b := c.pair()
			time.Sleep(2 * time.Hour) // a certificate that was just issued is not valid an hour ago
			b.wrong.Store(int64(wrong))
			for _, n := range []*node{a, b} {
				to := b
				if n == b {
					to = a
				}
				if _, err := n.Sync(t.Context(), to.to()); err == nil || !strings.Contains(err.Error(), "clock") {
					t.Errorf("clock %v off, unread: %s reaches %s: %v; want an error that names the clock", wrong, n.name, to.name, err)
				}
			}
			for _, n := range []*node{a, b} {
				to := b
				if n == b {
					to = a
				}
				n.gossip(to, ackOf(1))
				time.Sleep(3 * tryEvery)
				if _, err := n.Sync(t.Context(), to.to()); err != nil {
					t.Errorf("clock %v off: %s does not reach %s: %v", wrong, n.name, to.name, err)
				}
			}
		})
	}
}

// The clock there was set since it was read: the next knock bears the cluster's time.
func TestClockThatWasSetSinceItWasReadCostsOneKnock(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		b.wrong.Store(int64(time.Hour))
		a.gossip(b, ackOf(1))
		time.Sleep(3 * tryEvery)
		b.wrong.Store(int64(0))
		if _, err := a.Sync(t.Context(), b.to()); err == nil {
			t.Error("a knock an hour ahead is accepted")
		}
		if _, err := a.Sync(t.Context(), b.to()); err != nil {
			t.Errorf("the next one is not: %v", err)
		}
	})
}

// A dialler that is refused for its time is not told so. The operator is, and not more
// often than this for whoever repeats old knocks.
func TestRefusedForTheTimeAloneIsSaidOnceInAWhile(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		b := c.node("b").start()
		const said = "knocks with a wrong time were refused: set the clock"
		for range 9 {
			conn := dialFrom(t, c, "198.51.100.66", b)
			conn.Write(c.knockFor(b, time.Now().Add(-time.Hour)))
			hearOut(conn)
			conn.Close()
			time.Sleep(summaryInterval)
		}
		synctest.Wait()
		if log := b.log.String(); strings.Count(log, said) != 1 || !strings.Contains(log, "offset=-1h0m0s") {
			t.Errorf("after nine such knocks in nine minutes: want one line with the amount, got\n%s", log)
		}
	})
}
