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
	for !r.idle() {
		select {
		case <-ctx.Done():
			return false
		case <-look.C:
		}
	}
	return true
}

// idle reports whether no handler has anything to do, nor one that was taken out. The
// order counts: an event is in hand before it is out of its queue.
func (r *Runner) idle() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, w := range r.handlers {
		if waiting, _, _ := w.queue.counts(); waiting > 0 {
			return false
		}
	}
	return r.inHand.Load() == 0
}
