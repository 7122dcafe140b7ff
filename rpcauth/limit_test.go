package rpcauth

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func pass() bool { return true }
func fail() bool { return false }

func TestASourceThatFailsIsHeardOnceASecond(t *testing.T) {
	l := newLimiter()
	here, elsewhere := prefix("192.0.2.1/32"), prefix("192.0.2.2/32")
	heard := 0
	for range 100 {
		if l.attempt(start, here, callerKey{}, fail) {
			heard++
		}
	}
	if heard != sourceBurst {
		t.Errorf("100 failures at once: %d heard, want %d", heard, sourceBurst)
	}
	if l.attempt(start, here, callerKey{1}, pass) {
		t.Error("a caller without standing is heard from a source that has no attempts left")
	}
	if !l.attempt(start, elsewhere, callerKey{}, fail) {
		t.Error("another source pays for this one's failures")
	}
	for second := 1; second <= 5; second++ {
		at, heard := start.Add(time.Duration(second)*time.Second), 0
		for range 100 {
			if l.attempt(at, here, callerKey{}, fail) {
				heard++
			}
		}
		if heard != 1 {
			t.Errorf("second %d: %d heard, want 1", second, heard)
		}
	}
}

// K08: 100,000 tries from 1,000 sources within a minute.
func TestAllSourcesTogetherAreHeard1200TimesAMinute(t *testing.T) {
	l := newLimiter()
	heard := 0
	for try := range 100_000 {
		at := start.Add(time.Duration(try) * time.Minute / 100_000)
		source := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(try >> 8 % 4), byte(try)}), 32)
		if l.attempt(at, source, callerKey{}, fail) {
			heard++
		}
	}
	if heard > 1200 || heard < 1100 {
		t.Errorf("%d tries heard, want 1,200 at most and not far fewer", heard)
	}
	if got := len(l.sources); got > maxSources {
		t.Errorf("%d sources in memory, want at most %d", got, maxSources)
	}
}

func TestWhoSucceedsIsNotSlowedByThoseWhoFail(t *testing.T) {
	l := newLimiter()
	here := prefix("192.0.2.1/32")
	good := callerKey{1}
	if !l.attempt(start, here, good, pass) {
		t.Fatal("the first call was not heard")
	}
	for range 1000 {
		l.attempt(start, here, callerKey{}, fail)                    // the same source has no attempts left
		l.attempt(start, prefix("192.0.2.2/32"), callerKey{2}, fail) // nor have all together
		if !l.attempt(start, here, good, pass) {
			t.Fatal("a caller with standing was turned away")
		}
	}
	for range 1000 {
		l.attempt(start, prefix("192.0.2.3/32"), callerKey{3}, pass)
	}
	if l.attempt(start, here, good, fail); l.attempt(start, here, good, pass) {
		t.Error("standing outlived a failure")
	}
}

func TestSuccessesCostNoAttempts(t *testing.T) {
	l := newLimiter()
	here := prefix("2001:db8::/64")
	for i := range 1000 {
		if !l.attempt(start, here, callerKey{byte(i), byte(i >> 8)}, pass) {
			t.Fatalf("newcomer %d was turned away though nobody had failed", i)
		}
	}
}

// Else many at once would all be heard on the last attempt left.
func TestCallersWithoutStandingAreCheckedOneAtATime(t *testing.T) {
	l := newLimiter()
	var heard, inside atomic.Int64
	check := func() bool {
		if inside.Add(1) > 1 {
			t.Error("two are checked at once")
		}
		for range 100 {
			runtime.Gosched()
		}
		inside.Add(-1)
		return false
	}
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 20 {
				if l.attempt(start, prefix("192.0.2.1/32"), callerKey{}, check) {
					heard.Add(1)
				}
			}
		})
	}
	group.Wait()
	if got := heard.Load(); got != sourceBurst {
		t.Errorf("%d heard, want %d", got, sourceBurst)
	}
}

// An insider who regains standing between failures is not bound by the total.
func TestTheTableOfSourcesIsBounded(t *testing.T) {
	l := newLimiter()
	for i := range 5 * maxSources {
		source := prefix(fmt.Sprintf("2001:db8:%x::/64", i))
		l.attempt(start, source, callerKey{1}, pass)
		l.attempt(start, source, callerKey{1}, fail)
		l.attempt(start.Add(time.Hour), source, callerKey{1}, pass)
	}
	if got := len(l.sources); got > maxSources {
		t.Errorf("%d sources in memory, want at most %d", got, maxSources)
	}
}

func TestCallersTurnedAwayAreNotedOnceASecond(t *testing.T) {
	l := newLimiter()
	if skipped, record := l.note(start); !record || skipped != 0 {
		t.Errorf("the first: skipped %d, record %v", skipped, record)
	}
	for range 500 {
		if _, record := l.note(start.Add(time.Millisecond)); record {
			t.Fatal("a second record in the same second")
		}
	}
	if skipped, record := l.note(start.Add(2 * time.Second)); !record || skipped != 500 {
		t.Errorf("two seconds later: skipped %d, record %v, want 500", skipped, record)
	}
}

func TestSourceIsWhatOneCallerIsSureToShare(t *testing.T) {
	for _, test := range []struct{ remote, want string }{
		{"192.0.2.1:4711", "192.0.2.1/32"},
		{"[::ffff:192.0.2.1]:4711", "192.0.2.1/32"},
		{"[2001:db8:1:2:3:4:5:6]:4711", "2001:db8:1:2::/64"},
		{"[fe80::1%eth0]:4711", "fe80::/64"},
		{"[fe80::2%eth1]:4711", "fe80::/64"},
		{"@", "invalid Prefix"},
		{"", "invalid Prefix"},
		{"localhost:4711", "invalid Prefix"},
	} {
		if got := sourceOf(test.remote).String(); got != test.want {
			t.Errorf("source of %q: got %s, want %s", test.remote, got, test.want)
		}
	}
}
