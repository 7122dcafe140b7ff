package transport

import (
	"net/netip"
	"testing"
	"time"
)

// walk lets a path's checks come due until some time has passed, and returns when
// challenges were sent, counted from now, and what they asked.
func (p *path) walk(now *time.Time, d time.Duration, endpoints ...netip.AddrPort) (at []time.Duration, tries []uint8, to []netip.AddrPort) {
	start := *now
	for ; now.Sub(start) < d; *now = now.Add(time.Second) {
		if !p.due(*now, checkEvery) {
			continue
		}
		c, endpoint := p.ask(*now, [8]byte{1, byte(len(at))}, endpoints)
		at, tries, to = append(at, now.Sub(start)), append(tries, c.Try), append(to, endpoint)
	}
	return at, tries, to
}

func TestPathIsBlockedAfterSixChallengesWithoutAnAnswer(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	one, two := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2")
	var p path
	if blocked := p.use(now); blocked {
		t.Fatal("a new path is blocked")
	}
	at, tries, to := p.walk(&now, 6*time.Second, one, two)
	if len(at) != 6 || tries[5] != 5 || to[0] != one || to[1] != two || to[2] != one {
		t.Errorf("challenges at %v, tries %v, to %v: want one a second to each endpoint in turn", at, tries, to)
	}
	if p.use(now) {
		t.Error("blocked before the sixth challenge had its second")
	}
	at, tries, _ = p.walk(&now, 11*time.Second, one, two)
	if len(at) != 3 || at[0] != 0 || at[1] != blockedEvery || tries[0] != 6 {
		t.Errorf("blocked: challenges at %v, tries %v, want one every %v", at, tries, blockedEvery)
	}
	if !p.use(now) {
		t.Error("not blocked")
	}
}

// A ticker that comes a little early must not double the time that a check takes.
func TestCheckTakesSixSecondsWhateverTheTickerDoes(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	one := netip.MustParseAddrPort("192.0.2.1:1")
	var p path
	p.use(now)
	for i := range 6 {
		at := now.Add(time.Duration(i) * tryEvery)
		if i%2 == 1 {
			at = at.Add(-time.Millisecond)
		}
		if !p.due(at, checkEvery) {
			t.Fatalf("no challenge at the %dth tick", i)
		}
		p.ask(at, [8]byte{byte(i)}, []netip.AddrPort{one})
		if p.due(at.Add(tryEvery/4), checkEvery) {
			t.Errorf("another one a quarter of a second after the %dth", i)
		}
	}
	if end := now.Add(6*tryEvery - time.Millisecond); !p.due(end, checkEvery) || !p.use(end) {
		t.Error("not blocked after six seconds")
	}
}

func TestAnyAnswerOpensThePathAndNamesTheEndpoint(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	one, two := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2")
	var p path
	p.use(now)
	p.walk(&now, 10*time.Second, one, two)
	if !p.use(now) || !p.carried(now) || p.carried(now) {
		t.Fatal("not blocked, or not told of once")
	}
	// The newest six are known; this one is too old, and that one was never sent.
	for _, token := range [][8]byte{{1, 0}, {2, 3}, {}} {
		if _, _, ok := p.answered(token); ok {
			t.Errorf("%v is taken for an answer", token)
		}
	}
	sent, reopened, ok := p.answered([8]byte{1, 3})
	if !ok || !reopened || sent.to != two {
		t.Errorf("got %v, %t, %t, want %v, true, true", sent.to, reopened, ok, two)
	}
	if p.use(now) || !p.isKnown() {
		t.Error("still blocked, or not known to work")
	}
	if _, _, ok := p.answered([8]byte{1, 3}); ok {
		t.Error("one answer counts twice")
	}
	if asked, _, _ := p.walk(&now, checkEvery-blockedEvery, one); len(asked) != 0 {
		t.Errorf("a path that works is asked at %v", asked)
	}
}

func TestPathThatNobodyUsesIsLeftAlone(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	one := netip.MustParseAddrPort("192.0.2.1:1")
	var p path
	if at, _, _ := p.walk(&now, time.Minute, one); len(at) != 0 {
		t.Errorf("challenges at %v before the first use", at)
	}
	p.use(now)
	p.walk(&now, pathUsed+blockedEvery, one)
	if at, _, _ := p.walk(&now, time.Hour, one); len(at) != 0 {
		t.Errorf("challenges at %v long after the last use", at)
	}
	// What was found out holds until it is found out otherwise, which is tried at once:
	// a packet now and then must not get lost each time.
	if !p.use(now) || !p.due(now, checkEvery) {
		t.Error("used again the path is not blocked, or is not asked at once")
	}
}

// Threat N15: who can drop datagrams makes a path come and go as it likes.
func TestPathThatComesAndGoesIsToldOfNowAndThen(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	one := netip.MustParseAddrPort("192.0.2.1:1")
	var p path
	var told, opened int
	for begin := now; now.Sub(begin) < time.Hour; {
		p.use(now)
		p.walk(&now, 40*time.Second, one)
		if p.carried(now) {
			told++
		}
		if _, reopened, _ := p.answered(p.sent[0].token); reopened {
			opened++
		}
	}
	if told < 3 || told > 7 || opened > told {
		t.Errorf("told %d times of a blocked path and %d times of an open one in an hour", told, opened)
	}
}

func TestPeerThatMovedIsAskedAtOnce(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	one := netip.MustParseAddrPort("192.0.2.1:1")
	var p path
	p.use(now)
	p.walk(&now, time.Second, one)
	p.answered([8]byte{1, 0})
	p.renew()
	if p.isKnown() || !p.due(now, checkEvery) {
		t.Error("a new endpoint is taken for one that works")
	}
}
