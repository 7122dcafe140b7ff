package handler

import (
	"context"
	"time"
)

// drainLook is how often Drain looks.
const drainLook = 20 * time.Millisecond

// Drain waits until no handler runs and none has anything to do, or ctx ends. It reports
// whether that came about. New events may still come: it is for when none do.
func (r *Runner) Drain(ctx context.Context) bool {
	look := time.NewTicker(drainLook)
	defer look.Stop()
	// An event is for a moment neither in its queue nor a run: it must look idle twice.
	for looks := 0; looks < 2; {
		if looks++; !r.idle() {
			looks = 0
		}
		select {
		case <-ctx.Done():
			return false
		case <-look.C:
		}
	}
	return true
}

// idle reports whether no handler has anything to do.
func (r *Runner) idle() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, w := range r.handlers {
		if waiting, _, _ := w.queue.counts(); waiting > 0 || w.running.Load() > 0 {
			return false
		}
	}
	return true
}
