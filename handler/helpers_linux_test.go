package handler

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must happen. It decides nothing
// else: a test that works waits for events and files, not for time.
const patience = 60 * time.Second

// folder is a directory that the handler user can pass through, whatever the
// umask and the test's own directories say.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// granted is a directory that the handler user owns.
func granted(t testing.TB) string {
	t.Helper()
	dir := folder(t)
	give(t, dir)
	return dir
}

// give makes path belong to the user that handlers run as in these tests.
func give(t testing.TB, path string) {
	t.Helper()
	who := handlerAccount(t)
	if err := os.Chown(path, who.uid, who.gid); err != nil {
		t.Fatal(err)
	}
}

func handlerAccount(t testing.TB) account {
	t.Helper()
	who, err := chooseAccount("", os.Geteuid(), os.Getegid(), nil)
	if err != nil {
		t.Skipf("there is no user to run handlers as: %v", err)
	}
	return who
}

// write makes a file with exactly this mode.
func write(t testing.TB, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode.Perm()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// script makes a handler of text, which may lack its first line.
func script(t testing.TB, text string) string {
	t.Helper()
	if !strings.HasPrefix(text, "#!") {
		text = "#!/bin/sh\n" + text
	}
	return write(t, filepath.Join(folder(t), "handler.sh"), text, 0o755)
}

// install makes a handler of a file in testdata or of a program of the system.
func install(t testing.TB, from string) string {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Skipf("this system lacks a program the test needs: %v", err)
	}
	return write(t, filepath.Join(folder(t), filepath.Base(from)), string(text), 0o755)
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: only root can run handlers as another user")
	}
}

func needOrdinaryUser(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		t.Skip("needs an ordinary user: root runs handlers as another user")
	}
}

func needLandlock(t testing.TB) {
	t.Helper()
	if abi := landlockABI(); abi < neededLandlock {
		t.Skipf("needs Landlock ABI %d, this kernel has %d", neededLandlock, abi)
	}
}

// everyEvent is a spec that runs program for each event.
func everyEvent(program string) Spec {
	return Spec{Filters: []Filter{{Kind: kindAny}}, Program: program}
}

// launch starts a Runner that is closed when the test ends.
func launch(t testing.TB, config Config) *Runner {
	t.Helper()
	needLandlock(t)
	if config.ScratchRoot == "" {
		config.ScratchRoot = folder(t)
	}
	r, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, r) })
	if err := r.Repeat(); err != nil {
		t.Fatal(err)
	}
	return r
}

func shut(t testing.TB, r *Runner) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		t.Error(err)
	}
}

// runOnce runs program for e and returns what became of it.
func runOnce(t testing.TB, program string, settings Settings, e Event) Result {
	t.Helper()
	return runConfig(t, Config{Specs: []Spec{everyEvent(program)}, Settings: settings}, e)
}

func runConfig(t testing.TB, config Config, e Event) Result {
	t.Helper()
	results := make(chan Result, 1)
	config.OnResult = func(r Result) { results <- r }
	if matched := launch(t, config).Dispatch(e); matched != 1 {
		t.Fatalf("%d handlers matched, want 1", matched)
	}
	return receive(t, results)
}

func receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// until waits for something that a process outside brings about.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still not: %s", what)
		}
	}
}

// unique is an event of which no other test knows the name, so that running
// finds what was started for it.
func unique(t testing.TB) Event {
	return Event{Kind: KindUser, Name: fmt.Sprintf("%s-%d", t.Name(), os.Getpid())}
}

// running counts the living processes with text in their environment. The
// numbers that handlers know are those of their own namespace.
func running(t testing.TB, text string) int { return len(runningPIDs(t, text)) }

// killRunning kills what running counts: what a test of this binary started.
func killRunning(t testing.TB, text string) {
	for _, pid := range runningPIDs(t, text) {
		_ = unix.Kill(pid, unix.SIGKILL) // It may have ended by now.
	}
}

func runningPIDs(t testing.TB, text string) (pids []int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		env, err := os.ReadFile(dir + "/environ")
		if err == nil && bytes.Contains(env, []byte(text)) && exists(filepath.Base(dir)) {
			pid, err := strconv.Atoi(filepath.Base(dir))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// exists reports whether a process lives. A zombie does not: nobody may be
// there to reap what loses its parent.
func exists(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// processesOf counts a user's processes, those included that nobody has reaped.
func processesOf(t testing.TB, uid int) (count int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		var stat unix.Stat_t
		if unix.Stat(dir, &stat) == nil && int(stat.Uid) == uid {
			count++
		}
	}
	return count
}

// opened is a program that has been checked, as a run would hold it.
func opened(t testing.TB, path string) *program {
	t.Helper()
	p, err := openProgram(path, os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

// confined is a confinement for tests below the Runner.
func confined(t testing.TB, settings Settings) *confinement {
	t.Helper()
	needLandlock(t)
	config, err := Config{Settings: settings, ScratchRoot: folder(t)}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	c, err := newConfinement(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// leak opens a pipe that every child would inherit.
func leak(t testing.TB) int {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe(fds[:]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return fds[0]
}

// isEmpty fails the test if dir holds anything.
func isEmpty(t testing.TB, dir string) {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if names, err := d.Readdirnames(10); err != io.EOF {
		t.Errorf("%s holds %q (%v), want nothing", dir, names, err)
	}
}
