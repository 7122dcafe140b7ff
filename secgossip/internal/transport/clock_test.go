package transport

import (
	"testing"
	"time"
)

// Either end of a sync learns how much the other has sealed, and what time it is there.
func TestSyncTellsBothWhatWasSealedAndTheTime(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		b.wrong = 90 * time.Second
		a.gossip(b, ackOf(1))
		state, err := a.Sync(t.Context(), b.to())
		if err != nil {
			t.Fatal(err)
		}
		// At the least a's packet and a challenge.
		if got := b.Seen(b.of(a)); got.Said.Primary != 1 || got.Said.Sealed < 1 || got.Said.Sealed != a.Sealed(1) || got.Ahead != -b.wrong {
			t.Errorf("b knows of a %+v, want %d sealed and a clock %v behind", got, a.Sealed(1), b.wrong)
		}
		if got := a.Seen(a.of(b)); got.Said != state || state.Sealed != b.Sealed(1) || got.Ahead != b.wrong || got.Synced.IsZero() {
			t.Errorf("a knows of b %+v, want %d sealed and a clock %v ahead", got, b.Sealed(1), b.wrong)
		}
	})
}

// A path check reads the clock too: it needs no stream.
func TestAnsweredChallengeTellsTheTime(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.net.Delay(time.Second/4, time.Second/4)
		a, b := c.pair()
		b.wrong = -time.Hour
		a.gossip(b, ackOf(1))
		time.Sleep(3 * time.Second)
		if got := a.Seen(a.of(b)); got.Ahead != b.wrong || got.Read.IsZero() {
			t.Errorf("a reads b's clock as %v ahead at %v, want %v", got.Ahead, got.Read, b.wrong)
		}
		// Time goes on, there as here, also when this host's own clock is set.
		a.wrong = -time.Hour
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
