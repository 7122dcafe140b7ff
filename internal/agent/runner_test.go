package agent

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/secgossip/secgossip/handler"
	"github.com/secgossip/secgossip/internal/link"
)

// broken is a runner, with the test in the place of its network process.
type broken struct {
	*link.Link
	runner *runner
	over   chan error
	log    *bytes.Buffer // read it when over
}

func newBroken(t *testing.T) *broken {
	t.Helper()
	at := newHome(t)
	plan, err := loopback().check()
	check(t, err)
	h := &broken{over: make(chan error, 1), log: new(bytes.Buffer)}
	h.runner, err = newRunner(at, loopback(), plan, account{}, h.log)
	check(t, err)
	ours, theirs := net.Pipe()
	h.Link = link.New(theirs, link.Network)
	go func() {
		l := link.New(ours, link.Runner)
		_, err := h.runner.serve(l, func() {})
		_ = l.Close()
		h.over <- err
	}()
	t.Cleanup(func() {
		_ = h.Link.Close()
		check(t, h.runner.close())
	})
	return h
}

// report waits until the runner has done what it was told before.
func (h *broken) report(t *testing.T) *link.Report {
	t.Helper()
	check(t, h.Send(&link.Ask{Ask: 1}))
	m, err := h.Receive()
	check(t, err)
	report, ok := m.(*link.Report)
	if !ok {
		t.Fatalf("got %T, want a report", m)
	}
	return report
}

// Threat L12.
func TestRunnerRefusesAndCountsWhatItDoesNotBelieve(t *testing.T) {
	h := newBroken(t)
	other := newCluster(t, "demo") // of the same name
	check(t, h.Send(&link.Issuer{Certificate: other.rawIssuer}))
	check(t, h.Send(&link.Revocation{Statement: []byte("nobody"), Credential: []byte("nothing")}))
	for range 10 {
		check(t, h.Offer(&link.Signed{Raw: other.event(t, other.root, "operator", "event:*", nil, today)}))
	}
	check(t, h.Offer(&link.Signed{Raw: []byte("event")}))
	if got := h.report(t).Refused; got != 11 {
		t.Errorf("%d events are counted as refused, want 11", got)
	}
	check(t, h.Send(new(link.Final)))
	if err := <-h.over; err != nil {
		t.Error(err)
	}
	if lines := strings.Count(h.log.String(), "no handler is run"); lines == 0 || lines > 2 {
		t.Errorf("the log has %d lines about it, want one a second:\n%s", lines, h.log)
	}
}

func about(event, name string, tags map[string]string) *link.Members {
	return &link.Members{Event: event, Members: []link.Member{{Name: name, Tags: tags}}}
}

func TestRunnerEndsWhenItIsToldWhatNoHonestProcessSays(t *testing.T) {
	for what, m := range map[string]link.Message{
		"a user event without a signature": about("user", "web-2", nil),
		"a query":                          about("query", "web-2", nil),
		"any event":                        about("*", "web-2", nil),
		"no name":                          about("member-join", "", nil),
		"a name with a newline":            about("member-join", "web-2\nweb-3", nil),
		"a tag with a newline":             about("member-join", "web-2", map[string]string{"role": "a\nb"}),
		"a member event of epochs":         about("epoch", "web-2", nil),
		"an unknown step of an epoch":      &link.Epoch{Number: 7, Action: "burn"},
		"a keeper with a newline":          &link.Epoch{Number: 7, Action: "use", Keeper: "a\nb"},
		"nobody":                           &link.Members{Event: "member-join"},
		"tags of its own with a newline":   &link.Tags{Tags: map[string]string{"role": "a\nb"}},
	} {
		h := newBroken(t)
		check(t, h.Send(m))
		select {
		case err := <-h.over:
			if !errors.Is(err, errTold) {
				t.Errorf("%s: got %v, want %v", what, err, errTold)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the runner goes on", what)
		}
	}
}

// The network process asks and is told of handlers and of runs, whole and in order.
func TestNetworkProcessIsToldHowHandlersFare(t *testing.T) {
	at := newHome(t)
	settings := loopback()
	if canRun(t) {
		settings.EventHandlers = []string{"member-join=/bin/sh"} // its input is no program: it fails
	}
	a, err := Start(at, settings, io.Discard)
	check(t, err)
	defer a.Close()
	answer, err := a.Agent.runner.ask(&link.Ask{Handler: -1})
	check(t, err)
	if len(answer.handlers) != len(settings.EventHandlers) {
		t.Errorf("got %+v", answer)
	}
	for _, h := range answer.handlers {
		if len(h.Layers) == 0 {
			t.Errorf("handler %d is confined by nothing", h.Number)
		}
	}
	again := a.Agent.runner.fares()
	if again.report.Ask != answer.report.Ask+1 {
		t.Errorf("question %d is answered by %d", answer.report.Ask+1, again.report.Ask)
	}
}

// A runner with a new journal takes events of the hour before only if the operator asks
// for them.
func TestRunnerTakesOldEventsOnlyWhenAskedTo(t *testing.T) {
	c := newCluster(t, "demo")
	for _, asked := range []bool{false, true} {
		settings := loopback().Merge(Settings{Replay: asked})
		plan, err := settings.check()
		check(t, err)
		r, err := newRunner(newHome(t), settings, plan, account{}, io.Discard)
		check(t, err)
		j := newJudge(c.trust, "web-1", r.since, begunToday)
		check(t, r.started.open(today))
		_, err = j.event(c.event(t, c.root, "alice", "event:*", nil, today.Add(-4*time.Minute)), nil, nil)
		if (err == nil) != asked {
			t.Errorf("asked for old events: %t; got %v", asked, err)
		}
		check(t, r.close())
	}
}

// canRun reports whether handlers can be confined here.
func canRun(t *testing.T) bool {
	t.Helper()
	settings := loopback().Merge(Settings{EventHandlers: []string{"member-failed=/bin/true"}})
	plan, err := settings.check()
	check(t, err)
	r, err := newRunner(newHome(t), settings, plan, account{}, io.Discard)
	if err == nil {
		check(t, r.close())
	}
	return err == nil
}

// All that is kept of the outputs of all runs is told: none is cut short by the link.
func TestLongestRunsFitTheLink(t *testing.T) {
	kept := bytes.Repeat([]byte("0123456789abcdef"), 2<<10) // 32 KiB
	out := handler.Output{Head: kept, Tail: kept, Omitted: 1 << 40}
	a, b := net.Pipe()
	defer b.Close()
	l := link.New(a, link.Runner)
	for i := range link.MaxRuns {
		m := runMessage(handler.Result{Handler: i, Event: handler.Event{EventID: strings.Repeat("f", 32)}, Stdout: out, Stderr: out}, 1)
		if len(m.Stdout) != 2*len(kept) || m.StderrOmitted != 1<<40 {
			t.Errorf("%d bytes are left", len(m.Stdout))
		}
		check(t, l.Send(m))
	}
	b.Close()
	_ = l.Close()
}

// A runner that says nothing holds up nobody for long, and what is asked then is
// answered as the last time.
func TestSilentRunnerIsDescribedByWhatItSaidLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		r := newRemote(link.New(a, link.Network))
		go io.Copy(io.Discard, b)
		r.last = &answer{handlers: []*link.Handler{{Runs: 7}}, report: new(link.Report)}
		if got := r.fares(); len(got.handlers) != 1 || got.handlers[0].Runs != 7 {
			t.Errorf("got %+v", got)
		}
		if _, err := r.ask(&link.Ask{Handler: -1}); !errors.Is(err, errNoAnswer) {
			t.Errorf("got %v, want %v", err, errNoAnswer)
		}
		// What comes too late, or was never asked for, is nobody's answer.
		r.hear(&link.Report{Ask: r.asked - 1})
		r.hear(&link.Report{Ask: r.asked + 1})
		r.hear(&link.Reloaded{Ask: 1})
		if r.answer == nil || r.answer.report != nil {
			t.Error("the answer to another question is taken")
		}
		_ = r.link.Close()
		b.Close()
	})
}
