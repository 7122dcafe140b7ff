package handler

import (
	"context"
	"testing"
	"time"
)

func TestDrainWaitsForWhatRunsAndWhatWaits(t *testing.T) {
	results := make(chan Result, 8)
	r := launch(t, Config{Specs: []Spec{everyEvent(script(t, "sleep 0.1"))}, OnResult: func(r Result) { results <- r }})
	for range 3 {
		r.Dispatch(Event{Kind: KindUser, Name: "x"})
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if !r.Drain(ctx) {
		t.Error("handlers that end are not waited for")
	}
	if len(results) != 3 {
		t.Errorf("%d of 3 runs are over", len(results))
	}
}

func TestDrainEndsThoughAHandlerHangs(t *testing.T) {
	r := launch(t, Config{Specs: []Spec{everyEvent(install(t, "testdata/hang.sh"))}})
	r.Dispatch(unique(t))
	until(t, "it runs", func() bool { return r.Stats()[0].Running == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if r.Drain(ctx) {
		t.Error("a handler that hangs counts as done")
	}
}

func TestDrainWaitsForARunOfAHandlerThatIsGone(t *testing.T) {
	results := make(chan Result, 1)
	dir := granted(t)
	spec := everyEvent(script(t, "until [ -e "+dir+"/go ]; do sleep 0.01; done"))
	spec.Settings = Settings{Writable: []string{dir}}
	r := launch(t, Config{Specs: []Spec{spec}, OnResult: func(r Result) { results <- r }})
	r.Dispatch(unique(t))
	until(t, "it runs", func() bool { return r.Stats()[0].Running == 1 })
	reload(t, r)
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if r.Drain(short) {
		t.Error("it is not waited for")
	}
	write(t, dir+"/go", "", 0o644)
	long, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if !r.Drain(long) || len(results) != 1 {
		t.Errorf("%d runs are over, want one", len(results))
	}
}
