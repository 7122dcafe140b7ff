package handler

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestEveryProblemIsReportedAtOnce(t *testing.T) {
	needLandlock(t)
	dir := folder(t)
	loose := write(t, filepath.Join(dir, "loose.sh"), "#!/bin/sh\n", 0o777)
	plain := write(t, filepath.Join(dir, "plain.txt"), "#!/bin/sh\n", 0o644)
	_, err := New(Config{
		Specs: []Spec{everyEvent(loose), everyEvent(filepath.Join(dir, "missing.sh")), everyEvent(plain), everyEvent(script(t, "exit 0"))},
		Settings: Settings{
			User: "no-such-user", Writable: []string{filepath.Join(dir, "absent"), plain + "/below"},
			Timeout: -1, Sandbox: "none",
		},
		ScratchRoot: filepath.Join(dir, "no-scratch"),
		Private:     []string{filepath.Join(dir, "no-home")},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		loose, "missing.sh", "plain.txt", "no-such-user", filepath.Join(dir, "absent"), "below", "timeout", `"none"`, "no-scratch", "no-home",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	if got := strings.Count(err.Error(), "\n") + 1; got != 10 {
		t.Errorf("%d problems, want 10:\n%v", got, err)
	}
}

func TestWithoutHandlersNothingIsAskedOfTheMachine(t *testing.T) {
	r, err := New(Config{Settings: Settings{User: "no-such-user", Writable: []string{"/no/such/path"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer shut(t, r)
	if got := r.Dispatch(Event{Kind: KindUser, Name: "x"}); got != 0 {
		t.Errorf("%d handlers matched, want none", got)
	}
	if _, err := New(Config{Settings: Settings{Timeout: -1}}); err == nil {
		t.Error("a negative time limit was accepted")
	}
}

func TestUnusableWritablePathsAreRefused(t *testing.T) {
	needLandlock(t)
	dir := folder(t)
	program := write(t, filepath.Join(dir, "handler.sh"), "#!/bin/sh\n", 0o755)
	home := filepath.Join(dir, "home")
	mkdir(t, home, 0o755)
	mkdir(t, filepath.Join(home, "node"), 0o755)
	mkdir(t, filepath.Join(dir, "real"), 0o755)
	write(t, filepath.Join(dir, "real", "file"), "", 0o666)
	symlink(t, "real", filepath.Join(dir, "link"))
	symlink(t, "real/file", filepath.Join(dir, "filelink"))
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	readOnly := filepath.Join(dir, "read-only")
	mkdir(t, readOnly, 0o555)
	for path, want := range map[string]string{
		filepath.Join(dir, "absent"):    "does not exist",
		filepath.Join(dir, "filelink"):  "name " + filepath.Join(dir, "real", "file"),
		filepath.Join(dir, "link/file"): "name " + filepath.Join(dir, "real", "file"),
		filepath.Join(dir, "fifo"):      "neither",
		"/dev/null":                     "neither",
		dir:                             "rewrite it",
		"/":                             "rewrite it",
		program:                         "rewrite it",
		home:                            "agent alone",
		filepath.Join(home, "node"):     "agent alone",
		readOnly:                        "chown",
		dir + "/real/\xff":              "UTF-8",
	} {
		_, err := New(Config{
			Specs: []Spec{everyEvent(program)}, Settings: Settings{Writable: []string{path}},
			ScratchRoot: folder(t), Private: []string{home},
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

// A granted file may be gone, or be a link by now, when the event comes.
func TestWritablePathIsCheckedBeforeEveryRun(t *testing.T) {
	dir := granted(t)
	file := write(t, filepath.Join(dir, "file"), "", 0o600)
	target := write(t, filepath.Join(folder(t), "target"), "", 0o666)
	give(t, file)
	results := make(chan Result, 1)
	r := launch(t, Config{
		Specs:    []Spec{everyEvent(script(t, "echo x > "+file))},
		Settings: Settings{Writable: []string{file}},
		OnResult: func(r Result) { results <- r },
	})
	for _, step := range []struct {
		name   string
		change func() error
		runs   bool
	}{
		{"there", func() error { return nil }, true},
		{"gone", func() error { return os.Remove(file) }, false},
		{"a link", func() error { return os.Symlink(target, file) }, false},
	} {
		if err := step.change(); err != nil {
			t.Fatal(err)
		}
		r.Dispatch(Event{Kind: KindUser, Name: "x"})
		if got := receive(t, results); got.Started != step.runs {
			t.Errorf("%s: started %v, err %v, want %v", step.name, got.Started, got.Err, step.runs)
		}
	}
	if got := read(t, target); got != "" {
		t.Errorf("the link's target was written to: %q", got)
	}
}

func TestProgramIsCheckedBeforeEveryRun(t *testing.T) {
	program := script(t, "exit 0")
	results := make(chan Result, 1)
	r := launch(t, Config{Specs: []Spec{everyEvent(program)}, OnResult: func(r Result) { results <- r }})
	for _, step := range []struct {
		name   string
		change func() error
		want   string
	}{
		{"as it was", func() error { return nil }, ""},
		{"writable", func() error { return os.Chmod(program, 0o777) }, "chmod go-w"},
		{"mended", func() error { return os.Chmod(program, 0o755) }, ""},
		{"in an open directory", func() error { return os.Chmod(filepath.Dir(program), 0o777) }, "chmod go-w"},
		{"gone", func() error { return os.RemoveAll(filepath.Dir(program)) }, "no such file"},
	} {
		if err := step.change(); err != nil {
			t.Fatal(err)
		}
		r.Dispatch(Event{Kind: KindUser, Name: "x"})
		got := receive(t, results)
		if got.Started != (step.want == "") || got.Err != nil && !strings.Contains(got.Err.Error(), step.want) {
			t.Errorf("%s: started %v, err %v, want %q", step.name, got.Started, got.Err, step.want)
		}
	}
	if stats := r.Stats()[0]; stats.Runs != 5 || stats.Failures != 3 {
		t.Errorf("runs %d, failures %d, want 5 and 3", stats.Runs, stats.Failures)
	}
}

func TestProgramThatTheHandlerUserCannotRunIsRefused(t *testing.T) {
	needRoot(t)
	needLandlock(t)
	for name, program := range map[string]string{"script": script(t, "exit 0"), "elf": install(t, "/bin/dash")} {
		if err := os.Chmod(program, 0o700); err != nil {
			t.Fatal(err)
		}
		_, err := New(Config{Specs: []Spec{everyEvent(program)}, ScratchRoot: folder(t)})
		if err == nil || !strings.Contains(err.Error(), "chmod a+") || !strings.Contains(err.Error(), program) {
			t.Errorf("%s: %v, want chmod", name, err)
		}
	}
}

func TestScratchRootThatOthersCanChangeIsRefused(t *testing.T) {
	needLandlock(t)
	root := folder(t)
	if err := os.Chmod(root, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := New(Config{Specs: []Spec{everyEvent(script(t, "exit 0"))}, ScratchRoot: root})
	if err == nil || !strings.Contains(err.Error(), "chmod go-w "+root) {
		t.Errorf("got %v, want chmod", err)
	}
	if err := os.Chmod(root, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	launch(t, Config{Specs: []Spec{everyEvent(script(t, "exit 0"))}, ScratchRoot: root})
}

func TestRelativeProgramIsResolvedAtStart(t *testing.T) {
	needLandlock(t)
	program := script(t, "echo ran")
	t.Chdir(filepath.Dir(program))
	results := make(chan Result, 1)
	spec := mustSpec(t, "user=./handler.sh")
	r := launch(t, Config{Specs: []Spec{spec}, Settings: Settings{Timeout: time.Minute}, OnResult: func(r Result) { results <- r }})
	t.Chdir("/")
	r.Dispatch(Event{Kind: KindUser, Name: "x"})
	if got := receive(t, results); got.Stdout.String() != "ran\n" || got.Program != program {
		t.Errorf("got %q from %q, %v", got.Stdout, got.Program, got.Err)
	}
}

func TestRehearsalRunsNothing(t *testing.T) {
	dir := granted(t)
	launch(t, Config{Specs: []Spec{everyEvent(script(t, "touch "+dir+"/ran"))}, Settings: Settings{Writable: []string{dir}}})
	isEmpty(t, dir)
}
