package handler

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Each row makes one step of the confinement fail. The program must not run
// then, and the agent must learn which step it was.
func TestNothingRunsWhenAStepOfTheConfinementFails(t *testing.T) {
	dir := granted(t)
	program := opened(t, script(t, "touch "+dir+"/ran"))
	c := confined(t, Settings{Writable: []string{dir}})
	for want, spoil := range map[string]func(*job){
		"the agent has ended":            func(j *job) { j.Parent = 1<<22 + 1 },
		"absent":                         func(j *job) { j.Work += "/absent" },
		"user ids are":                   func(j *job) { j.UID++ },
		"group ids are":                  func(j *job) { j.GID++ },
		"supplementary groups are":       func(j *job) { j.Groups = append(j.Groups, 54321) },
		"Landlock ABI":                   func(j *job) { j.MinLandlock = 1000 },
		"writable path":                  func(j *job) { j.Writable = append(j.Writable, dir+"/absent") },
		"landlock":                       func(j *job) { j.Readable = append(j.Readable, dir+"/absent") },
		"executing \"/no\\x00such\"":     func(j *job) { j.Argv = []string{"/no\x00such"} },
		"executing \"/bin/sh\": invalid": func(j *job) { j.Argv, j.Env = []string{"/bin/sh"}, []string{"A\x00=b"} },
	} {
		r := runSpoiled(t, c, program, spoil)
		if r.Started || r.Err == nil || !strings.Contains(r.Err.Error(), want) || r.ExitCode != -1 {
			t.Errorf("started %v, exit %d, err %v, want %q", r.Started, r.ExitCode, r.Err, want)
		}
	}
	isEmpty(t, dir)
}

// The shim is told of a namespace that the agent has not made.
func TestNamespaceOfTheAgentIsRefused(t *testing.T) {
	needRoot(t)
	c := confined(t, Settings{})
	r := runSpoiled(t, c, opened(t, script(t, "exit 0")), func(*job) { c.permissions.Network = true })
	if r.Started || r.Err == nil || !strings.Contains(r.Err.Error(), "the net namespace is the agent's") {
		t.Errorf("started %v, err %v, want a refusal", r.Started, r.Err)
	}
}

// The shim believes it was confined, and was not.
func TestMissingCallFilterIsRefused(t *testing.T) {
	if err := verifyCalls(false); err == nil || !strings.Contains(err.Error(), "seccomp mode is 0") {
		t.Errorf("got %v, want that there is no filter", err)
	}
	if err := verifyIsolation(&cage{Namespaces: map[string]string{}}); err != nil {
		t.Errorf("without namespaces: %v", err)
	}
	id, err := namespaceID("net")
	if err != nil {
		t.Fatal(err)
	}
	if err := verifyIsolation(&cage{Namespaces: map[string]string{"net": id}}); err == nil {
		t.Error("the agent's own namespace passed")
	}
}

func TestBoundingSetIsVerified(t *testing.T) {
	needOrdinaryUser(t)
	c := confined(t, Settings{})
	c.canIsolate = false // In a user namespace it could.
	r := runSpoiled(t, c, opened(t, script(t, "exit 0")), func(j *job) { j.EmptyBounding = true })
	if r.Started || r.Err == nil || !strings.Contains(r.Err.Error(), "dropping capability") {
		t.Errorf("started %v, err %v, want that capabilities cannot be dropped", r.Started, r.Err)
	}
}

func TestRootShimIsRefused(t *testing.T) {
	needRoot(t)
	c := confined(t, Settings{})
	c.account = account{} // uid 0, not switched: what must never be.
	r := runSpoiled(t, c, opened(t, script(t, "exit 0")), func(*job) {})
	if r.Started || r.Err == nil || !strings.Contains(r.Err.Error(), "user ids are 0 0 0") {
		t.Errorf("started %v, err %v, want a refusal", r.Started, r.Err)
	}
}

func TestGroupOfRootIsRefused(t *testing.T) {
	needRoot(t)
	c := confined(t, Settings{})
	c.account.gid = 0
	r := runSpoiled(t, c, opened(t, script(t, "exit 0")), func(*job) {})
	if r.Started || r.Err == nil || !strings.Contains(r.Err.Error(), "group ids are 0 0 0") {
		t.Errorf("started %v, err %v, want a refusal", r.Started, r.Err)
	}
}

func TestReducedSandboxAcceptsAnyLandlock(t *testing.T) {
	if min, err := requiredLandlock(Reduced); min != 0 || err != nil {
		t.Errorf("reduced needs ABI %d, %v, want 0", min, err)
	}
	min, err := requiredLandlock(Strict)
	if (err == nil) != (landlockABI() >= neededLandlock) || err == nil && min != neededLandlock {
		t.Errorf("strict needs ABI %d, %v on a kernel with %d", min, err, landlockABI())
	}
}

func TestShimWithoutAnAgentDoesNothing(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{shimName}
	cmd.Env = []string{}
	out, err := cmd.CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 1 {
		t.Errorf("got %v, %q, want exit code 1", err, out)
	}
}

func TestOtherProgramsAreNotTheShim(t *testing.T) {
	ShimMain() // Returns, or this test never ends.
}

func TestForgottenShimMainDoesNotRecurse(t *testing.T) {
	args := os.Args
	t.Cleanup(func() { os.Args = args })
	os.Args = []string{shimName}
	if _, err := New(Config{Specs: []Spec{everyEvent("/bin/sh")}}); err == nil || !strings.Contains(err.Error(), "ShimMain") {
		t.Errorf("got %v, want that ShimMain is missing", err)
	}
}

func TestStatusTellsNotRunFromRun(t *testing.T) {
	for status, want := range map[string]struct {
		ready   bool
		problem string
	}{
		"":                  {false, ""},
		"ready\n":           {true, ""},
		"ready\nexecuting":  {true, "executing"},
		"landlock: missing": {false, "landlock: missing"},
		"read":              {false, "read"},
		"ready\nended 256":  {true, ""},
		"ready\nended x":    {true, "ended x"},
		"ended 256":         {false, "ended 256"},
	} {
		ready, end, problem := parseStatus(status)
		if ready != want.ready || problem != want.problem || (end != nil) != strings.Contains(status, "\nended 256") {
			t.Errorf("%q: %v, %v, %q, want %v, %q", status, ready, end, problem, want.ready, want.problem)
		}
	}
}

// runSpoiled runs a program with a job that the agent would never write.
func runSpoiled(t testing.TB, c *confinement, p *program, spoil func(*job)) Result {
	t.Helper()
	return c.runOpened(t.Context(), p, p.path, Event{Kind: KindUser, Name: "x"}, func(r *prepared) error {
		spoil(r.job)
		return nil
	})
}
