package agent

import (
	"context"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/internal/link"
)

// ListHandlers says how each handler fares.
func (s *service) ListHandlers(context.Context, *secgossipv1.ListHandlersRequest) (*secgossipv1.ListHandlersResponse, error) {
	answer, err := s.runner.ask(&link.Ask{Handler: -1})
	if err != nil {
		return nil, unanswered(err)
	}
	out := new(secgossipv1.ListHandlersResponse)
	for _, from := range answer.handlers {
		h := &secgossipv1.Handler{
			Number:   uint32(from.Number),
			Name:     from.Title,
			Filters:  from.Filters,
			Program:  from.Program,
			User:     from.User,
			Running:  uint32(from.Running),
			Waiting:  uint32(from.Waiting),
			Runs:     from.Runs,
			Failures: from.Failures,
			Dropped:  from.Dropped,
			Degraded: from.Degraded,
			BySpare:  from.BySpare,
		}
		for _, layer := range from.Layers {
			h.Layers = append(h.Layers, &secgossipv1.Layer{Name: layer.Name, Enforced: layer.Enforced, Detail: layer.Detail})
		}
		if from.Last != 0 {
			h.LastRun = timestamppb.New(time.UnixMicro(from.Last))
		}
		out.Handlers = append(out.Handlers, h)
	}
	return out, nil
}

// unanswered is what a client is told when the runner does not answer.
func unanswered(err error) error { return connect.NewError(connect.CodeUnavailable, err.Error()) }

// defaultRuns is how many runs are listed unless the caller says otherwise: with
// 128 KiB of output each they fit what a client takes, 4 MiB.
const defaultRuns = 20

// ListRuns lists the latest runs, newest first.
func (s *service) ListRuns(_ context.Context, req *secgossipv1.ListRunsRequest) (*secgossipv1.ListRunsResponse, error) {
	ask := &link.Ask{Runs: int(min(req.GetLimit(), defaultRuns)), EventID: req.GetEventId(), Handler: -1}
	if ask.Runs == 0 {
		ask.Runs = defaultRuns
	}
	out := new(secgossipv1.ListRunsResponse)
	if len(ask.EventID) > link.MaxName || req.GetHandler() >= link.MaxHandlers {
		return out, nil // nothing is called so
	}
	if req.Handler != nil {
		ask.Handler = int(req.GetHandler())
	}
	answer, err := s.runner.ask(ask)
	if err != nil {
		return nil, unanswered(err)
	}
	for _, r := range answer.runs {
		out.Runs = append(out.Runs, &secgossipv1.Run{
			Begin:         timestamppb.New(time.UnixMicro(r.Begin)),
			DurationUs:    uint64(r.Duration),
			Handler:       uint32(r.Handler),
			Program:       r.Program,
			Kind:          r.Event,
			Name:          r.Name,
			EventId:       r.EventID,
			Principal:     r.Principal,
			Started:       r.Started,
			ExitCode:      int32(r.ExitCode),
			Error:         r.Problem,
			Stdout:        r.Stdout,
			StdoutOmitted: uint64(r.StdoutOmitted),
			Stderr:        r.Stderr,
			StderrOmitted: uint64(r.StderrOmitted),
		})
	}
	return out, nil
}

// Reload has settings and identity read again.
func (s *service) Reload(ctx context.Context, _ *secgossipv1.ReloadRequest) (*secgossipv1.ReloadResponse, error) {
	changes, err := s.runner.reread(ctx)
	if err != nil {
		return nil, unanswered(err)
	}
	if changes.Problem != "" {
		return nil, connect.NewError(connect.CodeFailedPrecondition, changes.Problem)
	}
	return &secgossipv1.ReloadResponse{
		Added: changes.Added, Removed: changes.Removed, Changed: changes.Changed,
		Settings: changes.Settings, Restart: changes.Restart,
	}, nil
}

// degradedText is how info says that a handler does not do its work.
func degradedText(h *link.Handler) string {
	if h.Degraded == "" {
		return ""
	}
	return ", degraded: " + h.Degraded
}
