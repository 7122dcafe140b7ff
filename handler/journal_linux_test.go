package handler

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// disk is what survives a kill: the starts in the journal, and the folder of
// unfinished runs.
type disk struct {
	mu     sync.Mutex
	starts map[[16]byte]bool
	folder string
	full   bool
	before func() // called by Accept before it remembers
	after  func() // and after
}

func newDisk(t *testing.T) *disk {
	return &disk{starts: make(map[[16]byte]bool), folder: t.TempDir()}
}

// Accept implements Journal.
func (d *disk) Accept(key [16]byte, _, _ time.Time) (bool, error) {
	if d.before != nil {
		d.before()
	}
	d.mu.Lock()
	known := d.starts[key]
	if d.full {
		d.mu.Unlock()
		return false, errors.New("no space left on device")
	}
	d.starts[key] = true
	d.mu.Unlock()
	if d.after != nil {
		d.after()
	}
	return !known, nil
}

// copied is what the disk holds at this moment, as a kill would leave it.
func (d *disk) copied(t *testing.T) *disk {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	c := newDisk(t)
	maps.Copy(c.starts, d.starts)
	if err := os.CopyFS(c.folder, os.DirFS(d.folder)); err != nil {
		t.Fatal(err)
	}
	return c
}

func (d *disk) config(spec Spec, results chan Result) Config {
	return Config{Specs: []Spec{spec}, Journal: d, UnfinishedDir: d.folder, OnResult: func(r Result) { results <- r }}
}

var oneEvent = Event{Kind: KindUser, Name: "deploy", Payload: []byte("v1"), Principal: "alice", EventID: "0a", Expires: time.Now().Add(time.Hour)}

// Each step of a run is killed, which is to say: the agent starts again with what
// was on disk at that moment, and somebody sends the event again.
func TestKillAtAnyStepRunsNothingTwice(t *testing.T) {
	for _, idempotent := range []bool{false, true} {
		dir := granted(t)
		spec := everyEvent(script(t, fmt.Sprintf("echo run >> %s/runs; until [ -e %[1]s/go ]; do sleep 0.01; done", dir)))
		spec.Name, spec.Settings = "deploy", Settings{Idempotent: idempotent, Writable: []string{dir}}
		first := newDisk(t)
		killed := map[string]*disk{"before anything": first.copied(t)}
		first.before = func() { killed["event kept"] = first.copied(t) }
		first.after = func() { killed["start written"] = first.copied(t) }
		results := make(chan Result, 10)
		r := launch(t, first.config(spec, results))
		r.Dispatch(oneEvent)
		until(t, "the program runs", func() bool { return present(dir + "/runs") })
		killed["running"] = first.copied(t)
		write(t, dir+"/go", "", 0o644)
		if got := receive(t, results); !got.Done() {
			t.Fatalf("the run that is not killed: %v, %s", got.Err, got.Stderr)
		}
		killed["over"] = first.copied(t)
		shut(t, r)

		// How often the program is begun after the restart, when the event is sent again.
		want := map[string]int{"before anything": 1, "event kept": 1, "start written": 0, "running": 0, "over": 0}
		if idempotent {
			want["start written"], want["running"] = 1, 1
		}
		for step, left := range killed {
			t.Run(fmt.Sprintf("%s, idempotent %t", step, idempotent), func(t *testing.T) {
				write(t, dir+"/runs", "", 0o666)
				for range 3 { // the second and third restart bring nothing more
					results := make(chan Result, 10)
					again := launch(t, left.config(spec, results))
					again.Dispatch(oneEvent)
					again.Dispatch(Event{Kind: KindMemberJoin}) // when this one is over, so is all before it
					for receive(t, results).Event.Kind != KindMemberJoin {
					}
					shut(t, again)
				}
				// Three of the runs are those for member events, which have no id.
				if got := strings.Count(read(t, dir+"/runs"), "run") - 3; got != want[step] {
					t.Errorf("run %d times after the restart, want %d", got, want[step])
				}
			})
		}
	}
}

func present(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Threat L11: with a full disk nothing is run that might be run again.
func TestNothingRunsWhenItsStartCannotBeWritten(t *testing.T) {
	d := newDisk(t)
	d.full = true
	spec := everyEvent(script(t, "exit 0"))
	spec.Settings.Idempotent = true
	results := make(chan Result, 1)
	r := launch(t, d.config(spec, results))
	r.Dispatch(oneEvent)
	if got := receive(t, results); got.Started || got.Err == nil || !strings.Contains(got.Err.Error(), "no space") {
		t.Errorf("started %t, %v, want the cause", got.Started, got.Err)
	}
	isEmpty(t, d.folder)
	d.full = false
	r.Dispatch(oneEvent)
	if got := receive(t, results); !got.Done() {
		t.Errorf("with space again: %v", got.Err)
	}
}

// Two clients may choose the same id, and two handlers see the same event.
func TestRunIsIdentifiedByHandlerClientAndEvent(t *testing.T) {
	d := newDisk(t)
	results := make(chan Result, 10)
	config := d.config(Spec{}, results)
	program := script(t, "exit 0")
	config.Specs = []Spec{everyEvent(program), everyEvent(program)} // one spec twice is two handlers
	r := launch(t, config)
	other := oneEvent
	other.Principal = "bob"
	for _, e := range []Event{oneEvent, other, oneEvent} {
		r.Dispatch(e)
	}
	var done, repeated int
	for range 6 {
		switch got := receive(t, results); {
		case got.Done():
			done++
		case got.Err == ErrRepeated:
			repeated++
		default:
			t.Errorf("got %v", got.Err)
		}
	}
	if done != 4 || repeated != 2 {
		t.Errorf("%d runs and %d refused, want 4 and 2", done, repeated)
	}
}

func TestIdempotentRunThatAStopCutShortIsRepeatedOnce(t *testing.T) {
	d, dir := newDisk(t), granted(t)
	spec := everyEvent(script(t, fmt.Sprintf("echo run >> %s/runs; until [ -e %[1]s/go ]; do sleep 0.01; done", dir)))
	spec.Settings = Settings{Idempotent: true, Writable: []string{dir}}
	results := make(chan Result, 10)
	r := launch(t, d.config(spec, results))
	r.Dispatch(oneEvent)
	// The shell makes the file before it writes to it.
	until(t, "the program runs", func() bool { return present(dir+"/runs") && read(t, dir+"/runs") != "" })
	shut(t, r)
	if got := receive(t, results); !errors.Is(got.Err, ErrClosed) {
		t.Fatalf("got %v, want ErrClosed", got.Err)
	}
	write(t, dir+"/go", "", 0o644)
	r = launch(t, d.config(spec, results))
	got := receive(t, results)
	if !got.Done() || got.Event.EventID != oneEvent.EventID || got.Event.Principal != "alice" {
		t.Errorf("the run that is repeated: %v, event %q of %q", got.Err, got.Event.EventID, got.Event.Principal)
	}
	shut(t, r)
	launch(t, d.config(spec, results))
	isEmpty(t, d.folder)
	if got := strings.Count(read(t, dir+"/runs"), "run"); got != 2 {
		t.Errorf("run %d times, want 2", got)
	}
}

// What somebody else left in the folder, and what has expired, is removed and not run.
func TestOnlyAKeptEventIsRepeated(t *testing.T) {
	d := newDisk(t)
	spec := everyEvent(script(t, "exit 0"))
	spec.Settings.Idempotent = true
	old := oneEvent
	old.Expires = time.Now().Add(-time.Second)
	for name, k := range map[string]kept{"a": {spec.String(), old}, "b": {"gone", oneEvent}} {
		if err := keepEvent(filepath.Join(d.folder, name+".json"), k); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(d.folder, "c.json"), "{", 0o600)
	write(t, filepath.Join(d.folder, "d.json.new"), "{}", 0o600)
	symlink(t, "/dev/zero", filepath.Join(d.folder, "e.json"))
	results := make(chan Result, 10)
	r := launch(t, d.config(spec, results))
	isEmpty(t, d.folder)
	r.Dispatch(Event{Kind: KindMemberJoin})
	if got := receive(t, results); got.Event.Kind != KindMemberJoin {
		t.Errorf("event %q was run", got.Event.EventID)
	}
}
