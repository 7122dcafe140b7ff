package handler

import (
	"log/slog"
	"sync"
	"time"
)

// Answer is what the handlers of this node have to say to one query.
type Answer struct {
	QueryID string // the EventID of the query
	Output  []byte // standard output of the handler that was first; nil if Found is false
	Found   bool   // false: no handler has an answer, and none will have
}

// maxQueryRuns bounds the queries that handlers run for: as many as there is room
// for in the queues of a dozen handlers.
const maxQueryRuns = 4096

// queryRuns waits for the handlers that run for each query. The first output counts,
// as in Serf. The methods do nothing for events that are no queries.
type queryRuns struct {
	tell   func(Answer) // nil: nobody asks
	logger *slog.Logger

	mu   sync.Mutex
	left map[string]*queryRun // by the query's id
}

type queryRun struct {
	handlers int // that have not ended
	deadline time.Time
}

func newQueryRuns(tell func(Answer), logger *slog.Logger) *queryRuns {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &queryRuns{tell: tell, logger: logger, left: make(map[string]*queryRun)}
}

// begin notes how many handlers there are for a query.
func (q *queryRuns) begin(e Event, handlers int) {
	if q.tell == nil || e.Kind != KindQuery {
		return
	}
	q.mu.Lock()
	if len(q.left) >= maxQueryRuns {
		for id, run := range q.left {
			if time.Now().After(run.deadline) {
				delete(q.left, id)
			}
		}
	}
	full := len(q.left) >= maxQueryRuns
	if handlers > 0 && !full {
		q.left[e.EventID] = &queryRun{handlers: handlers, deadline: e.Deadline}
	}
	q.mu.Unlock()
	if handlers == 0 || full {
		q.tell(Answer{QueryID: e.EventID})
	}
}

// concluded takes what a run has brought.
func (q *queryRuns) concluded(r Result) {
	if r.Event.Kind != KindQuery || q.tell == nil {
		return
	}
	if !r.Done() || r.Stdout.Omitted == 0 && len(r.Stdout.Head) == 0 {
		q.ended(r.Event)
		return
	}
	if r.answer == nil {
		q.logger.Warn("output of a handler has more than 1 MiB and answers no query", "program", r.Program)
		q.ended(r.Event)
		return
	}
	q.mu.Lock()
	first := q.left[r.Event.EventID] != nil
	delete(q.left, r.Event.EventID)
	q.mu.Unlock()
	if first {
		q.tell(Answer{QueryID: r.Event.EventID, Output: r.answer, Found: true})
	}
}

// ended says that one handler has nothing to say to e.
func (q *queryRuns) ended(e Event) {
	if e.Kind != KindQuery || q.tell == nil {
		return
	}
	q.mu.Lock()
	last := false
	if run := q.left[e.EventID]; run != nil {
		if run.handlers--; run.handlers == 0 {
			last = true
			delete(q.left, e.EventID)
		}
	}
	q.mu.Unlock()
	if last {
		q.tell(Answer{QueryID: e.EventID})
	}
}
