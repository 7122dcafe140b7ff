package agent

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestMonitorHasWhatTheLogHas(t *testing.T) {
	var log bytes.Buffer
	hub := newLogHub()
	logger := slog.New(slog.NewMultiHandler(slog.NewTextHandler(&log, nil), hub.handler())).With("at", "web-1")
	logger.Info("one", "text", "two\nlines")
	r, ok := hub.open(slog.LevelInfo)
	if !ok {
		t.Fatal("not opened")
	}
	logger.Warn("two")
	logger.Debug("not for anybody")
	lines, dropped := hub.take(r)
	// The times that the two handlers were told are the same record's.
	if got := strings.Join(lines, "\n") + "\n"; got != log.String() || dropped != 0 {
		t.Errorf("%q, %d lost, want %q", got, dropped, log.String())
	}
}

func TestMonitorMayHearMoreThanTheLogHas(t *testing.T) {
	var log bytes.Buffer
	hub := newLogHub()
	logger := slog.New(slog.NewMultiHandler(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}), hub.handler()))
	all, _ := hub.open(slog.LevelDebug)
	warnings, _ := hub.open(slog.LevelWarn)
	logger.Debug("small")
	logger.Warn("large")
	if lines, _ := hub.take(all); len(lines) != 2 {
		t.Errorf("%q for whoever wants all", lines)
	}
	if lines, _ := hub.take(warnings); len(lines) != 1 || !strings.Contains(lines[0], "msg=large") {
		t.Errorf("%q for whoever wants warnings", lines)
	}
	hub.close(all)
	if logger.Enabled(t.Context(), slog.LevelDebug) {
		t.Error("debug lines are written for nobody")
	}
	if log.Len() > 0 {
		t.Errorf("the log has %q", log.String())
	}
}

func TestMonitorIsBounded(t *testing.T) {
	hub := newLogHub()
	logger := slog.New(hub.handler())
	slow, _ := hub.open(slog.LevelInfo)
	const count = 5000
	for i := range count {
		logger.Info(fmt.Sprintf("line-%d", i))
	}
	lines, dropped := hub.take(slow)
	if len(lines) != maxPendingLines || dropped != count-maxPendingLines || !strings.HasSuffix(lines[len(lines)-1], "line-4999") {
		t.Errorf("%d lines, %d lost, the last %q", len(lines), dropped, lines[len(lines)-1])
	}
	late, _ := hub.open(slog.LevelInfo)
	if lines, _ := hub.take(late); len(lines) != maxKeptLines || !strings.HasSuffix(lines[0], fmt.Sprintf("line-%d", count-maxKeptLines)) {
		t.Errorf("%d lines were kept, the first %q", len(lines), lines[0])
	}
	for len(hub.readers) < maxLogReaders {
		hub.open(slog.LevelInfo)
	}
	if _, ok := hub.open(slog.LevelInfo); ok {
		t.Errorf("more than %d streams", maxLogReaders)
	}
}
