package handler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestHandlerGetsItsEventAndReportsBack(t *testing.T) {
	program := install(t, "testdata/report.sh")
	event := Event{Kind: KindUser, Name: "deploy", LTime: 42, Payload: []byte("v1.2"), Principal: "ops"}
	r := runOnce(t, program, Settings{}, event)
	if r.ExitCode != 7 || !r.Started || r.Err != nil || r.Done() {
		t.Errorf("exit code %d, started %v, err %v, done %v, want 7, true, nil, false", r.ExitCode, r.Started, r.Err, r.Done())
	}
	if got, want := r.Stdout.String(), "event user deploy 42 from ops\nv1.2\n"; got != want {
		t.Errorf("stdout %q, want %q", got, want)
	}
	if got, want := r.Stderr.String(), "on standard error\n"; got != want {
		t.Errorf("stderr %q, want %q", got, want)
	}
	if r.Program != program || r.Event.Name != "deploy" || r.Duration <= 0 {
		t.Errorf("result names %q, %q, %v", r.Program, r.Event.Name, r.Duration)
	}
}

func TestAnswerToAQueryIsStandardOutputAlone(t *testing.T) {
	r := runOnce(t, install(t, "testdata/answer.sh"), Settings{}, Event{Kind: KindQuery, Name: "load", Payload: []byte("now")})
	if got := string(r.Stdout.Bytes()); !r.Done() || got != "load=now" {
		t.Errorf("answer %q, done %v (%v, stderr %q), want %q, true", got, r.Done(), r.Err, r.Stderr, "load=now")
	}
}

// A pipe belongs to whoever made it, and /dev/stdin opens it anew: a handler
// of another user could not, if the pipe stayed root's.
func TestStreamsCanBeOpenedAgainByName(t *testing.T) {
	r := runOnce(t, install(t, "testdata/streams.sh"), Settings{}, Event{Kind: KindUser, Name: "x", Payload: []byte("payload")})
	if got, want := r.Stdout.String(), "payload\nto standard output\n"; got != want {
		t.Errorf("stdout %q, want %q", got, want)
	}
	if got, want := r.Stderr.String(), "to standard error\n"; got != want {
		t.Errorf("stderr %q, want %q", got, want)
	}
}

func TestELFProgramRunsUnderItsOwnName(t *testing.T) {
	program := install(t, "/bin/dash")
	r := runOnce(t, program, Settings{}, Event{Kind: KindUser, Name: "x", Payload: []byte("echo $0; exit 3")})
	if got := r.Stdout.String(); got != program+"\n" || r.ExitCode != 3 {
		t.Errorf("got %q, exit %d (%v, %s), want its path and 3", got, r.ExitCode, r.Err, r.Stderr)
	}
}

func TestInputThatNobodyReadsIsNoFailure(t *testing.T) {
	r := runOnce(t, script(t, "exit 0"), Settings{}, Event{Kind: KindUser, Name: "x", Payload: make([]byte, 4<<20)})
	if !r.Done() {
		t.Errorf("exit %d, err %v, want success", r.ExitCode, r.Err)
	}
}

func TestEndlessOutputIsCutAndDoesNotStopTheHandler(t *testing.T) {
	r := runOnce(t, script(t, "head -c 3000000 /dev/zero; echo end; echo err >&2"), Settings{}, Event{Kind: KindUser, Name: "x"})
	if !r.Done() {
		t.Fatalf("exit %d, err %v, want success", r.ExitCode, r.Err)
	}
	if got := len(r.Stdout.Bytes()); got != 2*keptOutput || r.Stdout.Omitted != 3000004-2*keptOutput {
		t.Errorf("kept %d bytes and omitted %d", got, r.Stdout.Omitted)
	}
	if !bytes.HasSuffix(r.Stdout.Tail, []byte("end\n")) || r.Stderr.String() != "err\n" {
		t.Errorf("the end is %q, stderr %q", r.Stdout.Tail[keptOutput-10:], r.Stderr)
	}
}

// Which of the children there are by then is up to the machine; that all of
// them go, TestCloseKillsTheWholeGroup shows.
func TestTimeLimitEndsARun(t *testing.T) {
	r := runOnce(t, install(t, "testdata/hang.sh"), Settings{Timeout: 300 * time.Millisecond}, unique(t))
	if !errors.Is(r.Err, ErrTimeout) || r.ExitCode != -1 || r.Done() {
		t.Fatalf("err %v, exit %d, done %v, want ErrTimeout, -1, false", r.Err, r.ExitCode, r.Done())
	}
	until(t, "its children are gone", func() bool { return running(t, unique(t).Name) == 0 })
}

func TestNothingSurvivesTheEndOfAHandler(t *testing.T) {
	r := runOnce(t, script(t, "sleep 100000 >/dev/null 2>&1 & echo $!"), Settings{}, unique(t))
	if !r.Done() {
		t.Fatalf("exit %d, err %v, want success", r.ExitCode, r.Err)
	}
	until(t, "its child is gone", func() bool { return running(t, unique(t).Name) == 0 })
}

// A process that starts a session of its own leaves the group. Where there are
// namespaces it ends with the run; elsewhere it must not hold up the handler's
// next run by holding its output.
func TestEscapedProcessDoesNotHoldTheRun(t *testing.T) {
	var log bytes.Buffer
	results := make(chan Result, 1)
	r := launch(t, Config{
		Specs:    []Spec{everyEvent(script(t, "setsid sh -c 'echo $$; touch escaped; exec sleep 100000' &\nuntil [ -e escaped ]; do :; done"))},
		Logger:   slog.New(slog.NewTextHandler(&log, nil)),
		OnResult: func(r Result) { results <- r },
	})
	r.Dispatch(unique(t))
	got := receive(t, results)
	if !got.Done() {
		t.Fatalf("exit %d, err %v, stdout %q, stderr %q, want success", got.ExitCode, got.Err, got.Stdout, got.Stderr)
	}
	shut(t, r)
	if r.handlers[0].confine.canIsolate {
		until(t, "the process with a session of its own is gone", func() bool { return running(t, unique(t).Name) == 0 })
		return
	}
	escaped, err := strconv.Atoi(strings.TrimSpace(got.Stdout.String()))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(escaped, unix.SIGKILL); err != nil {
		t.Errorf("the process did not escape: %v", err)
	}
	if !strings.Contains(log.String(), "left its handler's process group") {
		t.Errorf("the log does not say so: %s", log.String())
	}
}

func TestSignalIsNoExitCode(t *testing.T) {
	for signal, want := range map[string]string{"TERM": "terminated", "KILL": "killed", "SEGV": "segmentation fault"} {
		for _, isolated := range []bool{true, false} {
			c := confined(t, Settings{})
			c.canIsolate = c.canIsolate && isolated
			r := c.run(t.Context(), script(t, "kill -"+signal+" $$"), Event{Kind: KindUser, Name: "x"})
			if r.Err == nil || !strings.Contains(r.Err.Error(), want) || r.ExitCode != -1 || !r.Started {
				t.Errorf("%s: err %v, exit %d, started %v, want %q, -1, true", signal, r.Err, r.ExitCode, r.Started, want)
			}
		}
	}
}

func TestRunThatCannotBeginSaysWhy(t *testing.T) {
	ran := filepath.Join(granted(t), "ran")
	program := script(t, "touch "+ran)
	r := runOnce(t, program, Settings{Writable: []string{filepath.Dir(ran)}}, Event{Kind: KindUser, Name: "a\nb"})
	if r.Started || r.Err == nil || !strings.Contains(r.Err.Error(), "_USER_EVENT") || r.ExitCode != -1 {
		t.Errorf("started %v, err %v, exit %d, want false, the variable's name, -1", r.Started, r.Err, r.ExitCode)
	}
	isEmpty(t, filepath.Dir(ran))
}

func TestScratchDirectoryIsFreshAndGoneAfterwards(t *testing.T) {
	root := folder(t)
	program := script(t, `pwd; echo "$HOME"; echo "$TMPDIR"; ls -a | wc -l; stat -c %a .; umask; mkdir -p a/b; touch a/b/c; chmod 0 a/b a`)
	seen := map[string]bool{}
	for range 2 {
		results := make(chan Result, 1)
		runner := launch(t, Config{Specs: []Spec{everyEvent(program)}, ScratchRoot: root, OnResult: func(r Result) { results <- r }})
		runner.Dispatch(Event{Kind: KindUser, Name: "x"})
		r := receive(t, results)
		lines := strings.Fields(r.Stdout.String())
		if !r.Done() || len(lines) != 6 {
			t.Fatalf("exit %d, err %v, stdout %q, stderr %q", r.ExitCode, r.Err, r.Stdout, r.Stderr)
		}
		if lines[0] != lines[1] || lines[0] != lines[2] || !strings.HasPrefix(lines[0], root+"/") || seen[lines[0]] {
			t.Errorf("working directory, HOME and TMPDIR are %q, want one new directory", lines[:3])
		}
		if got, want := strings.Join(lines[3:], " "), "2 700 0077"; got != want {
			t.Errorf("entries, mode and umask are %q, want %q", got, want)
		}
		seen[lines[0]] = true
		shut(t, runner)
		isEmpty(t, root)
	}
}

func TestHangingHandlerDelaysNobodyElse(t *testing.T) {
	results := make(chan Result, 1)
	config := Config{
		Specs: []Spec{
			{Filters: []Filter{{Kind: KindUser}}, Program: install(t, "testdata/hang.sh")},
			{Filters: []Filter{{KindUser, "both"}}, Program: script(t, "echo ran")},
		},
		Settings: Settings{Timeout: time.Hour},
		OnResult: func(r Result) {
			if r.Handler == 1 {
				results <- r
			}
		},
	}
	r := launch(t, config)
	if got := r.Dispatch(Event{Kind: KindUser, Name: "first"}); got != 1 {
		t.Fatalf("matched %d, want 1", got)
	}
	until(t, "the first event is being handled", func() bool { return r.Stats()[0].Waiting == 0 })
	const flood = 100_000
	for range flood {
		r.Dispatch(Event{Kind: KindUser, Name: "x"})
	}
	if got := r.Dispatch(Event{Kind: KindUser, Name: "both"}); got != 2 {
		t.Errorf("matched %d, want 2", got)
	}
	if got := receive(t, results); got.Stdout.String() != "ran\n" {
		t.Errorf("the other handler: %q, %v", got.Stdout, got.Err)
	}
	stats := r.Stats()[0]
	if stats.Waiting != DefaultQueue || stats.Dropped != flood+1-DefaultQueue || stats.Runs != 0 {
		t.Errorf("waiting %d, dropped %d, runs %d, want %d, %d, 0", stats.Waiting, stats.Dropped, stats.Runs, DefaultQueue, flood+1-DefaultQueue)
	}
}

func TestRunsOfOneHandlerDoNotOverlap(t *testing.T) {
	dir := granted(t)
	program := script(t, "mkdir "+dir+"/busy || exit 9\nls /usr >/dev/null\nrmdir "+dir+"/busy")
	const events = 8
	results := make(chan Result, events)
	r := launch(t, Config{
		Specs:    []Spec{everyEvent(program)},
		Settings: Settings{Writable: []string{dir}},
		OnResult: func(r Result) { results <- r },
	})
	for i := range events {
		r.Dispatch(Event{Kind: KindUser, Name: "x", LTime: uint64(i)})
	}
	for i := range events {
		got := receive(t, results)
		if !got.Done() || got.Event.LTime != uint64(i) {
			t.Fatalf("run %d is of event %d: exit %d, err %v, %s", i, got.Event.LTime, got.ExitCode, got.Err, got.Stderr)
		}
	}
	if history := r.History(); len(history) != events || history[0].Event.LTime != 0 {
		t.Errorf("history holds %d results", len(history))
	}
}

func TestCloseKillsTheWholeGroupAndForgetsWhatWaits(t *testing.T) {
	dir := granted(t)
	results := make(chan Result, 2)
	r := launch(t, Config{
		Specs:    []Spec{everyEvent(install(t, "testdata/hang.sh"))},
		Settings: Settings{Writable: []string{dir}, Timeout: time.Hour},
		OnResult: func(r Result) { results <- r },
	})
	children := filepath.Join(dir, "children")
	first := unique(t)
	first.Payload = []byte(children)
	r.Dispatch(first)
	r.Dispatch(Event{Kind: KindUser, Name: "y"})
	until(t, "the handler has two children", func() bool {
		text, _ := os.ReadFile(children)
		return len(strings.Fields(string(text))) == 2 && strings.HasSuffix(string(text), "\n")
	})
	shut(t, r)
	if got := receive(t, results); !errors.Is(got.Err, ErrClosed) || !got.Started {
		t.Errorf("err %v, started %v, want ErrClosed, true", got.Err, got.Started)
	}
	until(t, "its children are gone", func() bool { return running(t, first.Name) == 0 })
	if len(results) != 0 {
		t.Error("an event that was waiting has been handled after Close")
	}
	if got := r.Dispatch(Event{Kind: KindUser, Name: "z"}); got != 0 {
		t.Errorf("Dispatch after Close matched %d, want 0", got)
	}
	shut(t, r)
}

func TestCloseDoesNotWaitLongerThanItMay(t *testing.T) {
	called, release := make(chan bool), make(chan bool)
	r := launch(t, Config{
		Specs:    []Spec{everyEvent(script(t, "exit 0"))},
		OnResult: func(Result) { called <- true; <-release },
	})
	r.Dispatch(Event{Kind: KindUser, Name: "x"})
	receive(t, called)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Close = %v, want that its context ended", err)
	}
	close(release)
}

func TestRepeatedFailuresAreNotRepeatedWarnings(t *testing.T) {
	var log bytes.Buffer
	w := worker{logger: slog.New(slog.NewTextHandler(&log, nil))}
	w.log(Result{ExitCode: 1})
	w.lastWarn = time.Now().Add(time.Hour) // As if it had just been, however slow this machine is.
	w.log(Result{ExitCode: 1})
	w.log(Result{Err: ErrTimeout})
	if got := strings.Count(log.String(), "level=WARN"); got != 1 {
		t.Errorf("%d warnings, want 1:\n%s", got, log.String())
	}
}

// An agent that is killed can end nothing itself.
func TestHandlerEndsWithItsAgent(t *testing.T) {
	needLandlock(t)
	dir, scratch := granted(t), folder(t)
	program := script(t, "echo $$ > "+dir+"/pid\nexec sleep 100000")
	agent := exec.Command("/proc/self/exe")
	agent.Args = []string{doomedAgent, program, dir, scratch, string(KindUser)}
	agent.Stderr = os.Stderr
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = agent.Process.Kill() }) // If the test ends before it does so itself.
	until(t, "the handler runs", func() bool {
		text, _ := os.ReadFile(dir + "/pid")
		return strings.HasSuffix(string(text), "\n")
	})
	until(t, "the handler is found", func() bool { return running(t, scratch) > 0 }) // While it executes sleep it is not.
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait() // It was killed.
	until(t, "the handler is gone", func() bool { return running(t, scratch) == 0 })
}

func TestLogHoldsOneEscapedLineForEachRun(t *testing.T) {
	var log bytes.Buffer
	results := make(chan Result, 4)
	r := launch(t, Config{
		Specs:    []Spec{everyEvent(script(t, `printf 'a\n\033[2J'; exit $SERF_USER_LTIME`))},
		Logger:   slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnResult: func(r Result) { results <- r },
	})
	for i := range 4 {
		r.Dispatch(Event{Kind: KindUser, Name: `x"y`, LTime: uint64(i)})
	}
	for range 4 {
		receive(t, results)
	}
	shut(t, r)
	text := log.String()
	if got := strings.Count(text, "\n"); got != 1+4 || strings.Contains(text, "\x1b") {
		t.Errorf("%d lines, want one of the rehearsal and 4 without control characters:\n%s", got, text)
	}
	if want := fmt.Sprintf("%q", `"a\n\x1b[2J"`); !strings.Contains(text, want) {
		t.Errorf("no %s in:\n%s", want, text)
	}
	if !strings.Contains(text, "script output") {
		t.Errorf("Serf's words are missing in:\n%s", text)
	}
}
