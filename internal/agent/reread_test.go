package agent

import (
	"errors"
	"strings"
	"testing"

	"github.com/secgossip/secgossip/internal/link"
)

// reloading is a runner that is asked for a reload which adds a handler, and the first
// half of it.
func reloading(t *testing.T) (*broken, *link.Check) {
	t.Helper()
	if !canRun(t) {
		t.Skip("handlers cannot be confined here")
	}
	h := newBroken(t)
	h.runner.reread = func() (Settings, error) {
		return loopback().Merge(Settings{EventHandlers: []string{"member-failed=/bin/true"}, RPCAddr: "127.0.0.1:1"}), nil
	}
	check(t, h.Send(&link.Reread{Ask: 5}))
	return h, received[*link.Check](t, h)
}

// received is the next message, which must be one of this type.
func received[M link.Message](t *testing.T, h *broken) M {
	t.Helper()
	m, err := h.Receive()
	check(t, err)
	message, ok := m.(M)
	if !ok {
		t.Fatalf("got %T, want %T", m, message)
	}
	return message
}

func TestReloadThatEitherProcessRefusesChangesNothing(t *testing.T) {
	h, first := reloading(t)
	if settings, err := settingsFrom(first.Settings); err != nil || len(settings.EventHandlers) > 0 || len(first.Certificate) == 0 {
		t.Errorf("got %+v, %v: handlers are no business of the network process", settings, err)
	}
	check(t, h.Send(&link.Checked{Number: first.Number - 1})) // of a reload before
	check(t, h.Send(&link.Checked{Number: first.Number, Problem: "it is of another node"}))
	if second := received[*link.Apply](t, h); second.Use || second.Number != first.Number {
		t.Errorf("got %+v, want it forgotten", second)
	}
	over := received[*link.Reloaded](t, h)
	if over.Ask != 5 || !strings.Contains(over.Problem, ErrUnchanged.Error()) || !strings.Contains(over.Problem, "another node") {
		t.Errorf("got %+v", over)
	}
	if got := len(h.runner.handlers.Stats()); got != 0 {
		t.Errorf("there are %d handlers, want none", got)
	}
	// The other one: what the runner finds wrong, nobody else is asked about.
	h.runner.reread = func() (Settings, error) {
		return loopback().Merge(Settings{EventHandlers: []string{"member-failed=/no/such/program"}}), nil
	}
	check(t, h.Send(&link.Reread{Ask: 6}))
	third := received[*link.Check](t, h)
	check(t, h.Send(&link.Checked{Number: third.Number}))
	if fourth := received[*link.Apply](t, h); fourth.Use {
		t.Errorf("got %+v, want it forgotten", fourth)
	}
	if over := received[*link.Reloaded](t, h); !strings.Contains(over.Problem, "/no/such/program") {
		t.Errorf("got %+v", over)
	}
}

func TestReloadThatBothProcessesAcceptIsUsedByBoth(t *testing.T) {
	h, first := reloading(t)
	check(t, h.Send(&link.Checked{Number: first.Number}))
	if second := received[*link.Apply](t, h); !second.Use || second.Number != first.Number {
		t.Errorf("got %+v, want it used", second)
	}
	check(t, h.Send(&link.Applied{Number: first.Number, Settings: []string{"tag"}}))
	over := received[*link.Reloaded](t, h)
	if over.Problem != "" || len(over.Added) != 1 || strings.Join(over.Settings, " ") != "tag" || strings.Join(over.Restart, " ") != "rpc-addr" {
		t.Errorf("got %+v", over)
	}
	if got := len(h.runner.handlers.Stats()); got != 1 {
		t.Errorf("there are %d handlers, want 1", got)
	}
}

// One answer is one answer: a second is not taken for that to the other half.
func TestAnswerToTheWrongHalfIsAnError(t *testing.T) {
	h, first := reloading(t)
	for range 2 {
		check(t, h.Send(&link.Checked{Number: first.Number}))
	}
	received[*link.Apply](t, h)
	if over := received[*link.Reloaded](t, h); !strings.Contains(over.Problem, errTold.Error()) {
		t.Errorf("got %+v, want it said that the network process lies", over)
	}
}

// Nobody can make reloads pile up.
func TestReloadsThatNobodyCanAnswerAreRefused(t *testing.T) {
	h, _ := reloading(t)
	refused := 0
	for range 3 * maxReloads {
		check(t, h.Send(&link.Reread{Ask: 7}))
	}
	check(t, h.Send(&link.Ask{Ask: 1, Handler: -1}))
	for {
		m, err := h.Receive()
		check(t, err)
		if over, ok := m.(*link.Reloaded); ok && strings.Contains(over.Problem, ErrUnchanged.Error()) {
			refused++
		}
		if _, last := m.(*link.Report); last {
			break
		}
	}
	if refused != 2*maxReloads {
		t.Errorf("%d are refused, want %d", refused, 2*maxReloads)
	}
}

// The network process changes nothing either until it is told to, and then only what it
// has checked.
func TestNetworkProcessUsesOnlyWhatItHasChecked(t *testing.T) {
	at := newHome(t)
	a, err := Start(at, loopback(), new(strings.Builder))
	check(t, err)
	defer a.Close()
	files, err := at.ReadFiles()
	check(t, err)
	settings := loopback()
	settings.Tags, settings.LogLevel = map[string]string{"role": "web"}, "debug"
	text, err := settings.forNetwork()
	check(t, err)
	half := &link.Check{Number: 1, Settings: text, Bundle: files.Bundle, Certificate: files.Certificate, Credential: files.Credential}
	check(t, a.check(half))
	if _, err := a.apply(2); err == nil {
		t.Error("what was not checked is used")
	}
	if _, err := a.apply(1); err == nil {
		t.Error("what was forgotten is used")
	}
	if len(a.tagsNow()) != 0 {
		t.Errorf("tags are %v already", a.tagsNow())
	}
	check(t, a.check(half))
	changed, err := a.apply(1)
	if err != nil || strings.Join(changed, " ") != "log-level tag" || a.tagsNow()["role"] != "web" {
		t.Errorf("got %v, %v; tags %v", changed, err, a.tagsNow())
	}
	half.Credential = []byte("nobody's")
	if err := a.check(half); err == nil || errors.Is(err, ErrSetup) {
		t.Errorf("got %v, want the credential refused", err)
	}
}
