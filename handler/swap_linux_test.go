package handler

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Threat L06. Between the check and the run the program's path comes to mean
// another file. What was checked must run.
func TestWhatWasCheckedRunsThoughItsPathMeansAnotherFile(t *testing.T) {
	dash := read(t, install(t, "/bin/dash"))
	for name, row := range map[string]struct{ good, evil string }{
		"script":     {"#!/bin/sh\necho good", "#!/bin/sh\necho evil"},
		"elf":        {dash, read(t, install(t, "/usr/bin/env"))},
		"elf script": {dash, "#!/bin/sh\necho evil"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t)
			path := write(t, filepath.Join(dir, "handler"), row.good, 0o755)
			evil := write(t, filepath.Join(dir, "evil"), row.evil, 0o777)
			c := confined(t, Settings{})
			p := opened(t, path)
			if err := os.Rename(evil, path); err != nil {
				t.Fatal(err)
			}
			event := Event{Kind: KindUser, Name: "x", Payload: []byte("echo good")}
			r := c.runOpened(t.Context(), p, path, event, nil)
			if got := r.Stdout.String(); got != "good\n" {
				t.Errorf("ran %q, want what was checked (%v, %s)", got, r.Err, r.Stderr)
			}
		})
	}
}

// The same for the interpreter of a script.
func TestCheckedInterpreterRunsThoughItsPathMeansAnotherFile(t *testing.T) {
	dir := folder(t)
	interpreter := write(t, filepath.Join(dir, "sh"), read(t, install(t, "/bin/dash")), 0o755)
	evil := write(t, filepath.Join(dir, "evil"), read(t, install(t, "/usr/bin/env")), 0o777)
	program := write(t, filepath.Join(dir, "handler"), "#!"+interpreter+"\necho good", 0o755)
	c := confined(t, Settings{})
	p := opened(t, program)
	if err := os.Rename(evil, interpreter); err != nil {
		t.Fatal(err)
	}
	r := c.runOpened(t.Context(), p, program, Event{Kind: KindUser, Name: "x"}, nil)
	if got := r.Stdout.String(); got != "good\n" {
		t.Errorf("ran %q, want what was checked (%v, %s)", got, r.Err, r.Stderr)
	}
}

// The same while somebody exchanges the two as fast as possible. Runs either
// execute the safe file or refuse the other.
func TestExchangingTheProgramNeverRunsTheUncheckedOne(t *testing.T) {
	dir := folder(t)
	path := write(t, filepath.Join(dir, "handler"), "#!/bin/sh\necho good", 0o755)
	evil := write(t, filepath.Join(dir, "evil"), "#!/bin/sh\necho evil", 0o777)
	c := confined(t, Settings{})
	ctx, cancel := context.WithCancel(t.Context())
	swapped := make(chan int)
	go func() {
		swaps := 0
		for ctx.Err() == nil {
			if unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, evil, unix.RENAME_EXCHANGE) == nil {
				swaps++
			}
		}
		swapped <- swaps
	}()
	good, refused := 0, 0
	for range 40 {
		r := c.run(t.Context(), path, Event{Kind: KindUser, Name: "x"})
		switch {
		case r.Stdout.String() == "good\n":
			good++
		case !r.Started && strings.Contains(r.Err.Error(), "can be written to by others"):
			refused++
		default:
			t.Errorf("run gave %q, started %v, err %v, %s", r.Stdout, r.Started, r.Err, r.Stderr)
		}
	}
	cancel()
	if swaps := <-swapped; swaps == 0 {
		t.Skip("this file system cannot exchange two files")
	}
	t.Logf("%d good, %d refused", good, refused)
}

func TestScriptFindsItsTrustedPartsBesideIt(t *testing.T) {
	dir := folder(t)
	write(t, filepath.Join(dir, "lib.sh"), "echo library\n", 0o644)
	write(t, filepath.Join(dir, "loose.sh"), "echo loose\n", 0o666)
	program := write(t, filepath.Join(dir, "handler.sh"), `#!/bin/sh
. "$(dirname "$0")/lib.sh"
basename "$0"
[ -e "$(dirname "$0")/loose.sh" ] || echo "not loose.sh"
exec >&2; echo x >> "$0" || echo y >> "$(dirname "$0")/lib.sh"
`, 0o755)
	r := runOnce(t, program, Settings{}, Event{Kind: KindUser, Name: "x"})
	if got, want := r.Stdout.String(), "library\nhandler.sh\nnot loose.sh\n"; got != want {
		t.Errorf("got %q, want %q (%v, %s)", got, want, r.Err, r.Stderr)
	}
	if got := read(t, filepath.Join(dir, "lib.sh")); got != "echo library\n" {
		t.Errorf("the handler changed its library to %q", got)
	}
}

func TestScriptTooLargeToCopyIsNotRun(t *testing.T) {
	program := script(t, "echo ran")
	if err := os.Truncate(program, maxScript+1); err != nil {
		t.Fatal(err)
	}
	c := confined(t, Settings{})
	r := c.run(t.Context(), program, Event{Kind: KindUser, Name: "x"})
	if r.Started || r.Err == nil || !strings.Contains(r.Err.Error(), "larger than") {
		t.Errorf("started %v, err %v, want a refusal", r.Started, r.Err)
	}
	isEmpty(t, c.scratchRoot)
}
