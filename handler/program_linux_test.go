package handler

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSafeProgramsPass(t *testing.T) {
	dir := folder(t)
	plain := write(t, filepath.Join(dir, "plain"), "#!/bin/sh\n", 0o755)
	write(t, filepath.Join(dir, "0700"), "#!/bin/sh\n", 0o700)
	sticky := filepath.Join(dir, "sticky")
	mkdir(t, sticky, 0o777|os.ModeSticky)
	write(t, filepath.Join(sticky, "mine"), "#!/usr/bin/env sh\n", 0o755)
	mkdir(t, filepath.Join(sticky, "dir"), 0o755)
	write(t, filepath.Join(sticky, "dir", "mine"), "#!/bin/sh\n", 0o755)
	symlink(t, plain, filepath.Join(dir, "absolute"))
	symlink(t, "sticky/dir/../../plain", filepath.Join(dir, "relative"))
	symlink(t, "absolute", filepath.Join(sticky, "chain"))
	symlink(t, "../absolute", filepath.Join(sticky, "up"))
	for _, name := range []string{
		"plain", "0700", "sticky/mine", "sticky/dir/mine", "absolute", "relative", "sticky/up",
		"sticky/../plain", "./plain", "sticky//dir/./mine",
	} {
		if err := Check(dir+"/"+name, os.Geteuid()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, path := range []string{"/bin/sh", "/usr/bin/env"} {
		if err := Check(path, os.Geteuid()); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestProgramThatCannotRunIsRefused(t *testing.T) {
	dir := folder(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := unix.Mkfifo(at("fifo"), 0o755); err != nil {
		t.Fatal(err)
	}
	symlink(t, "loop2", at("loop1"))
	symlink(t, "loop1", at("loop2"))
	symlink(t, "nowhere", at("dangling"))
	mkdir(t, at("dir"), 0o755)
	wrapper := write(t, at("wrapper"), "#!/bin/sh\n", 0o755)
	for _, row := range []struct{ path, want string }{
		{at("missing"), "no such file"},
		{at("missing") + "/below", "no such file"},
		{at("plain argument"), "takes no arguments"},
		{wrapper + "/below", "not a directory"},
		{at("dangling"), "no such file"},
		{at("loop1"), "too many symlinks"},
		{at("dir"), "not a regular file"},
		{at("fifo"), "not a regular file"},
		{"/dev/null", "/dev/null"},
		{"/", "not a regular file"},
		{write(t, at("data"), "#!/bin/sh\n", 0o644), "chmod +x " + at("data")},
		{write(t, at("empty"), "", 0o755), "first line"},
		{write(t, at("text"), "echo hello\n", 0o755), "first line"},
		{write(t, at("windows"), "#!/bin/sh\r\n", 0o755), "Unix line ends"},
		{write(t, at("relative"), "#!sh\n", 0o755), "not an absolute path"},
		{write(t, at("nointerp"), "#!"+at("missing")+"\n", 0o755), "no such file"},
		{write(t, at("dirinterp"), "#!"+at("dir")+"\n", 0o755), "not a regular file"},
		{write(t, at("scriptinterp"), "#!"+wrapper+"\n", 0o755), "script itself"},
		{write(t, at("noenv"), "#!/usr/bin/env secgossip-no-such-program\n", 0o755), "secgossip-no-such-program"},
	} {
		err := Check(row.path, os.Geteuid())
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.path, err, row.want)
		}
	}
	if err := Check(at("missing"), os.Geteuid()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing program: %v, want fs.ErrNotExist", err)
	}
}

// Threat L06. Each of these lets somebody else decide what runs.
func TestProgramThatOthersCanChangeIsRefused(t *testing.T) {
	for name, row := range map[string]struct {
		weaken string // what gets the bits, below the folder
		mode   os.FileMode
		fix    string
	}{
		"world-writable program":       {"dir/sub/handler.sh", 0o757, "chmod go-w"},
		"group-writable program":       {"dir/sub/handler.sh", 0o775, "chmod go-w"},
		"sticky program":               {"dir/sub/handler.sh", 0o777 | os.ModeSticky, "chmod go-w"},
		"world-writable directory":     {"dir/sub", 0o757, "chmod go-w"},
		"group-writable directory":     {"dir/sub", 0o775, "chmod go-w"},
		"world-writable grandparent":   {"dir", 0o757, "chmod go-w"},
		"world-writable link's parent": {"links", 0o757, "chmod go-w"},
		"world-writable interpreter":   {"dir/sub/sh", 0o757, "chmod go-w"},
	} {
		t.Run(name, func(t *testing.T) {
			top := folder(t)
			mkdir(t, filepath.Join(top, "dir"), 0o755)
			mkdir(t, filepath.Join(top, "dir/sub"), 0o755)
			mkdir(t, filepath.Join(top, "links"), 0o755)
			interpreter := write(t, filepath.Join(top, "dir/sub/sh"), read(t, install(t, "/bin/dash")), 0o755)
			program := write(t, filepath.Join(top, "dir/sub/handler.sh"), "#!"+interpreter+"\n", 0o755)
			link := filepath.Join(top, "links/handler")
			symlink(t, program, link)
			if err := Check(link, os.Geteuid()); err != nil {
				t.Fatalf("before: %v", err)
			}
			weak := filepath.Join(top, row.weaken)
			if err := os.Chmod(weak, row.mode); err != nil {
				t.Fatal(err)
			}
			err := Check(link, os.Geteuid())
			unsafe, ok := errors.AsType[*UnsafeError](err)
			if !ok || unsafe.Part != weak || unsafe.Fix != row.fix+" "+weak {
				t.Errorf("got %v, want that %s needs %q", err, weak, row.fix)
			}
		})
	}
}

func TestProgramOfAnotherUserIsRefused(t *testing.T) {
	needRoot(t)
	const stranger, agent = 54321, 54322
	for _, owned := range []string{"dir", "dir/handler.sh", "links", "links/handler", "sticky/theirs"} {
		t.Run(strings.ReplaceAll(owned, "/", "_"), func(t *testing.T) {
			top := folder(t)
			mkdir(t, filepath.Join(top, "dir"), 0o755)
			mkdir(t, filepath.Join(top, "links"), 0o755)
			mkdir(t, filepath.Join(top, "sticky"), 0o777|os.ModeSticky)
			program := write(t, filepath.Join(top, "dir/handler.sh"), "#!/bin/sh\n", 0o755)
			theirs := write(t, filepath.Join(top, "sticky/theirs"), "#!/bin/sh\n", 0o755)
			link := filepath.Join(top, "links/handler")
			symlink(t, program, link)
			path := link
			if strings.HasPrefix(owned, "sticky") {
				path = theirs
			}
			if err := os.Lchown(filepath.Join(top, owned), stranger, -1); err != nil {
				t.Fatal(err)
			}
			for _, uid := range []int{0, agent} {
				err := Check(path, uid)
				unsafe, ok := errors.AsType[*UnsafeError](err)
				if !ok || unsafe.Part != filepath.Join(top, owned) || !strings.HasPrefix(unsafe.Fix, "chown -h ") {
					t.Errorf("agent %d: %v, want that %s needs chown", uid, err, owned)
				}
			}
			if err := Check(path, stranger); err != nil {
				t.Errorf("an agent that owns it itself: %v", err)
			}
		})
	}
}

func TestFixesCanBePasted(t *testing.T) {
	for path, want := range map[string]string{
		"/a/b-c_d.1": "/a/b-c_d.1", "/a b": "'/a b'", "/a'b": `'/a'\''b'`, "/$(x)": "'/$(x)'", "/é": "'/é'", "": "''",
	} {
		if got := pasteable(path); got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
}

func mkdir(t testing.TB, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func symlink(t testing.TB, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}
