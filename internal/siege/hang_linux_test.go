package siege

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/internal/lab"
	"github.com/secgossip/secgossip/internal/rpc"
	"github.com/secgossip/secgossip/rpcauth"
)

var (
	hangEvents = flag.Int("events", 100_000, "how many events are fired while every handler hangs")
	// A pace that two processors keep up with: each agent checks two signatures of an
	// event and puts it on disk.
	hangPace = flag.Int("pace", 500, "how many of them a second")
)

// BenchmarkHangingHandlers fires 100,000 events while every handler of every agent
// hangs. Meanwhile agents are killed, and must be found as if nothing were the
// matter (threat C14).
func BenchmarkHangingHandlers(b *testing.B) {
	for range b.N {
		hangHandlers(b)
	}
}

func hangHandlers(b *testing.B) {
	c := newCluster(b, 3)
	c.must(c.WriteProgram("hang.sh", "#!/bin/sh\nexec sleep 100000\n"))
	for _, node := range c.nodes {
		node.Flags = append(node.Flags, "--event-handler", "user="+c.Program("hang.sh"), "--handler-timeout", "1h")
	}
	c.startAll()
	target, victim := c.nodes[0], c.nodes[2]
	var quiet, loud []time.Duration
	for range floodKills {
		quiet = append(quiet, c.timeToFind(victim))
	}
	b.Logf("quiet: a killed agent is found by all others after %s", quiet)

	m := c.mark()
	w := c.watch(target)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var fired atomic.Int64
	done := make(chan error, 1)
	go func() { done <- c.fireEvents(ctx, target, *hangEvents, *hangPace, &fired) }()
	var err error
	for ended := false; !ended; {
		if len(loud) < floodKills {
			loud = append(loud, c.timeToFind(victim))
			continue
		}
		err, ended = <-done, true
	}
	costs := w.end()
	c.must(err)
	b.Logf("while %d events were fired: a killed agent is found after %s; %s", fired.Load(), loud, costs)
	if wrong := c.failures(m, victim); len(wrong) > 0 {
		b.Errorf("live agents were called failed: %q", wrong)
	}
	info, err := c.Info(b.Context(), keeper, target)
	c.must(err)
	b.Logf("handlers: %v", info["event_handlers"])
	b.ReportMetric(float64(costs.grown)/mib, "MiB-grown")
	b.ReportMetric(median(quiet).Seconds(), "quiet-s-to-find")
	b.ReportMetric(median(loud).Seconds(), "hanging-s-to-find")
	b.ReportMetric(median(loud).Seconds()/median(quiet).Seconds(), "times-quiet")
	if most := int64(256 * mib); costs.grown > most {
		b.Errorf("the agent grew by %d MiB, want at most %d", costs.grown/mib, most/mib)
	}
}

// fireEvents fires so many events of the operator's, so many a second.
func (c *cluster) fireEvents(ctx context.Context, at *lab.Node, count, pace int, fired *atomic.Int64) error {
	operator, err := home.Home(c.In(keeper)).LoadClient(time.Now())
	if err != nil {
		return err
	}
	defer operator.Key.Destroy()
	own := func() (*tls.Certificate, error) { return operator.Certificate, nil }
	client := rpc.NewClient(operator.Trust.ClientTLS(own, "", time.Now), at.RPC, func() string { return operator.Token })
	defer client.Close()
	token, err := rpcauth.ParseTokenText(operator.Token)
	if err != nil {
		return err
	}
	tick := time.NewTicker(time.Second / time.Duration(pace))
	defer tick.Stop()
	for range count {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		now := time.Now()
		raw, err := rpcauth.SignEvent(operator.Key, token, rpcauth.EventRequest{
			Cluster: operator.Trust.Cluster(), Name: "x", LTime: uint64(now.UnixMilli()), Payload: make([]byte, 256),
		}, now)
		if err != nil {
			return err
		}
		call, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err = client.FireEvent(call, &secgossipv1.FireEventRequest{Event: raw})
		cancel()
		if err != nil {
			return fmt.Errorf("event %d: %w", fired.Load(), err)
		}
		fired.Add(1)
	}
	return nil
}
