package handler

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

func TestHandlerIsDegradedUntilARunEndsByItself(t *testing.T) {
	log := new(lines)
	spec := everyEvent(script(t, `[ "$SERF_USER_EVENT" = hang ] && exec sleep 100000; exit 0`))
	spec.Settings.Timeout = 3 * time.Second // a run that does not hang has all the time it may need
	results := make(chan Result, 10)
	r := launch(t, Config{Specs: []Spec{spec}, OnResult: func(r Result) { results <- r }, Logger: slog.New(slog.NewTextHandler(log, nil))})
	for _, step := range []struct {
		event    string
		degraded bool
		logged   int // changes so far
	}{{"ok", false, 0}, {"hang", true, 1}, {"ok", false, 2}, {"ok", false, 2}} {
		r.Dispatch(Event{Kind: KindUser, Name: step.event})
		receive(t, results)
		if got := r.Stats()[0].Degraded; (got != "") != step.degraded {
			t.Errorf("after %s: degraded %q, want %t", step.event, got, step.degraded)
		}
		if got := log.count("handler is degraded") + log.count("does its work again"); got != step.logged {
			t.Errorf("after %s: %d lines say so, want %d", step.event, got, step.logged)
		}
	}
}

func TestHandlerIsDegradedWhileItsQueueOverflows(t *testing.T) {
	dir, log := granted(t), new(lines)
	spec := everyEvent(script(t, "until [ -e "+dir+"/go ]; do sleep 0.01; done"))
	spec.Settings = Settings{Queue: 2, Writable: []string{dir}}
	r := launch(t, Config{Specs: []Spec{spec}, Logger: slog.New(slog.NewTextHandler(log, nil))})
	r.Dispatch(Event{Kind: KindUser, Name: "x"})
	until(t, "one runs", func() bool { return r.Stats()[0].Running == 1 })
	for range 10 {
		r.Dispatch(Event{Kind: KindUser, Name: "x"})
	}
	stats := r.Stats()[0]
	if stats.Degraded == "" || stats.Waiting != 2 || stats.Dropped != 8 || log.count("handler is degraded") != 1 {
		t.Errorf("got %+v and %d lines, want it degraded, 2 waiting, 8 dropped, one line", stats, log.count("handler is degraded"))
	}
	write(t, dir+"/go", "", 0o644)
	until(t, "it does its work again", func() bool { return r.Stats()[0].Degraded == "" })
}

func TestDegradedHandlerSaysSoOncePerChange(t *testing.T) {
	log := new(lines)
	w := &worker{queue: newQueue(1), logger: slog.New(slog.NewTextHandler(log, nil))}
	for _, step := range []struct {
		hung   bool
		logged int
	}{{false, 0}, {true, 1}, {true, 1}, {false, 2}, {false, 2}, {true, 3}} {
		w.hung = step.hung
		w.judge()
		if got := log.count("handler is degraded") + log.count("does its work again"); got != step.logged {
			t.Errorf("hung %t: %d lines so far, want %d", step.hung, got, step.logged)
		}
	}
}
