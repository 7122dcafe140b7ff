package handler

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestAHandlersWholeOutputAnswersAQuery(t *testing.T) {
	answers := make(chan Answer, 4)
	program := script(t, `head -c 1048576 /dev/zero | tr '\0' x; echo noise >&2`)
	r := launch(t, Config{Specs: []Spec{everyEvent(program)}, OnAnswer: func(a Answer) { answers <- a }})
	r.Dispatch(Event{Kind: KindQuery, Name: "load", EventID: "0123", Deadline: time.Now().Add(patience)})
	got := receive(t, answers)
	if got.QueryID != "0123" || !got.Found || string(got.Output) != strings.Repeat("x", MaxAnswer) {
		t.Errorf("told of %d bytes for %q, found %v", len(got.Output), got.QueryID, got.Found)
	}
	if history := r.History(); len(history) != 1 || history[0].answer != nil || len(history[0].Stdout.Bytes()) != 2*keptOutput {
		t.Error("the history keeps 64 KiB and no answer")
	}
}

func TestAHandlerOfAQueryKnowsItAndWhoAsks(t *testing.T) {
	answers := make(chan Answer, 4)
	program := script(t, `echo "$SERF_QUERY_NAME $SERF_QUERY_LTIME $SECGOSSIP_QUERY_ID $SECGOSSIP_QUERY_DEADLINE $SECGOSSIP_PRINCIPAL $SECGOSSIP_ORIGIN"`)
	r := launch(t, Config{Specs: []Spec{everyEvent(program)}, OnAnswer: func(a Answer) { answers <- a }})
	deadline := time.Now().Add(patience).Truncate(time.Millisecond)
	r.Dispatch(Event{Kind: KindQuery, Name: "load", LTime: 7, EventID: "0123", Principal: "ops", Origin: "web-1", Deadline: deadline})
	fields := strings.Fields(string(receive(t, answers).Output))
	want := []string{"load", "7", "0123", "", "ops", "web-1"}
	if len(fields) != len(want) {
		t.Fatalf("got %q", fields)
	}
	for i := range want {
		if want[i] != "" && fields[i] != want[i] {
			t.Errorf("field %d: got %q, want %q", i, fields[i], want[i])
		}
	}
}

// Nobody waits for what a run would bring later, and the next query should not.
func TestARunForAQueryEndsAtItsDeadline(t *testing.T) {
	answers, results := make(chan Answer, 4), make(chan Result, 4)
	r := launch(t, Config{
		Specs:    []Spec{everyEvent(script(t, `echo early; sleep 600`))},
		Settings: Settings{Timeout: 10 * time.Minute},
		OnAnswer: func(a Answer) { answers <- a },
		OnResult: func(r Result) { results <- r },
	})
	r.Dispatch(Event{Kind: KindQuery, Name: "load", EventID: "1", Deadline: time.Now().Add(time.Second)})
	if got := receive(t, results); !errors.Is(got.Err, ErrTimeout) {
		t.Errorf("got %v, want ErrTimeout", got.Err)
	}
	if got := receive(t, answers); got.Found {
		t.Errorf("what it printed before it was killed became the answer: %q", got.Output)
	}
	r.Dispatch(Event{Kind: KindQuery, Name: "load", EventID: "2", Deadline: time.Now().Add(-time.Second)})
	if got := receive(t, results); !errors.Is(got.Err, ErrLate) || got.Started {
		t.Errorf("after the deadline: got %v, started %v, want ErrLate", got.Err, got.Started)
	}
	if got := receive(t, answers); got.QueryID != "2" || got.Found {
		t.Errorf("told of %+v", got)
	}
}
