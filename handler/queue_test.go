package handler

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestFullQueueDropsTheOldestAndCounts(t *testing.T) {
	q := newQueue(DefaultQueue)
	overflows := 0
	for i := range DefaultQueue + 10 {
		if q.push(Event{LTime: uint64(i)}) {
			overflows++
		}
	}
	if waiting, dropped, _ := q.counts(); waiting != DefaultQueue || dropped != 10 {
		t.Errorf("waiting %d, dropped %d, want %d and 10", waiting, dropped, DefaultQueue)
	}
	if overflows != 1 {
		t.Errorf("one overflow was reported %d times", overflows)
	}
	for i := range DefaultQueue {
		e, ok := q.pop(t.Context())
		if !ok || e.LTime != uint64(i+10) {
			t.Fatalf("event %d is %d, %v, want %d", i, e.LTime, ok, i+10)
		}
	}
	for range DefaultQueue {
		q.push(Event{})
	}
	if !q.push(Event{}) {
		t.Error("the second overflow was not reported")
	}
}

// However few events wait, their payloads are bounded.
func TestQueueOfLargePayloadsIsBounded(t *testing.T) {
	const most, size = maxQueuedPayload >> 20, 100
	q := newQueue(size)
	large := make([]byte, 1<<20)
	for i := range size {
		q.push(Event{LTime: uint64(i), Payload: large})
	}
	if waiting, dropped, overflowing := q.counts(); waiting != most || dropped != size-most || !overflowing || q.payload != maxQueuedPayload {
		t.Errorf("%d events of %d bytes wait, %d dropped; want %d and the others dropped", waiting, q.payload, dropped, most)
	}
	q.push(Event{LTime: 1000})
	for i := range uint64(most) {
		if e, _ := q.take(); e.LTime != size-most+i {
			t.Fatalf("got event %d, want %d", e.LTime, size-most+i)
		}
	}
	if e, ok := q.take(); !ok || e.LTime != 1000 || q.payload != 0 {
		t.Errorf("got event %d, and %d bytes are counted; want the last one and none", e.LTime, q.payload)
	}
}

func TestQueueForgetsWhatItHandsOut(t *testing.T) {
	q := newQueue(DefaultQueue)
	q.push(Event{Payload: make([]byte, 1<<20)})
	q.pop(t.Context())
	for _, e := range q.events {
		if e.Payload != nil {
			t.Error("a payload is kept after its event was handed out")
		}
	}
}

// Two runs at once wait for events, and one token wakes one of them.
func TestWhoeverTakesAnEventWakesTheNext(t *testing.T) {
	q := newQueue(2)
	q.push(Event{})
	q.push(Event{})
	<-q.ready
	q.take()
	if len(q.ready) != 1 {
		t.Error("an event waits, and nobody is woken for it")
	}
}

func TestEndedQueueHandsOutNothing(t *testing.T) {
	q := newQueue(DefaultQueue)
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan bool)
	go func() {
		_, ok := q.pop(ctx)
		waiting <- ok
	}()
	cancel()
	if <-waiting {
		t.Error("pop returned an event that nobody pushed")
	}
	q.push(Event{})
	if _, ok := q.pop(ctx); ok {
		t.Error("pop returned an event after the end")
	}
}

func TestHistoryKeepsTheLatestWithoutPayloads(t *testing.T) {
	var h history
	if got := h.list(); len(got) != 0 {
		t.Fatalf("new history holds %d results", len(got))
	}
	for i := range 3*historyLength + 5 {
		h.add(Result{ExitCode: i, Event: Event{Payload: []byte("x"), Members: []Member{{}}, SelfTags: map[string]string{"a": "b"}}})
		if got, want := len(h.list()), min(i+1, historyLength); got != want {
			t.Fatalf("after %d results: %d, want %d", i+1, got, want)
		}
	}
	list := h.list()
	if got, want := list[len(list)-1].ExitCode, 3*historyLength+4; got != want {
		t.Errorf("newest is %d, want %d", got, want)
	}
	if !slices.IsSortedFunc(list, func(a, b Result) int { return a.ExitCode - b.ExitCode }) {
		t.Error("results are not in order")
	}
	for _, r := range list {
		if r.Event.Payload != nil || r.Event.Members != nil || r.Event.SelfTags != nil {
			t.Fatal("a result keeps what only its run needed")
		}
	}
}

// Between its queue and its run an event is neither.
func TestAnEventThatWasTakenIsInHandUntilItIsDone(t *testing.T) {
	r := new(Runner)
	w := &worker{queue: newQueue(2)}
	w.queue.inHand, r.handlers = &r.inHand, []*worker{w}
	w.queue.push(Event{})
	for step, want := range []bool{false, false, true} {
		if got := r.idle(); got != want {
			t.Errorf("after %d steps it is idle: %t, want %t", step, got, want)
		}
		switch step {
		case 0:
			w.queue.take()
		case 1:
			w.queue.done()
		}
	}
}

// A token of before does not count as an event, and an event stays where it is.
func TestQueueIsIdleUntilAnEventCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(2)
		q.push(Event{})
		q.take()
		begin := time.Now()
		if !q.idleFor(t.Context(), time.Second) || time.Since(begin) != time.Second {
			t.Errorf("without an event it was not idle for a second, but for %v", time.Since(begin))
		}
		time.AfterFunc(time.Second, func() { q.push(Event{LTime: 7}) })
		if q.idleFor(t.Context(), time.Minute) || time.Since(begin) != 2*time.Second {
			t.Errorf("it was idle although an event came, or until %v", time.Since(begin))
		}
		if e, ok := q.pop(t.Context()); !ok || e.LTime != 7 {
			t.Errorf("got event %d, %v, want the one that came", e.LTime, ok)
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if q.idleFor(over, time.Minute) || time.Since(begin) != 2*time.Second {
			t.Errorf("it was idle for one that is taken out, or until %v", time.Since(begin))
		}
	})
}
