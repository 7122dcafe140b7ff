package secgossip

import (
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

var (
	figures = flag.Bool("figures", false, "count and time events on clusters of up to 100 nodes, and on -crowd of them")
	crowded = flag.Int("crowd", 1000, "how many nodes the largest of -figures has: 9 KB for each two of them")
)

// What is promised of events, in virtual time. The delays are those of crowd: what one
// machine computes in takes no time.
const (
	promisedAtARate = 5 * time.Second // for 99 of 100 arrivals, at 100 a second
	promisedOfOne   = time.Second     // for one event
)

// figure is what became of some events, on all nodes together.
type figure struct {
	nodes, events int
	loss          float64
	missed        int
	doubled       int
	unordered     int // nodes that got them out of order
	took          []time.Duration
}

// hearing is an Observer that writes down which events came, and when.
type hearing struct {
	noObserver
	mu    sync.Mutex
	names []string
	times []time.Time
}

func (h *hearing) UserEvent(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.names, h.times = append(h.names, string(e.Payload)), append(h.times, time.Now())
}

// crowd is a cluster at rest that only hears events. Packets take 1 to 50 ms.
func crowd(c *cluster, size int, loss float64) (first *host, ears []*hearing) {
	c.net.Delay(time.Millisecond, 50*time.Millisecond)
	var joining sync.WaitGroup
	for i := range size {
		h, ear := c.host(fmt.Sprintf("n%d", i)), new(hearing)
		h.settings = func(config *Config) { config.Observer = ear }
		ears = append(ears, ear)
		if h.start(); i == 0 {
			first = h
			continue
		}
		// Several at a time: each verifies a whole roster.
		joining.Go(func() { h.join(first) })
		if i%8 == 0 {
			joining.Wait()
		}
	}
	joining.Wait()
	time.Sleep(freshFor + 5*time.Second) // until then nodes ask each other for being new
	c.net.Loss(loss)
	return first, ears
}

// countEvents fires events of 64 bytes at one node, one each interval, and has every
// node count what it got when all had time to arrive.
func countEvents(t *testing.T, f figure, interval time.Duration) figure {
	inBubble(t, func(t *testing.T, c *cluster) {
		first, ears := crowd(c, f.nodes, f.loss)
		client := c.client("memo", "event:*")
		fired := make(map[string]time.Time)
		for i := range f.events {
			payload := fmt.Sprintf("%064d", i)
			fired[payload] = time.Now()
			if err := client.fire(first, "tick", payload); err != nil {
				t.Fatal(err)
			}
			time.Sleep(interval)
		}
		time.Sleep(2 * promisedAtARate)
		for _, ear := range ears {
			ear.mu.Lock()
			heard := make(map[string]bool)
			for i, name := range ear.names {
				if heard[name] {
					f.doubled++
				}
				heard[name] = true
				f.took = append(f.took, ear.times[i].Sub(fired[name]))
			}
			f.missed += f.events - len(heard)
			if !slices.IsSorted(ear.names) {
				f.unordered++
			}
			ear.mu.Unlock()
		}
	})
	slices.Sort(f.took)
	return f
}

// hold complains if anything was missed, came twice or out of order, or if one arrival
// in a hundred took longer than it may.
func (f figure) hold(t *testing.T, most time.Duration) {
	t.Helper()
	if f.missed > 0 || f.doubled > 0 || f.unordered > 0 {
		t.Errorf("%d nodes: %d missed, %d doubled, on %d nodes out of order", f.nodes, f.missed, f.doubled, f.unordered)
	}
	if p99 := f.percentile(99); p99 >= most {
		t.Errorf("%d nodes: 99 of 100 within %v, want less than %v", f.nodes, p99, most)
	}
}

func (f figure) percentile(p int) time.Duration {
	if len(f.took) == 0 {
		return 0
	}
	return f.took[(len(f.took)-1)*p/100].Round(time.Millisecond)
}

// 100 events a second reach every node once and in order, also when one datagram in ten
// is lost and all are reordered.
func TestEventsAtARateReachEverybodyOnceInOrder(t *testing.T) {
	for _, f := range []figure{
		{nodes: 3, events: 1000, loss: 0.1},
		{nodes: 30, events: 60, loss: 0.1},
	} {
		if testing.Short() && f.nodes > 3 {
			continue
		}
		countEvents(t, f, 10*time.Millisecond).hold(t, promisedAtARate)
	}
}

// What `make figures` shows.
func TestFigures(t *testing.T) {
	if !*figures {
		t.Skip("some minutes, and for a thousand nodes more: -figures")
	}
	// A row comes when it is there: the last ones take long.
	const row = "%8v%8v%8v%8v%8v%8v%8v%8v\n"
	fmt.Fprintln(t.Output(), "events of 64 bytes in virtual time, packets on the way for 1 to 50 ms")
	fmt.Fprintf(t.Output(), row, "nodes", "events", "lost", "missed", "doubled", "median", "p99", "last")
	add := func(f figure, interval, most time.Duration) {
		f = countEvents(t, f, interval)
		f.hold(t, most)
		fmt.Fprintf(t.Output(), row, f.nodes, f.events, fmt.Sprintf("%.0f%%", 100*f.loss), f.missed, f.doubled, f.percentile(50), f.percentile(99), f.percentile(100))
	}
	for _, nodes := range []int{3, 30, 100} {
		for _, loss := range []float64{0, 0.1} {
			if nodes <= *crowded {
				add(figure{nodes: nodes, events: 1000, loss: loss}, 10*time.Millisecond, promisedAtARate)
			}
		}
	}
	add(figure{nodes: *crowded, events: 10}, time.Second, promisedOfOne)
}
