package agent

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect/v2"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/api/secgossip/v1/secgossipv1connect"
)

// logHub keeps the newest lines of the log and passes those that come on to the
// streams that are open. Nothing waits for a stream: what its client does not read in
// time is lost and counted.
type logHub struct {
	level slog.LevelVar // the least that anybody wants

	mu      sync.Mutex
	text    bytes.Buffer // the line that is being written
	kept    []logLine    // the newest, in order
	readers map[*logReader]struct{}
}

type logLine struct {
	level slog.Level
	text  string
}

// logReader is one open stream.
type logReader struct {
	level   slog.Level
	wake    chan struct{}
	pending []string // guarded by the hub's mu, as the next
	dropped uint64
}

const (
	// maxKeptLines is as many as Serf keeps.
	maxKeptLines = 512
	// maxPendingLines bounds what waits for a slow reader, a second of a busy log.
	maxPendingLines = 1024
	// maxLogReaders bounds the streams of one agent: at 200 bytes a line they have
	// 3 MiB at most.
	maxLogReaders = 16
)

func newLogHub() *logHub { return &logHub{readers: make(map[*logReader]struct{})} }

// handler returns what is to be told of every record.
func (h *logHub) handler() slog.Handler {
	return &logTap{hub: h, inner: slog.NewTextHandler(&h.text, &slog.HandlerOptions{Level: slog.LevelDebug})}
}

// logTap is a slog.Handler that has records written as the log's own are.
type logTap struct {
	hub   *logHub
	inner slog.Handler // writes to hub.text
}

func (t *logTap) Enabled(_ context.Context, level slog.Level) bool {
	return level >= t.hub.level.Level()
}

func (t *logTap) Handle(ctx context.Context, record slog.Record) error {
	h := t.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text.Reset()
	if err := t.inner.Handle(ctx, record); err != nil {
		return err
	}
	h.addLocked(logLine{record.Level, string(bytes.TrimSuffix(h.text.Bytes(), []byte("\n")))})
	return nil
}

func (t *logTap) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logTap{t.hub, t.inner.WithAttrs(attrs)}
}

func (t *logTap) WithGroup(name string) slog.Handler {
	return &logTap{t.hub, t.inner.WithGroup(name)}
}

func (h *logHub) addLocked(line logLine) {
	if len(h.kept) == maxKeptLines {
		h.kept = slices.Delete(h.kept, 0, 1)
	}
	h.kept = append(h.kept, line)
	for r := range h.readers {
		if line.level < r.level {
			continue
		}
		if len(r.pending) == maxPendingLines {
			r.pending = slices.Delete(r.pending, 0, 1)
			r.dropped++
		}
		r.pending = append(r.pending, line.text)
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// open opens a stream of lines of a level and above, those that are kept first. It
// reports false when there are too many.
func (h *logHub) open(level slog.Level) (*logReader, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.readers) >= maxLogReaders {
		return nil, false
	}
	r := &logReader{level: level, wake: make(chan struct{}, 1)}
	for _, line := range h.kept {
		if line.level >= level {
			r.pending = append(r.pending, line.text)
		}
	}
	h.readers[r] = struct{}{}
	h.wantLocked()
	return r, true
}

func (h *logHub) close(r *logReader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.readers, r)
	h.wantLocked()
}

// wantLocked sets the level to the least that is wanted: info is always kept.
func (h *logHub) wantLocked() {
	least := slog.LevelInfo
	for r := range h.readers {
		least = min(least, r.level)
	}
	h.level.Set(least)
}

// take returns what waits for a reader, and how much was lost before it.
func (h *logHub) take(r *logReader) (lines []string, dropped uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	lines, dropped = r.pending, r.dropped
	r.pending, r.dropped = nil, 0
	return lines, dropped
}

// StreamLogs sends the log.
func (s *service) StreamLogs(ctx context.Context, req *secgossipv1.StreamLogsRequest, stream secgossipv1connect.AgentServiceStreamLogsServerStream) error {
	level := slog.LevelInfo
	if text := req.GetLevel(); text != "" {
		var err error
		if level, err = parseLevel(text); err != nil {
			return connect.NewError(connect.CodeInvalidArgument, "level: "+err.Error())
		}
	}
	reader, ok := s.logs.open(level)
	if !ok {
		return connect.NewError(connect.CodeResourceExhausted, "too many streams are open")
	}
	defer s.logs.close(reader)
	recheck := time.NewTicker(streamRecheck)
	defer recheck.Stop()
	for {
		if err := s.stillGood(ctx); err != nil {
			return err
		}
		if lines, dropped := s.logs.take(reader); len(lines) > 0 {
			if err := stream.Send(&secgossipv1.StreamLogsResponse{Lines: lines, Dropped: dropped}); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.ctx.Done():
			return nil
		case <-recheck.C:
		case <-reader.wake:
		}
	}
}
