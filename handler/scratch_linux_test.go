package handler

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOnlyTheWorkingDirectoryIsTheHandlers(t *testing.T) {
	who := handlerAccount(t)
	s, err := newScratch(folder(t), who)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{s.top: "0700 agent", s.program: "0700 agent", s.work: "0700 handler"}
	if who.switched {
		want[s.top], want[s.program] = "0711 agent", "0750 agent"
	}
	for dir, want := range want {
		var stat unix.Stat_t
		if err := unix.Lstat(dir, &stat); err != nil {
			t.Fatal(err)
		}
		owner := "agent"
		if int(stat.Uid) == who.uid && (who.switched || dir == s.work) {
			owner = "handler"
		}
		if got := fmt.Sprintf("%04o %s", stat.Mode&0o7777, owner); got != want {
			t.Errorf("%s is %s, want %s", filepath.Base(dir), got, want)
		}
	}
	if err := s.remove(); err != nil {
		t.Error(err)
	}
}

// Threat L08. os.RemoveAll fails here, and takes every descriptor the agent
// may have with it.
func TestDeepTreeIsRemovedWithFewDescriptors(t *testing.T) {
	top := filepath.Join(folder(t), "top")
	mkdir(t, top, 0o755)
	const depth = 500
	nest(t, top, depth)
	restrictDescriptors(t, 64)
	if err := removeTree(top, time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(top); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the tree is still there: %v", err)
	}
}

func TestWideTreeIsRemoved(t *testing.T) {
	top := filepath.Join(folder(t), "top")
	mkdir(t, top, 0o755)
	for i := range 2 {
		dir := filepath.Join(top, fmt.Sprintf("d%d", i))
		mkdir(t, dir, 0o755)
		for j := range batch + 1 {
			write(t, filepath.Join(dir, fmt.Sprint(j)), "", 0o600)
		}
		for j := range 5 {
			mkdir(t, filepath.Join(dir, fmt.Sprintf("e%d", j)), 0o755)
			write(t, filepath.Join(dir, fmt.Sprintf("e%d", j), "file"), "", 0)
		}
	}
	if err := removeTree(top, time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
}

func TestRemovalStaysInsideTheTree(t *testing.T) {
	dir := folder(t)
	top, outside := filepath.Join(dir, "top"), filepath.Join(dir, "outside")
	mkdir(t, top, 0o755)
	mkdir(t, filepath.Join(top, "sub"), 0o755)
	mkdir(t, outside, 0o750)
	precious := write(t, filepath.Join(outside, "precious"), "precious", 0o640)
	symlink(t, outside, filepath.Join(top, "link"))
	symlink(t, "../../outside", filepath.Join(top, "sub", "link"))
	symlink(t, precious, filepath.Join(top, "file"))
	if err := os.Link(precious, filepath.Join(top, "hard")); err != nil {
		t.Fatal(err)
	}
	if err := removeTree(top, time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, precious); got != "precious" {
		t.Errorf("the file outside holds %q", got)
	}
	for path, want := range map[string]os.FileMode{outside: 0o750 | os.ModeDir, precious: 0o640} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want mode %v", path, info.Mode(), err, want)
		}
	}
	symlink(t, outside, top)
	if err := removeTree(top, time.Now().Add(patience)); err == nil {
		t.Error("a symlink was taken for the tree")
	}
}

func TestDirectoriesWithoutRightsAreRemoved(t *testing.T) {
	top := filepath.Join(folder(t), "top")
	inner := filepath.Join(top, "a", "b", "c")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(inner, "file"), "", 0)
	for _, dir := range []string{inner, filepath.Dir(inner), filepath.Join(top, "a")} {
		if err := os.Chmod(dir, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeTree(top, time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
}

func TestRemovalEndsAtItsDeadline(t *testing.T) {
	top := filepath.Join(folder(t), "top")
	mkdir(t, top, 0o755)
	write(t, filepath.Join(top, "file"), "", 0o600)
	if err := removeTree(top, time.Now().Add(-time.Second)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a deadline", err)
	}
}

// nest makes directories inside one another, far deeper than a path can name.
func nest(t testing.TB, top string, depth int) {
	t.Helper()
	fd, err := unix.Open(top, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range depth {
		if err := unix.Mkdirat(fd, "d", 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, "d", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	unix.Close(fd)
}

// restrictDescriptors leaves this process with few descriptors until the test
// ends.
func restrictDescriptors(t testing.TB, most uint64) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	})
}

// A scratch whose agent was killed goes with the next agent's start; one of an agent
// that lives stays, as does what only has such a name.
func TestScratchOfAKilledAgentIsRemoved(t *testing.T) {
	c := confined(t, Settings{})
	make := func(name string) string {
		path := filepath.Join(c.scratchRoot, name)
		if err := os.MkdirAll(filepath.Join(path, "work", "deep"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	left, other, elsewhere := make(scratchName+"1"), make("other"), folder(t)
	kept := write(t, elsewhere+"/file", "x", 0o644)
	link := filepath.Join(c.scratchRoot, scratchName+"link")
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	lives, err := newScratch(c.scratchRoot, c.account)
	if err != nil {
		t.Fatal(err)
	}
	defer lives.remove()
	stay := []string{other, kept, link, lives.work}
	if os.Geteuid() == 0 {
		foreign := make(scratchName + "foreign")
		give(t, foreign)
		stay = append(stay, foreign)
	}
	if c.sweep(sweepAge); !present(left) {
		t.Error("one that was made just now is gone: its agent may not have locked it yet")
	}
	if c.sweep(0); present(left) {
		t.Error("what a killed agent has left is still there")
	}
	for _, path := range stay {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
}
