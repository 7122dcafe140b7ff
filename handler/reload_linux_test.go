package handler

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func reload(t *testing.T, r *Runner, specs ...Spec) Changes {
	t.Helper()
	changes, err := r.Reload(specs, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

func TestReloadThatIsRefusedChangesNothing(t *testing.T) {
	results := make(chan Result, 10)
	kept, other := everyEvent(script(t, "echo kept")), everyEvent(script(t, "echo other"))
	r := launch(t, Config{Specs: []Spec{kept}, OnResult: func(r Result) { results <- r }})
	missing, senseless := everyEvent("/no/such/program"), other
	senseless.Settings.Queue = -1
	_, err := r.Reload([]Spec{other, missing, senseless}, Settings{})
	if err == nil || !strings.Contains(err.Error(), "/no/such/program") || !strings.Contains(err.Error(), "queue -1") {
		t.Errorf("got %v, want both problems", err)
	}
	if matched := r.Dispatch(Event{Kind: KindUser, Name: "x"}); matched != 1 {
		t.Errorf("%d handlers matched, want the one of before", matched)
	}
	if got := receive(t, results); got.Stdout.String() != "kept\n" {
		t.Errorf("got %q, want the handler of before", got.Stdout)
	}
}

func TestHandlerThatIsAsItWasKeepsItsCountersAndItsQueue(t *testing.T) {
	dir := granted(t)
	waits := everyEvent(script(t, "until [ -e "+dir+"/go ]; do sleep 0.01; done"))
	waits.Name, waits.Settings.Writable = "waits", []string{dir}
	gone, fresh := everyEvent(script(t, "exit 0")), everyEvent(script(t, "exit 0"))
	gone.Name, fresh.Name = "gone", "fresh"
	results := make(chan Result, 10)
	r := launch(t, Config{Specs: []Spec{gone, waits}, OnResult: func(r Result) {
		if r.Program == waits.Program {
			results <- r
		}
	}})
	for range 3 {
		r.Dispatch(Event{Kind: KindUser, Name: "x"})
	}
	until(t, "one runs", func() bool { return r.Stats()[1].Running == 1 })
	got := reload(t, r, waits, fresh)
	if diff := cmp.Diff(Changes{Added: []string{"fresh"}, Removed: []string{"gone"}}, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	stats := r.Stats()
	if stats[0].Title() != "waits" || stats[0].Running != 1 || stats[0].Waiting != 2 || stats[0].Handler != 0 {
		t.Errorf("got %+v, want one running and two waiting", stats[0])
	}
	write(t, dir+"/go", "", 0o644)
	for range 3 {
		if got := receive(t, results); !got.Done() || got.Handler != 0 {
			t.Errorf("handler %d: %v", got.Handler, got.Err)
		}
	}
	if got := reload(t, r, waits, fresh); !got.None() {
		t.Errorf("nothing was changed, and got %+v", got)
	}
}

// The run of before goes on with its settings; what waited comes after it, with the
// new ones.
func TestChangedHandlerTakesOverWhatWaits(t *testing.T) {
	dir := granted(t)
	text := fmt.Sprintf("echo begin $SERF_USER_LTIME >> %s/order; until [ -e %[1]s/go ]; do sleep 0.01; done; echo end $SERF_USER_LTIME >> %[1]s/order", dir)
	before := everyEvent(script(t, text))
	before.Name, before.Settings.Writable = "deploy", []string{dir}
	after := before
	after.Settings.Timeout = time.Minute
	other := Spec{Filters: []Filter{{Kind: KindMemberJoin}}, Program: script(t, "exit 0")}
	before.Filters, after.Filters = []Filter{{Kind: KindUser}}, []Filter{{Kind: KindUser}}
	results := make(chan Result, 10)
	r := launch(t, Config{Specs: []Spec{before, other}, OnResult: func(r Result) { results <- r }})
	r.Dispatch(Event{Kind: KindUser, Name: "x", LTime: 1})
	until(t, "the first runs", func() bool { return r.Stats()[0].Running == 1 })
	r.Dispatch(Event{Kind: KindUser, Name: "x", LTime: 2})
	if got := reload(t, r, after, other); !slices.Equal(got.Changed, []string{"deploy"}) {
		t.Errorf("changed %q", got.Changed)
	}
	// In the time that another handler runs, this one would begin if it could.
	r.Dispatch(Event{Kind: KindMemberJoin})
	receive(t, results)
	if got := r.Stats()[0]; got.Waiting != 1 || got.Running != 0 {
		t.Errorf("%d events wait and %d are run, want 1 and 0", got.Waiting, got.Running)
	}
	write(t, dir+"/go", "", 0o644)
	for range 2 {
		if got := receive(t, results); !got.Done() {
			t.Errorf("got %v", got.Err)
		}
	}
	if got, want := read(t, dir+"/order"), "begin 1\nend 1\nbegin 2\nend 2\n"; got != want {
		t.Errorf("order %q, want %q", got, want)
	}
}

func TestRunOfAHandlerThatIsTakenOutIsNotCutShort(t *testing.T) {
	dir := granted(t)
	spec := everyEvent(script(t, "until [ -e "+dir+"/go ]; do sleep 0.01; done; echo done"))
	spec.Settings.Writable = []string{dir}
	results := make(chan Result, 1)
	r := launch(t, Config{Specs: []Spec{spec}, OnResult: func(r Result) { results <- r }})
	r.Dispatch(Event{Kind: KindUser, Name: "x"})
	until(t, "it runs", func() bool { return r.Stats()[0].Running == 1 })
	reload(t, r)
	if matched := r.Dispatch(Event{Kind: KindUser, Name: "x"}); matched != 0 {
		t.Errorf("%d handlers matched, want none", matched)
	}
	if err := os.WriteFile(dir+"/go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, results); got.Stdout.String() != "done\n" {
		t.Errorf("got %q, %v", got.Stdout, got.Err)
	}
}
