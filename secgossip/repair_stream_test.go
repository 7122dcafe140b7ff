package secgossip

import (
	"slices"
	"testing"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// cutDatagrams lets nothing to and from a host but streams.
func (c *cluster) cutDatagrams(of *host) {
	for _, other := range c.hosts {
		c.net.BlockUDP(of.addr.Addr(), other.addr.Addr())
		c.net.BlockUDP(other.addr.Addr(), of.addr.Addr())
	}
}

func TestNodeThatNoDatagramReachesHasWhatItMissedWhenItHasJoined(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		client := c.client("memo", "event:*")
		b.crash()
		c.cutDatagrams(b)
		want := client.ticks(a, nil, 30, 0)
		c.settle()
		b.start().join(d)
		time.Sleep(time.Millisecond)
		if got := b.seen.names(); !slices.Equal(got, want) {
			t.Errorf("b got %d events %q, want %d in order", len(got), got, len(want))
		}
	})
}

// What is more than goes beside a join comes by streams made for it.
func TestLongAbsenceIsMadeUpByStreamsAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		client := c.client("memo", "event:*")
		b.crash()
		c.cutDatagrams(b)
		want := client.ticks(a, nil, 300, 10*time.Millisecond)
		c.settle()
		b.start().join(d)
		opened := b.node.transport.Counters()["streams_opened"]
		time.Sleep(time.Second) // no path is known to be blocked yet, so nothing is carried
		if got := b.seen.names(); !slices.Equal(got, want) {
			t.Errorf("b got %d events, want %d in order", len(got), len(want))
		}
		counters := b.node.transport.Counters()
		if n := counters["streams_opened"] - opened; n > 5 || counters["packets_carried"] > 0 {
			t.Errorf("b opened %d streams and sent %d packets by carrier, want 5 streams at most", n, counters["packets_carried"])
		}
	})
}

// Threat C10: a member that lies about what it has is asked again only while it brings
// what is new.
func TestWhoSaysItHasMoreIsAskedAgainOnlyWhenItBroughtSomething(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		client := c.client("memo", "event:*")
		time.Sleep(freshFor + time.Second) // until then they meet anyway
		lie := b.node.store.whole()
		lie.Entries = append(lie.Entries, wire.TallyEntry{Origin: wire.Origin{Node: lie.To}, Next: 1 << 20})
		bring := func(items ...[]byte) uint64 {
			before := b.node.transport.Counters()["streams_opened"]
			streamRepair{b.node}.Take(b.node.roster.Get("a"), b.node.store.whole(), lie, items)
			time.Sleep(2 * morePause)
			return b.node.transport.Counters()["streams_opened"] - before
		}
		news := a.mark(1, client.sign("deploy", ""))
		if n := bring(news); n != 1 {
			t.Errorf("after something new b opened %d streams, want 1", n)
		}
		for name, items := range map[string][][]byte{
			"nothing":     nil,
			"the same":    {news},
			"what is bad": {a.mark(2, []byte("no event")), []byte("no mark")},
		} {
			if n := bring(items...); n != 0 {
				t.Errorf("after %s b opened %d streams, want none", name, n)
			}
		}
	})
}
