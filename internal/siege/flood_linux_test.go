package siege

import (
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkJunkFlood sends junk to one of five agents, as fast as one core can
// and at a fixed rate. Meanwhile agents are killed, and must be found as if
// nothing were the matter.
func BenchmarkJunkFlood(b *testing.B) {
	for range b.N {
		junkFlood(b)
	}
}

const (
	floodTime  = 20 * time.Second
	floodPace  = 20_000 // datagrams a second
	floodKills = 3      // a probe may come at once or a second later: one kill says little
)

func junkFlood(b *testing.B) {
	c := newCluster(b, 5)
	c.startAll()
	target, victim := c.nodes[1], c.nodes[4]

	var quiet, loud []time.Duration
	for range floodKills {
		quiet = append(quiet, c.timeToFind(victim))
	}
	b.Logf("quiet: a killed agent is found by all others after %s", quiet)

	flood := func(what string, pace int, during func()) cost {
		before, err := c.Counters(b.Context(), keeper, target)
		c.must(err)
		lostBefore, err := socketDrops(target.Gossip)
		c.must(err)
		m := c.mark()
		w := c.watch(target)
		f := startFlood(b, target.Gossip, pace)
		select {
		case <-time.After(floodTime):
		case <-b.Context().Done():
		}
		sent := f.sent.Load()
		costs := w.end()
		now, err := c.Counters(b.Context(), keeper, target)
		c.must(err)
		lost, err := socketDrops(target.Gossip)
		c.must(err)
		wrong := c.failures(m, nil)
		if during != nil {
			during()
		}
		f.end()
		dropped := now["drop_size"] + now["drop_door"] - before["drop_size"] - before["drop_door"]
		genuine := now["packets_received"] - before["packets_received"]
		seconds := costs.took.Seconds()
		b.Logf("%s: %.0f datagrams/s sent, %.0f/s looked at and dropped, %.0f/s lost in the full socket, %.1f/s of members accepted; %s",
			what, float64(sent)/seconds, float64(dropped)/seconds, float64(lost-lostBefore)/seconds, float64(genuine)/seconds, costs)
		if len(wrong) > 0 {
			b.Errorf("%s: live agents were called failed: %q", what, wrong)
		}
		costs.check(b, what)
		b.ReportMetric(float64(sent)/seconds, what+"-sent/s")
		b.ReportMetric(float64(dropped)/seconds, what+"-dropped/s")
		b.ReportMetric(float64(genuine)/seconds, what+"-accepted/s")
		b.ReportMetric(float64(len(wrong)), what+"-false-failures")
		b.ReportMetric(costs.cores, what+"-cores")
		b.ReportMetric(float64(costs.grown)/mib, what+"-MiB-grown")
		b.ReportMetric(float64(costs.logLines)/seconds, what+"-log-lines/s")
		b.ReportMetric(float64(costs.logBytes), what+"-log-bytes")
		return costs
	}

	flood("flood", 0, func() {
		for range floodKills {
			loud = append(loud, c.timeToFind(victim))
		}
	})
	b.Logf("flood: a killed agent is found by all others after %s", loud)
	c.must(c.AwaitAlive(b.Context(), keeper, c.nodes))
	flood(fmt.Sprintf("at-%d/s", floodPace), floodPace, nil)

	b.ReportMetric(median(quiet).Seconds(), "quiet-s-to-find")
	b.ReportMetric(median(loud).Seconds(), "flood-s-to-find")
	b.ReportMetric(median(loud).Seconds()/median(quiet).Seconds(), "times-quiet")
}

// A batch is what one system call sends: datagrams of one length, which the kernel
// cuts from one write. Sent one by one, a core sends a sixth of that.
const batch = 32

// udpSegment is the socket option for it, UDP_SEGMENT of Linux.
const udpSegment = 103

// junkLength is any length for every other batch, and otherwise one that datagrams
// of a cluster have, so that they get as far as the door.
func junkLength(n uint64) int {
	if n%2 == 0 {
		return 64 * (1 + mathrand.IntN(19))
	}
	return 1 + mathrand.IntN(1400)
}

// flooder is one core that sends junk.
type flooder struct {
	sent       atomic.Uint64
	stop, done chan struct{}
}

// startFlood begins a flood, at a number of datagrams a second or, with 0, as
// fast as it goes.
func startFlood(b *testing.B, to string, pace int) *flooder {
	b.Helper()
	conn, err := net.Dial("udp", to)
	if err != nil {
		b.Fatal(err)
	}
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	f := &flooder{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(f.done)
		defer conn.Close()
		junk := make([]byte, batch*1400)
		rand.Read(junk)
		begun := time.Now()
		for n := uint64(0); ; n++ {
			select {
			case <-f.stop:
				return
			default:
			}
			length := junkLength(n)
			// Errors: an agent that is away for a moment is no reason to end, and
			// what was sent is compared with what has arrived.
			_ = raw.Control(func(fd uintptr) {
				_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_UDP, udpSegment, length)
			})
			if _, err := conn.Write(junk[:batch*length]); err == nil {
				f.sent.Add(batch)
			}
			if pace > 0 {
				due := begun.Add(time.Duration(n*batch) * time.Second / time.Duration(pace))
				time.Sleep(time.Until(due))
			}
		}
	}()
	b.Cleanup(f.end)
	return f
}

// end ends the flood; a second time it does nothing.
func (f *flooder) end() {
	select {
	case <-f.done:
		return
	case f.stop <- struct{}{}:
		<-f.done
	}
}
