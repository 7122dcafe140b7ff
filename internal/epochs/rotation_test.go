package epochs

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/lab"
)

// Threat N17: nothing that is said while epochs change is lost or comes twice.
func TestNoEventIsLostWhileRealAgentsRotate(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, 2)
	c.fireAndRotate(200, 3)
}

// BenchmarkRotation rotates at rest and while 1,000 events are fired. Both are in
// one run, so that their ratio means something on any machine.
func BenchmarkRotation(b *testing.B) {
	for _, size := range []int{3, 30} {
		b.Run(fmt.Sprintf("%dAgents", size), func(b *testing.B) {
			for range b.N {
				c := newCluster(b, 1, size-1)
				rest := c.figure(b, "rest", c.fireAndRotate(0, 6))
				fire := c.figure(b, "fire", c.fireAndRotate(1000, 6))
				b.ReportMetric(fire/rest, "fire/rest")
			}
		})
	}
}

// figure reports rotations and returns the median time until all use the epoch.
func (c *cluster) figure(b *testing.B, when string, all []rotation) float64 {
	installed, _ := figures(all, func(r rotation) time.Duration { return r.installed })
	using, usingMost := figures(all, func(r rotation) time.Duration { return r.using })
	took, tookMost := figures(all, func(r rotation) time.Duration { return r.took })
	b.Logf("%s: %d rotations: installed %s, used by all %s (most %s), the last removed %s (most %s)",
		when, len(all), installed, using, usingMost, took, tookMost)
	b.ReportMetric(using.Seconds()*1000, when+"-used-p50-ms")
	b.ReportMetric(usingMost.Seconds()*1000, when+"-used-max-ms")
	b.ReportMetric(tookMost.Seconds()*1000, when+"-removed-max-ms")
	return using.Seconds()
}

// fireAndRotate fires a number of events by the second node's agent while the
// first rotates, at least so often, and wants every event once at every node.
func (c *cluster) fireAndRotate(events, rotations int) (all []rotation) {
	c.Helper()
	var listeners []*listener
	for _, n := range c.nodes {
		listeners = append(listeners, c.listen(n))
	}
	m := c.marksman(c.nodes[1])
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	var fired []string
	done := make(chan error, 1)
	begun := time.Now()
	var took time.Duration
	go func() {
		for range events {
			id, err := m.fire(ctx)
			if err != nil {
				done <- err
				return
			}
			fired = append(fired, id)
		}
		took = time.Since(begun)
		done <- nil
	}()
	for firing := true; firing || len(all) < rotations; {
		all = append(all, c.mustRotate(c.nodes[0]))
		select {
		case err := <-done:
			c.must(err)
			firing = false
		default:
		}
	}
	late := c.await(lab.Patience, func(context.Context) error {
		for _, l := range listeners {
			if err := l.check(fired); err != nil {
				return err
			}
		}
		return nil
	})
	if events > 0 {
		c.Logf("%d events at %.0f/s, at all %d nodes %s after the last rotation; %d rotations meanwhile",
			events, float64(events)/took.Seconds(), len(c.nodes), late.Round(time.Millisecond), len(all))
	}
	for _, l := range listeners {
		l.end()
	}
	return all
}

// figures are the median and the longest of a part of rotations.
func figures(all []rotation, part func(rotation) time.Duration) (median, longest time.Duration) {
	var sorted []time.Duration
	for _, r := range all {
		sorted = append(sorted, part(r))
	}
	slices.Sort(sorted)
	return sorted[len(sorted)/2], sorted[len(sorted)-1]
}
