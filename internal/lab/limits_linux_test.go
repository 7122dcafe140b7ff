package lab

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// inShell is a prefix that becomes a program after a line of sh(1).
func inShell(line string) []string { return []string{"sh", "-c", line + ` && exec "$@"`, "sh"} }

// newAgent makes a cluster of one node, whose agent is not started.
func newAgent(t *testing.T) (*Lab, *Node) {
	bin, err := secgossip.Path()
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(bin, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Remove() })
	n := &Node{Name: "web-1"}
	t.Cleanup(func() { n.Kill() })
	if err := l.Init(t.Context(), "lab", n.Name); err != nil {
		t.Fatal(err)
	}
	return l, n
}

// Threat L03: where secrets cannot be locked an agent does not start, and says what
// to set.
func TestAgentThatMayLockTooLittleMemorySaysWhatToSet(t *testing.T) {
	l, n := newAgent(t)
	prefix := inShell("ulimit -l 16")
	if os.Geteuid() == 0 { // root has no limit, so somebody else must be it
		const nobody = "65534"
		if _, err := exec.LookPath("setpriv"); err != nil {
			t.Skip("to become somebody else root needs setpriv, which is not installed")
		}
		// Somebody else must get to the program and owns the home.
		program, err := os.ReadFile(l.Bin)
		if err == nil {
			l.Bin = l.In("secgossip")
			err = errors.Join(os.WriteFile(l.Bin, program, 0o755), os.Chmod(l.Bin, 0o755))
		}
		if err != nil {
			t.Fatal(err)
		}
		if said, err := exec.CommandContext(t.Context(), "chown", "-R", nobody, l.In(n.Name)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		prefix = slices.Concat([]string{"setpriv", "--reuid=" + nobody, "--clear-groups"}, prefix)
	}
	_, err := l.Run(t.Context(), Command{Prefix: prefix, Args: []string{"--home", l.In(n.Name), "agent"}})
	refused, ok := errors.AsType[*Refusal](err)
	if !ok || refused.Code != 2 || !strings.Contains(refused.Stderr, "16 KiB are allowed") || !strings.Contains(refused.Stderr, "LimitMEMLOCK=") {
		t.Errorf("got %v, want exit code 2 and what to set", err)
	}
}

// dumped is how the state of a process says that there is a core.
const dumped = "core dumped"

// Threat L03: an agent that crashes leaves no core, whatever limit it was started
// with.
func TestAgentThatCrashesLeavesNoCore(t *testing.T) {
	l, n := newAgent(t)
	// The Go runtime dies by the signal only when it is asked to.
	n.Prefix = inShell("cd " + t.TempDir() + " && ulimit -c unlimited && export GOTRACEBACK=crash")
	control := exec.CommandContext(t.Context(), "sh", append(n.Prefix[1:], "sh", "-c", "kill -ABRT $$")...)
	if err := control.Run(); err == nil || !strings.Contains(err.Error(), dumped) {
		t.Skip("no process leaves a core here: ", err)
	}
	for _, signal := range []syscall.Signal{syscall.SIGSEGV, syscall.SIGABRT} {
		if err := l.Start(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(n.PID(), signal); err != nil {
			t.Fatal(err)
		}
		err := Await(t.Context(), func(context.Context) error {
			if n.Running() {
				return errors.New("it still runs")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Stop(); err == nil || !strings.Contains(err.Error(), "signal: ") || strings.Contains(err.Error(), dumped) {
			t.Errorf("%s: got %v, want that a signal ended it and no core", signal, err)
		}
	}
}
