package handler

import (
	"fmt"
	"strings"
	"testing"
)

// Threat L08. What stays as process 1 is the program's user, and nothing of it can
// be read, signalled or used: neither its memory nor its descriptors, of which the
// status pipe is the one through which the agent is told how the run ended.
func TestProcessOneHoldsNothingForTheProgram(t *testing.T) {
	c := confined(t, Settings{})
	if !c.canIsolate {
		t.Skip("needs namespaces: without them the shim becomes the program")
	}
	for name, text := range map[string]string{
		"memory":      "exec 3< /proc/1/mem",
		"environment": "cat /proc/1/environ",
		"descriptors": "ls /proc/1/fd/",
		"files":       "ls /proc/1/map_files/",
		"folder":      "ls /proc/1/cwd/",
		"stack":       "cat /proc/1/auxv",
	} {
		// The same of the program itself works, so that none fails for a reason of its own.
		own := strings.Replace(text, "/proc/1/", "/proc/self/", 1)
		script := script(t, fmt.Sprintf("(%s) >/dev/null 2>&1 && echo reached\n(%s) >/dev/null 2>&1 && echo own", text, own))
		r := c.run(t.Context(), script, Event{Kind: KindUser, Name: "x"})
		if got := r.Stdout.String(); got != "own\n" {
			t.Errorf("%s: got %q, want that only its own is reached (%v, %s)", name, got, r.Err, r.Stderr)
		}
	}
	r := c.run(t.Context(), script(t, "grep -hE '^(CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs|Seccomp|Uid):' /proc/1/task/*/status | sort -u"), Event{Kind: KindUser, Name: "x"})
	none := "\t0000000000000000\n"
	want := "CapAmb:" + none + "CapEff:" + none + "CapInh:" + none + "CapPrm:" + none + "NoNewPrivs:\t1\nSeccomp:\t2\n"
	if got, _, _ := strings.Cut(r.Stdout.String(), "Uid:"); got != want {
		t.Errorf("the threads of process 1 are\n%s, want\n%s", r.Stdout, want)
	}
}

// Orphans become children of process 1, which reaps those that end.
func TestOrphansAreReapedWhileTheProgramRuns(t *testing.T) {
	c := confined(t, Settings{})
	if !c.canIsolate {
		t.Skip("needs namespaces: elsewhere orphans are the host's")
	}
	text := `for i in 1 2 3 4 5; do (sleep 0 & ); done
until ! grep -q 'sleep' /proc/[0-9]*/stat 2>/dev/null; do :; done
grep -l '^State:.Z' /proc/[0-9]*/status
exit 4`
	r := c.run(t.Context(), script(t, text), Event{Kind: KindUser, Name: "x"})
	if r.Stdout.String() != "" || r.ExitCode != 4 {
		t.Errorf("zombies are left: %q; exit %d, want none, 4 (%v, %s)", r.Stdout, r.ExitCode, r.Err, r.Stderr)
	}
}
