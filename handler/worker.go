package handler

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// worker is one handler with its queue and the goroutines that run it, as many as
// it may have runs at once.
type worker struct {
	number     atomic.Int64 // changes when handlers before it come or go
	spec       Spec         // its settings are complete
	title      string       // what the journal calls it
	queue      *queue
	running    atomic.Int64
	runs       atomic.Uint64
	failures   atomic.Uint64
	bySpare    atomic.Uint64
	confine    *confinement
	layers     []Layer // what its rehearsal found
	journal    Journal
	unfinished string // folder; empty: none
	queries    *queryRuns
	onResult   func(Result)
	logger     *slog.Logger

	retired context.Context // ends when the handler is taken out
	retire  context.CancelFunc
	done    chan struct{} // closed when nothing of it runs any more

	mu       sync.Mutex
	lastWarn time.Time
	last     time.Time // when the latest run began
	hung     bool      // the latest run to end was killed by its time limit
	degraded string    // as it was last logged
}

// spareRest is how long a handler has nothing to do before its next spare is started. An
// event starts handlers of a whole host, and the host is not kept from them by spares for
// the next one.
const spareRest = 100 * time.Millisecond

// push queues e.
func (w *worker) push(e Event) {
	if w.queue.push(e) {
		w.judge()
	}
}

// start starts the goroutines, which wait until before is closed: a handler of
// which another version runs follows it.
func (w *worker) start(r *Runner, before <-chan struct{}) {
	var all sync.WaitGroup
	for range w.spec.Settings.Concurrency {
		all.Go(func() {
			if before != nil {
				select {
				case <-before:
				case <-r.ctx.Done():
				}
			}
			w.work(r)
		})
	}
	all.Go(func() { w.confine.watchSpare(w.retired, w.spec.Program) })
	r.workers.Go(func() {
		all.Wait()
		w.retire()
		close(w.done)
	})
}

// work runs the handler until it is taken out or the Runner is closed. A run that
// has begun when the handler is taken out is not cut short.
func (w *worker) work(r *Runner) {
	for idle := w.retired.Err() == nil; ; idle = w.queue.idleFor(w.retired, spareRest) {
		if idle {
			w.confine.keepSpare(w.spec.Program)
		}
		event, ok := w.queue.pop(w.retired)
		if !ok {
			return
		}
		begin := time.Now()
		w.running.Add(1)
		w.mu.Lock()
		w.last = begin
		w.mu.Unlock()
		result := w.runOnce(r.ctx, event)
		result.Handler, result.Program, result.Event = int(w.number.Load()), w.spec.Program, event
		result.Begin, result.Duration = begin, time.Since(begin)
		w.queries.concluded(result)
		w.running.Add(-1)
		w.runs.Add(1)
		if result.spare {
			w.bySpare.Add(1)
		}
		if !result.Done() {
			w.failures.Add(1)
		}
		w.mu.Lock()
		w.hung = result.Err == ErrTimeout
		w.mu.Unlock()
		r.history.add(result) // before the log: whoever reads that finds it there
		w.log(result)
		w.judge()
		if w.onResult != nil {
			w.onResult(result)
		}
		w.queue.done()
	}
}

// runOnce runs the program unless that was done before for this event.
func (w *worker) runOnce(ctx context.Context, e Event) Result {
	if !e.Deadline.IsZero() {
		if !time.Now().Before(e.Deadline) {
			return Result{ExitCode: -1, Err: ErrLate} // nobody waits for it any more
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, e.Deadline)
		defer cancel()
	}
	over, err := w.begin(e)
	if err != nil {
		return Result{ExitCode: -1, Err: err}
	}
	result := w.confine.run(ctx, w.spec.Program, e)
	over(result)
	return result
}

// judge decides whether the handler does its work, and logs when that has changed.
func (w *worker) judge() {
	_, _, overflowing := w.queue.counts()
	w.mu.Lock()
	before := w.degraded
	switch {
	case overflowing && w.hung:
		w.degraded = "runs are killed by the time limit, and the oldest events are dropped"
	case w.hung:
		w.degraded = "the latest run was killed by the time limit"
	case overflowing:
		w.degraded = "too slow: the oldest events are dropped"
	default:
		w.degraded = ""
	}
	now := w.degraded
	w.mu.Unlock()
	switch {
	case now == before:
	case now == "":
		w.say(slog.LevelInfo, "handler does its work again")
	default:
		w.say(slog.LevelWarn, "handler is degraded", "reason", now)
	}
}

func (w *worker) stats() Stats {
	waiting, dropped, _ := w.queue.counts()
	w.mu.Lock()
	defer w.mu.Unlock()
	return Stats{
		Handler: int(w.number.Load()), Spec: w.spec, Running: int(w.running.Load()), Waiting: waiting,
		Runs: w.runs.Load(), Failures: w.failures.Load(), Dropped: dropped, BySpare: w.bySpare.Load(),
		Last: w.last, Degraded: w.degraded, Layers: w.layers,
	}
}

// say writes one line about the handler.
func (w *worker) say(level slog.Level, text string, attrs ...any) {
	attrs = append([]any{"handler", w.number.Load(), "program", w.spec.Program}, attrs...)
	w.logger.Log(context.Background(), level, text, attrs...)
}

// sayLayers writes what its rehearsal found. What is missing was allowed, or the
// handler would have been refused.
func (w *worker) sayLayers() {
	var enforced, missing []string
	for _, layer := range w.layers {
		if layer.Enforced {
			enforced = append(enforced, layer.Name)
		} else {
			missing = append(missing, fmt.Sprintf("%s (%s)", layer.Name, layer.Detail))
		}
	}
	attrs := []any{"enforced", strings.Join(enforced, ", "), "missing", strings.Join(missing, "; ")}
	w.say(slog.LevelInfo, "handler was rehearsed", attrs...)
}

// log writes one line for each run. A failure is a warning, but no more than
// one a second: whoever may fire events must not be able to fill the log.
func (w *worker) log(r Result) {
	attrs := []any{
		"event", fmt.Sprintf("%s:%q", r.Event.Kind, r.Event.Name),
		"exit", r.ExitCode, "duration", r.Duration,
		"stdout", r.Stdout.excerpt(), "stderr", r.Stderr.excerpt(),
	}
	switch {
	case r.Done():
		w.say(slog.LevelDebug, "script output", attrs...)
		return
	case r.Err != nil:
		// The one control character that slog's text form leaves as it is.
		attrs = append(attrs, "err", strings.ReplaceAll(r.Err.Error(), "\x7f", `\x7f`))
	}
	level := slog.LevelDebug
	w.mu.Lock()
	if now := time.Now(); now.Sub(w.lastWarn) >= time.Second {
		w.lastWarn = now
		level = slog.LevelWarn
	}
	w.mu.Unlock()
	w.say(level, "handler failed", attrs...)
}
