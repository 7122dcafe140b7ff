package handler

import (
	"errors"
	"sync"
	"time"
)

var (
	// ErrTimeout says that a run was killed because it took too long.
	ErrTimeout = errors.New("handler killed: it took too long")
	// ErrClosed says that a run was killed because the agent is stopping.
	ErrClosed = errors.New("handler killed: the agent is stopping")
	// ErrLate says that there was no run because the time of its query was over.
	ErrLate = errors.New("not run: the time of the query is over")
	// ErrUnsupported says that this operating system cannot confine
	// handlers, for which reason none runs.
	ErrUnsupported = errors.New("handlers run on Linux only: this system cannot confine them")
)

// Result is what became of one run.
type Result struct {
	Handler int    // number of the handler: its place in Config.Specs
	Program string // absolute path
	Event   Event

	// Started says that the program itself ran. If it is false, Err says
	// why nothing of the program was executed.
	Started bool

	// ExitCode is the program's, or -1 if it did not exit by itself.
	ExitCode int

	// Err says why there is no exit code: not started, ErrTimeout,
	// ErrClosed, or the signal that ended it. A program that ran and exited
	// with 1 has no Err.
	Err error

	Begin    time.Time
	Duration time.Duration
	outlived bool // a process of it still holds its output
	spare    bool // its shim was started before it

	Stdout Output
	Stderr Output

	// answer is all of standard output of a run for a query, nil if that was more
	// than MaxAnswer. No history keeps it.
	answer []byte
}

// Done reports whether the program ran and exited with 0.
func (r Result) Done() bool { return r.Started && r.Err == nil && r.ExitCode == 0 }

// historyLength is how many results are kept for operators to look at.
const historyLength = 64

// history is a ring of the latest results.
type history struct {
	mu      sync.Mutex
	results [historyLength]Result
	next    int
	length  int
}

// add keeps r without what only the run needed. Payloads of 1 MiB each would
// add 64 MiB to the 8 MiB of output.
func (h *history) add(r Result) {
	r.Event.Payload, r.Event.Members, r.Event.SelfTags = nil, nil, nil
	r.answer = nil
	h.mu.Lock()
	defer h.mu.Unlock()
	h.results[h.next] = r
	h.next = (h.next + 1) % historyLength
	h.length = min(h.length+1, historyLength)
}

// list returns the results, oldest first.
func (h *history) list() []Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]Result, 0, h.length)
	for i := range h.length {
		list = append(list, h.results[(h.next-h.length+i+historyLength)%historyLength])
	}
	return list
}
