package handler

import (
	"context"
	"fmt"
	"reflect"
)

// Changes names the handlers that a Reload brought, took and altered.
type Changes struct {
	Added, Removed, Changed []string
}

// None reports whether every handler is as it was.
func (c Changes) None() bool { return len(c.Added)+len(c.Removed)+len(c.Changed) == 0 }

// Reload puts other handlers in the place of those there are. They are checked and
// rehearsed first, and when anything is wrong with any of them, nothing changes. A
// handler that is as it was keeps its queue and its counters; one that was altered
// keeps what waits, and begins when the run of before has ended; what waits for one
// that is gone is dropped.
func (r *Runner) Reload(specs []Spec, settings Settings) (Changes, error) {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	if r.ctx.Err() != nil {
		return Changes{}, ErrClosed
	}
	config := r.config
	config.Specs, config.Settings = specs, settings
	config, err := config.withDefaults()

	before := make(map[string]*worker)
	for _, w := range r.handlers {
		before[w.title] = w
	}
	var workers, fresh []*worker
	var changes Changes
	problems := []error{err}
	for number, title := range titles(config.Specs) {
		spec := config.Specs[number]
		old := before[title]
		if old != nil && reflect.DeepEqual(old.spec, spec) {
			workers = append(workers, old)
			continue
		}
		// A confinement is made from the settings of this one handler.
		one := config
		one.Specs, one.Settings = []Spec{spec}, spec.Settings
		confine, err := newConfinement(one)
		problems = append(problems, err)
		w := r.newWorker(config, spec, title, confine)
		workers, fresh = append(workers, w), append(fresh, w)
	}
	if err = distinct(problems...); err == nil {
		// A rehearsal makes sense only when all of that is in order.
		for _, w := range fresh {
			w.layers, err = w.confine.rehearse(w.spec)
			problems = append(problems, err)
		}
		err = distinct(problems...)
	}
	if err != nil {
		for _, w := range fresh {
			w.retire()
		}
		return Changes{}, err
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	r.handlers = workers
	for number, w := range workers {
		w.number.Store(int64(number))
	}
	for _, w := range fresh {
		var wait <-chan struct{}
		if old := before[w.title]; old != nil {
			changes.Changed = append(changes.Changed, w.title)
			wait = old.done
			old.retire()
			for e, ok := old.queue.take(); ok; e, ok = old.queue.take() {
				w.push(e)
				old.queue.done()
			}
			delete(before, w.title)
		} else {
			changes.Added = append(changes.Added, w.title)
		}
		w.sayLayers()
		w.start(r, wait)
	}
	for _, w := range workers {
		delete(before, w.title)
	}
	for title, w := range before {
		changes.Removed = append(changes.Removed, title)
		w.retire()
	}
	return changes, nil
}

func (r *Runner) newWorker(config Config, spec Spec, title string, confine *confinement) *worker {
	w := &worker{
		spec:       spec,
		title:      title,
		queue:      newQueue(max(0, min(spec.Settings.Queue, mostQueue))),
		confine:    confine,
		journal:    config.Journal,
		unfinished: config.UnfinishedDir,
		onResult:   config.OnResult,
		logger:     config.Logger,
		done:       make(chan struct{}),
	}
	w.queries = r.queries
	w.queue.lost, w.queue.inHand = w.queries.ended, &r.inHand
	w.retired, w.retire = context.WithCancel(r.ctx)
	return w
}

// titles says what each handler is called. One spec may be given twice, and is two
// handlers then.
func titles(specs []Spec) []string {
	var list []string
	times := make(map[string]int)
	for _, spec := range specs {
		title := spec.title()
		times[title]++
		if n := times[title]; n > 1 {
			title = fmt.Sprintf("%s #%d", title, n)
		}
		list = append(list, title)
	}
	return list
}
