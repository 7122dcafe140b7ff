package handler

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestAQueryGetsOneAnswerTheFirst(t *testing.T) {
	query := Event{Kind: KindQuery, Name: "load", EventID: "q", Deadline: time.Now().Add(time.Hour)}
	printed := func(text string) Result {
		return Result{Event: query, Started: true, Stdout: Output{Head: []byte(text)}, answer: []byte(text)}
	}
	failed := printed("x")
	failed.ExitCode = 1
	long := printed("x")
	long.answer = nil
	user := printed("x")
	user.Event.Kind = KindUser
	for claim, test := range map[string]struct {
		handlers int
		results  []Result
		want     []string
	}{
		"the first output counts":              {2, []Result{printed("a"), printed("b")}, []string{"a"}},
		"one that printed nothing is none":     {2, []Result{printed(""), printed("b")}, []string{"b"}},
		"one that failed is none":              {2, []Result{failed, printed("b")}, []string{"b"}},
		"one that printed too much is none":    {1, []Result{long}, []string{"none"}},
		"when all have ended without, none":    {2, []Result{printed(""), failed}, []string{"none"}},
		"while one runs nothing is said":       {2, []Result{failed}, nil},
		"without handlers there is none":       {0, nil, []string{"none"}},
		"other events are not its answer":      {1, []Result{user}, nil},
		"whoever ends after that says no more": {3, []Result{printed("a"), failed, failed}, []string{"a"}},
	} {
		var got []string
		q := newQueryRuns(func(a Answer) {
			if a.QueryID != "q" || a.Found != (a.Output != nil) {
				t.Errorf("%s: told of %+v", claim, a)
			}
			if !a.Found {
				a.Output = []byte("none")
			}
			got = append(got, string(a.Output))
		}, nil)
		q.begin(query, test.handlers)
		for _, r := range test.results {
			q.concluded(r)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", claim, got, test.want)
		}
	}
}

// Threat C14: what is remembered of queries has a bound, and what is beyond it is
// answered by nobody.
func TestQueriesThatHandlersHangOnHaveABound(t *testing.T) {
	none := 0
	q := newQueryRuns(func(Answer) { none++ }, nil)
	for i := range maxQueryRuns + 10 {
		q.begin(Event{Kind: KindQuery, EventID: fmt.Sprint(i), Deadline: time.Now().Add(time.Hour)}, 1)
	}
	if len(q.left) != maxQueryRuns || none != 10 {
		t.Errorf("%d are remembered and %d were given up, want %d and 10", len(q.left), none, maxQueryRuns)
	}
	for _, run := range q.left {
		run.deadline = time.Now().Add(-time.Second)
	}
	q.begin(Event{Kind: KindQuery, EventID: "next"}, 1)
	if len(q.left) != 1 || none != 10 {
		t.Errorf("%d are remembered when all but one are over", len(q.left))
	}
}

func TestAnAnswerIsKeptWholeUpToItsLimit(t *testing.T) {
	for _, test := range []struct {
		size int
		kept bool
	}{{0, false}, {1, true}, {keptOutput * 3, true}, {MaxAnswer, true}, {MaxAnswer + 1, false}} {
		c := capture{answers: true}
		text := bytes.Repeat([]byte("x"), test.size)
		for part := range slices.Chunk(text, 5000) {
			c.Write(part)
		}
		if got := bytes.Equal(c.answer, text) && c.answer != nil; got != test.kept {
			t.Errorf("%d bytes: %d are kept", test.size, len(c.answer))
		}
		if out := c.output(); len(out.Bytes())+int(out.Omitted) != test.size || len(out.Bytes()) > 2*keptOutput {
			t.Errorf("%d bytes: %d for the history, %d omitted", test.size, len(out.Bytes()), out.Omitted)
		}
	}
	var c capture
	if c.Write([]byte("x")); c.answer != nil {
		t.Error("of an event's run the output is kept whole")
	}
}
