package agent

import (
	"context"
	"os"
	"strings"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/handler"
)

// ListHandlers says how each handler fares.
func (s *service) ListHandlers(context.Context, *secgossipv1.ListHandlersRequest) (*secgossipv1.ListHandlersResponse, error) {
	out := new(secgossipv1.ListHandlersResponse)
	for _, stats := range s.runner.Stats() {
		h := &secgossipv1.Handler{
			Number:   uint32(stats.Handler),
			Name:     stats.Title(),
			Program:  stats.Spec.Program,
			User:     runsAs(stats.Spec.Settings.User),
			Running:  uint32(stats.Running),
			Waiting:  uint32(stats.Waiting),
			Runs:     stats.Runs,
			Failures: stats.Failures,
			Dropped:  stats.Dropped,
			Degraded: stats.Degraded,
		}
		for _, layer := range stats.Layers {
			h.Layers = append(h.Layers, &secgossipv1.Layer{Name: layer.Name, Enforced: layer.Enforced, Detail: layer.Detail})
		}
		for _, filter := range stats.Spec.Filters {
			h.Filters = append(h.Filters, filter.String())
		}
		if !stats.Last.IsZero() {
			h.LastRun = timestamppb.New(stats.Last)
		}
		out.Handlers = append(out.Handlers, h)
	}
	return out, nil
}

// defaultRuns is how many runs are listed unless the caller says otherwise: with
// 128 KiB of output each they fit what a client takes, 4 MiB.
const defaultRuns = 20

// ListRuns lists the latest runs, newest first.
func (s *service) ListRuns(_ context.Context, req *secgossipv1.ListRunsRequest) (*secgossipv1.ListRunsResponse, error) {
	limit := int(min(req.GetLimit(), defaultRuns))
	if limit == 0 {
		limit = defaultRuns
	}
	out := new(secgossipv1.ListRunsResponse)
	results := s.runner.History()
	for i := len(results) - 1; i >= 0 && len(out.Runs) < limit; i-- {
		r := results[i]
		if req.GetEventId() != "" && !strings.EqualFold(req.GetEventId(), r.Event.EventID) {
			continue
		}
		if req.Handler != nil && int(req.GetHandler()) != r.Handler {
			continue
		}
		run := &secgossipv1.Run{
			Begin:         timestamppb.New(r.Begin),
			DurationUs:    uint64(r.Duration.Microseconds()),
			Handler:       uint32(r.Handler),
			Program:       r.Program,
			Kind:          string(r.Event.Kind),
			Name:          r.Event.Name,
			EventId:       r.Event.EventID,
			Principal:     r.Event.Principal,
			Started:       r.Started,
			ExitCode:      int32(r.ExitCode),
			Stdout:        r.Stdout.Bytes(),
			StdoutOmitted: uint64(r.Stdout.Omitted),
			Stderr:        r.Stderr.Bytes(),
			StderrOmitted: uint64(r.Stderr.Omitted),
		}
		if r.Err != nil {
			run.Error = strings.ToValidUTF8(r.Err.Error(), "\uFFFD")
		}
		out.Runs = append(out.Runs, run)
	}
	return out, nil
}

// Reload reads settings and identity again.
func (s *service) Reload(context.Context, *secgossipv1.ReloadRequest) (*secgossipv1.ReloadResponse, error) {
	changes, err := s.reload()
	if err != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, err.Error())
	}
	return &secgossipv1.ReloadResponse{
		Added: changes.Handlers.Added, Removed: changes.Handlers.Removed, Changed: changes.Handlers.Changed,
		Settings: changes.Settings, Restart: changes.Restart,
	}, nil
}

// runsAs is who runs a handler, empty for the agent's own user.
func runsAs(user string) string {
	if user == "" && os.Geteuid() == 0 {
		return DefaultHandlerUser
	}
	return user
}

// degradedText is how info says that a handler does not do its work.
func degradedText(stats handler.Stats) string {
	if stats.Degraded == "" {
		return ""
	}
	return ", degraded: " + stats.Degraded
}
