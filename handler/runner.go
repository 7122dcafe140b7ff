package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Runner runs handlers for the events it is given. It is safe for concurrent
// use. Close it.
type Runner struct {
	handlers []*worker
	history  history
	ctx      context.Context // ends when Close is called
	stop     context.CancelFunc
	workers  sync.WaitGroup
}

// worker is one handler with its queue. Its goroutine runs one event at a time.
type worker struct {
	number   int
	spec     Spec
	queue    *queue
	runs     atomic.Uint64
	failures atomic.Uint64

	confine  *confinement
	onResult func(Result)
	logger   *slog.Logger
	lastWarn time.Time
}

// Stats says how one handler fares.
type Stats struct {
	Handler  int
	Spec     Spec
	Waiting  int    // events in the queue
	Runs     uint64 // finished, failures included
	Failures uint64 // not started, killed, or an exit code that is not 0
	Dropped  uint64 // events lost because the queue was full
}

// New checks every handler and every setting, starts the handlers' goroutines
// and returns the Runner. Its error joins all problems there are, each with
// what to do about it. Nothing runs yet, but every handler has been rehearsed:
// the shim has built the whole confinement around it and stopped just before
// running it.
//
// Without handlers there is nothing to confine, and New succeeds on machines
// and systems that could not.
func New(config Config) (*Runner, error) {
	if os.Args[0] == shimName {
		// A shim that got here would start itself without end.
		return nil, errors.New("internal error: handler.ShimMain was not called first in main")
	}
	config, err := config.withDefaults()
	var confine *confinement
	if len(config.Specs) > 0 {
		var problems error
		confine, problems = newConfinement(config)
		err = errors.Join(err, problems)
	}
	if err == nil && confine != nil {
		err = confine.rehearse(config.Specs)
	}
	if err != nil {
		return nil, err
	}
	r := &Runner{}
	r.ctx, r.stop = context.WithCancel(context.Background())
	for number, spec := range config.Specs {
		r.handlers = append(r.handlers, &worker{
			number:   number,
			spec:     spec,
			queue:    newQueue(),
			confine:  confine,
			onResult: config.OnResult,
			logger:   config.Logger.With("handler", number, "program", spec.Program),
		})
	}
	for _, w := range r.handlers {
		r.workers.Go(func() { w.work(r.ctx, &r.history) })
	}
	return r, nil
}

// Dispatch queues e for every handler that it matches and returns how many
// those are. It never waits. After Close it does nothing.
func (r *Runner) Dispatch(e Event) int {
	if r.ctx.Err() != nil {
		return 0
	}
	matched := 0
	for _, w := range r.handlers {
		if !w.spec.Matches(e) {
			continue
		}
		matched++
		if w.queue.push(e) {
			w.logger.Warn("handler too slow, oldest events are dropped", "waiting", queueLength)
		}
	}
	return matched
}

// Close kills what runs, forgets what waits and returns when nothing is left,
// or with the error of ctx when that ends first. It may be called again.
func (r *Runner) Close(ctx context.Context) error {
	r.stop()
	finished := make(chan struct{})
	go func() {
		r.workers.Wait()
		close(finished)
	}()
	select {
	case <-finished:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for handlers to end: %w", ctx.Err())
	}
}

// History returns the latest 64 results of all handlers, oldest first, without
// their payloads and members.
func (r *Runner) History() []Result { return r.history.list() }

// Stats returns how each handler fares, by number.
func (r *Runner) Stats() []Stats {
	list := make([]Stats, 0, len(r.handlers))
	for _, w := range r.handlers {
		waiting, dropped := w.queue.counts()
		list = append(list, Stats{
			Handler: w.number, Spec: w.spec, Waiting: waiting,
			Runs: w.runs.Load(), Failures: w.failures.Load(), Dropped: dropped,
		})
	}
	return list
}

func (w *worker) work(ctx context.Context, history *history) {
	for {
		event, ok := w.queue.pop(ctx)
		if !ok {
			return
		}
		start := time.Now()
		result := w.confine.run(ctx, w.spec.Program, event)
		result.Handler, result.Program, result.Event = w.number, w.spec.Program, event
		result.Duration = time.Since(start)
		w.runs.Add(1)
		if !result.Done() {
			w.failures.Add(1)
		}
		w.log(result)
		history.add(result)
		if w.onResult != nil {
			w.onResult(result)
		}
	}
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
		w.logger.Debug("script output", attrs...)
		return
	case r.Err != nil:
		attrs = append(attrs, "err", r.Err)
	}
	level := slog.LevelDebug
	if now := time.Now(); now.Sub(w.lastWarn) >= time.Second {
		w.lastWarn = now
		level = slog.LevelWarn
	}
	w.logger.Log(context.Background(), level, "handler failed", attrs...)
}
