package agent

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"syscall"

	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/internal/metrics"
	"github.com/secgossip/secgossip/secgossip"
)

// listenMetrics opens the listener for figures, if a setting names one.
func (a *Agent) listenMetrics() error {
	if a.plan.metricsNetwork == "" {
		return nil
	}
	listener, err := metrics.Listen(a.plan.metricsNetwork, a.plan.metricsAddr)
	if err != nil {
		err = &home.Problem{
			Err:  fmt.Errorf("metrics-addr: %w", err),
			Next: "name another address or socket by --metrics-addr; the folder of a socket must be there",
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			return err // it may be free the next time
		}
		return fmt.Errorf("%w: %w", ErrSetup, err)
	}
	a.watchers = listener
	return nil
}

// socketFolder is where the socket of the metrics is, which goes with the agent.
func (a *Agent) socketFolder() string {
	if a.plan.metricsNetwork != "unix" {
		return ""
	}
	return filepath.Dir(a.plan.metricsAddr)
}

// serveMetrics answers whoever reaches that listener.
func (a *Agent) serveMetrics() {
	if a.watchers == nil {
		return
	}
	a.metrics = metrics.NewServer(a.figures)
	a.running.Go(func() {
		if err := a.metrics.Serve(a.watchers); err != nil && !errors.Is(err, http.ErrServerClosed) {
			a.logger.Error("metrics stopped", "error", err)
		}
	})
}

// figures is all that is shown. Threat L10: numbers, by labels that we made up: no name
// of a node, client, event or handler, and as many of them however large the cluster is.
func (a *Agent) figures() []metrics.Metric {
	f := a.node.Figures()
	var runs, failures, waiting uint64
	var asked, unanswered uint64
	for number := range a.plan.providers {
		m := a.runner.provided(number)
		asked, unanswered = asked+m.Runs, unanswered+m.Failures
	}
	dropped := a.runner.link.Dropped() // which no handler has seen
	for _, s := range a.runner.fares().handlers {
		runs, failures, dropped, waiting = runs+s.Runs, failures+s.Failures, dropped+s.Dropped, waiting+uint64(s.Waiting)
	}
	members := map[string]float64{}
	for _, status := range secgossip.Statuses {
		members[string(status)] = float64(f.Members[status])
	}
	return []metrics.Metric{
		{Name: "secgossip_members", Help: "Members by status.", Kind: metrics.Gauge, Label: "status", Values: members},
		metrics.One("secgossip_epoch", "Number of the epoch in use.", metrics.Gauge, float64(f.Epoch)),
		metrics.One("secgossip_epoch_age_seconds", "How long the epoch in use is there.", metrics.Gauge, f.Age.Seconds()),
		metrics.One("secgossip_epoch_sealed", "Datagrams that live members have sealed in the epoch in use.", metrics.Gauge, float64(f.Sealed)),
		metrics.One("secgossip_rotations_total", "How often another epoch came into use.", metrics.Counter, float64(f.Rotations)),
		metrics.One("secgossip_keepers_alive", "Keepers that are alive. 0 means that nobody replaces epochs.", metrics.Gauge, float64(f.Keepers)),
		metrics.One("secgossip_nodes_behind", "Live members not known to use the epoch in use.", metrics.Gauge, float64(f.Behind)),
		metrics.One("secgossip_clock_offset_seconds", "How far the clocks of most members are ahead of this host.", metrics.Gauge, f.ClockOffset.Seconds()),
		metrics.One("secgossip_files_unwritten", "Files of this node that the disk did not take the last time.", metrics.Gauge, float64(f.Unwritten)),
		{Name: "secgossip_gossip_total", Help: "What was sent, received, refused and dropped on the gossip port.",
			Kind: metrics.Counter, Label: "what", Values: floats(f.Counters)},
		{Name: "secgossip_rpc_total", Help: "Connections to the RPC.", Kind: metrics.Counter, Label: "what", Values: floats(a.rpcCounters())},
		{Name: "secgossip_handler_total", Help: "What became of runs of handlers.", Kind: metrics.Counter, Label: "what",
			Values: map[string]float64{"runs": float64(runs), "failures": float64(failures), "events_dropped": float64(dropped)}},
		{Name: "secgossip_provider_total", Help: "What became of runs of providers.", Kind: metrics.Counter, Label: "what",
			Values: map[string]float64{"runs": float64(asked), "failures": float64(unanswered)}},
		metrics.One("secgossip_handler_waiting", "Events that wait for a handler.", metrics.Gauge, float64(waiting)),
	}
}

// rpcCounters are those of the RPC that only go up.
func (a *Agent) rpcCounters() map[string]uint64 {
	all := a.rpc.Counters()
	delete(all, "connections")
	return all
}

func floats(counts map[string]uint64) map[string]float64 {
	out := make(map[string]float64, len(counts))
	for name, count := range counts {
		out[name] = float64(count)
	}
	return out
}
