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

// sweepAge is from when on a scratch that nobody has locked is a left-over: one that
// was made just now may not be locked yet.
const sweepAge = time.Minute

// Runner runs handlers for the events it is given. It is safe for concurrent
// use. Close it.
type Runner struct {
	config  Config // what holds for all handlers
	history history
	queries *queryRuns
	left    []string        // files that the start before left in UnfinishedDir
	ctx     context.Context // ends when Close is called
	stop    context.CancelFunc
	workers sync.WaitGroup
	inHand  atomic.Int64 // events that workers have taken and not yet dealt with

	reloading sync.Mutex // held while handlers change
	mu        sync.RWMutex
	handlers  []*worker // by number; guarded by mu
}

// Stats says how one handler fares.
type Stats struct {
	Handler  int
	Spec     Spec
	Running  int    // runs at this moment
	Waiting  int    // events in the queue
	Runs     uint64 // finished, failures included
	Failures uint64 // not started, killed, or an exit code that is not 0
	Dropped  uint64 // events lost because the queue was full
	BySpare  uint64 // of Runs, those for which a shim was waiting

	Last     time.Time // when the latest run began; zero: none has
	Degraded string    // why the handler does not do its work; empty: it does

	Layers []Layer // what confines its runs, as its rehearsal found; not to be changed
}

// Title is what the handler is called: its name or, without one, its spec.
func (s Stats) Title() string { return s.Spec.title() }

// New checks every handler and every setting, starts the handlers' goroutines
// and returns the Runner. Its error joins all problems there are, each with
// what to do about it. Nothing runs yet, but every handler has been rehearsed:
// in the confinement of its runs a probe of our own has tried what each layer is
// there to prevent.
//
// Without handlers there is nothing to confine, and New succeeds on machines
// and systems that could not.
func New(config Config) (*Runner, error) {
	if os.Args[0] == shimName {
		// A shim that got here would start itself without end.
		return nil, errors.New("internal error: handler.ShimMain was not called first in main")
	}
	// What is kept from now on is no left-over.
	left, err := leftOver(config.UnfinishedDir)
	if err != nil {
		return nil, fmt.Errorf("events of runs that were cut short: %w", err)
	}
	r := &Runner{config: config, left: left, queries: newQueryRuns(config.OnAnswer, config.Logger)}
	r.ctx, r.stop = context.WithCancel(context.Background())
	if _, err := r.Reload(config.Specs, config.Settings); err != nil {
		r.stop()
		return nil, err
	}
	if len(r.handlers) > 0 {
		r.handlers[0].confine.sweep(sweepAge)
	}
	return r, nil
}

// Repeat queues the idempotent runs that a crash cut short. Call it once, when
// everything else has started: what it takes from the disk is not repeated again.
func (r *Runner) Repeat() error {
	list, err := unfinished(r.config.UnfinishedDir, r.left)
	if err != nil {
		return fmt.Errorf("events of runs that were cut short: %w", err)
	}
	for _, k := range list {
		attrs := []any{"event_id", k.Event.EventID, "program", fmt.Sprintf("%.200q", k.Handler)}
		w := r.find(k.Handler)
		if w == nil || !w.spec.Settings.Idempotent || !k.Event.Expires.IsZero() && time.Now().After(k.Event.Expires) {
			w = nil
			r.logger().Warn("run was cut short and is not repeated: its event has expired, or its handler has changed", attrs...)
		}
		if w != nil {
			r.logger().Info("run was cut short and is repeated", attrs...)
			w.push(k.Event)
		}
	}
	return nil
}

func (r *Runner) logger() *slog.Logger {
	if r.config.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return r.config.Logger
}

func (r *Runner) find(title string) *worker {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, w := range r.handlers {
		if w.title == title {
			return w
		}
	}
	return nil
}

// Dispatch queues e for every handler that it matches and returns how many
// those are. It never waits for a run. After Close it does nothing.
func (r *Runner) Dispatch(e Event) int {
	if r.ctx.Err() != nil {
		return 0
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	var matching []*worker
	for _, w := range r.handlers {
		if w.spec.Matches(e) {
			matching = append(matching, w)
		}
	}
	r.queries.begin(e, len(matching)) // before the first of them can end
	for _, w := range matching {
		w.push(e)
	}
	return len(matching)
}

// Close kills what runs, forgets what waits and returns when nothing is left,
// or with the error of ctx when that ends first. It may be called again.
func (r *Runner) Close(ctx context.Context) error {
	r.stop()
	finished := make(chan struct{})
	go func() {
		// A Reload that is on its way may still start handlers, which end at once.
		r.reloading.Lock()
		defer r.reloading.Unlock()
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
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]Stats, 0, len(r.handlers))
	for _, w := range r.handlers {
		list = append(list, w.stats())
	}
	return list
}
