package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/secgossip/secgossip/handler"
	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/internal/link"
)

// probeName is what a process of these tests is called that settles and then tries
// things.
const probeName = "secgossip-probe"

// tried is what became of them: an error's text, empty if there was none.
type tried map[string]string

// probe is such a process. Its only argument is a home.
func probe() {
	if os.Args[0] != probeName {
		return
	}
	runtime.LockOSThread()
	at := os.Args[1]
	out := make(tried)
	note := func(what string, err error) {
		out[what] = ""
		if err != nil {
			out[what] = err.Error()
		}
	}
	read := func(name string) {
		_, err := os.ReadFile(filepath.Join(at, name))
		note("read "+name, err)
	}
	layers, err := settleAs(&link.Order{Home: at})("")
	note("settle", err)
	for _, layer := range layers {
		if layer.Name != "user" && layer.Name != "bounding set" && !layer.Enforced {
			note("layer "+layer.Name, errors.New(layer.Detail))
		}
	}
	for _, name := range privateFiles {
		read(name)
	}
	read("node/keyring.age")
	note("write state/new", os.WriteFile(filepath.Join(at, "state", "new"), nil, 0o600))
	read("state/new")
	note("write node/new", os.WriteFile(filepath.Join(at, "node", "new"), nil, 0o600))
	note("write runner/new", os.WriteFile(filepath.Join(at, "runner", "new"), nil, 0o600))
	note("write ca/new", os.WriteFile(filepath.Join(at, "ca", "new"), nil, 0o600))
	note("run", exec.Command("/bin/true").Run())
	note("unshare", unix.Unshare(unix.CLONE_NEWUSER))
	note("trace", refused(unix.SYS_PTRACE))
	note("io_uring", refused(unix.SYS_IO_URING_SETUP))
	text, err := json.Marshal(out)
	if err != nil {
		text = []byte(err.Error())
	}
	fmt.Println(string(text))
	os.Exit(0)
}

// refused makes a call that makes no sense. Unless the filter refuses it the kernel looks
// at it and finds another fault.
func refused(call uintptr) error {
	if _, _, errno := unix.Syscall(call, unix.PTRACE_PEEKDATA, 0, 0); errno == unix.EPERM {
		return errno
	}
	return nil
}

// privateFiles are files of a keeper's home that a network process has no business with
// once it has settled.
var privateFiles = []string{
	"ca/root.key.age", "client/client.key", "client/token",
	"runner/runs.journal", "node/issuer.key.age", "node/unlock.key", "node/signing.key.age", "node/agreement.key.age",
}

// Threat L12: what is not needed while an agent runs is out of reach, by layers that need
// no root.
func TestSettledProcessReachesOnlyWhatItNeeds(t *testing.T) {
	at := newHome(t)
	cmd := exec.Command("/proc/self/exe", string(at))
	if os.Geteuid() == 0 {
		// As a user whose files all of them are: their modes are not what is tested.
		const ordinary = 61000
		folder, err := os.MkdirTemp("/tmp", "secgossip-test-")
		check(t, err)
		defer os.RemoveAll(folder)
		moved := filepath.Join(folder, "home")
		check(t, os.Rename(string(at), moved))
		check(t, filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, ordinary, ordinary))
		}))
		at = home.Home(moved)
		cmd = exec.Command("/proc/self/exe", moved)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinary, Gid: ordinary}}
		// Under a strict umask go test makes a binary that only we may run.
		check(t, os.Chmod(os.Args[0], 0o755))
	}
	check(t, os.WriteFile(filepath.Join(string(at), "runner", "runs.journal"), nil, 0o600))
	check(t, os.Chmod(filepath.Join(string(at), "runner", "runs.journal"), 0o600))
	for _, name := range privateFiles { // as they are, they can be read
		if _, err := os.ReadFile(filepath.Join(string(at), name)); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Dir = "/"
	cmd.Args[0] = probeName
	cmd.Stderr = os.Stderr
	said, err := cmd.Output()
	check(t, err)
	var got tried
	if err := json.Unmarshal(said, &got); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	may := []string{"settle", "read node/keyring.age", "write state/new", "read state/new", "write node/new"}
	for what, problem := range got {
		if allowed := slices.Contains(may, what); allowed != (problem == "") {
			t.Errorf("%s: got %q, want it to succeed: %t", what, problem, allowed)
		}
	}
	if len(got) != len(may)+len(privateFiles)+6 {
		t.Errorf("%d things were tried: %v", len(got), got)
	}
}

// What does not hold is noticed: this process has settled nothing.
func TestWhatWasNotGivenUpIsNoticed(t *testing.T) {
	if err := readBack(&link.Order{}, true); err == nil {
		t.Error("no filter is missed")
	}
	if err := readBack(&link.Order{Switch: true, UID: 61184, GID: 61184}, false); err == nil {
		t.Error("another user is not missed")
	}
}

func TestUserOfTheNetworkProcess(t *testing.T) {
	at := home.Home(t.TempDir())
	runs := plan{handlers: make([]handler.Spec, 1)}
	who, err := chooseAccount(at, DefaultSettings(), runs)
	check(t, err)
	if os.Geteuid() != 0 {
		if who.switched || who.uid != os.Geteuid() {
			t.Errorf("got %+v, want ourselves", who)
		}
		if _, err := chooseAccount(at, Settings{AgentUser: "root"}, plan{}); err == nil {
			t.Error("an ordinary user becomes root")
		}
		return
	}
	again, err := chooseAccount(at, DefaultSettings(), runs)
	check(t, err)
	if !who.switched || who.uid == 0 || who != again {
		t.Errorf("got %+v and %+v, want the same user twice, and not root", who, again)
	}
	for name, settings := range map[string]Settings{
		"root":                {AgentUser: "root"},
		"0":                   {AgentUser: "0"},
		"nobody":              {AgentUser: "nobody"}, // runs handlers
		"no such":             {AgentUser: "no-such-user"},
		"that of handlers":    {AgentUser: "daemon", HandlerUser: "daemon"},
		"that, by its number": {AgentUser: "daemon", HandlerUser: "1"},
	} {
		if who, err := chooseAccount(at, settings, runs); err == nil {
			t.Errorf("%s: got %+v, want an error", name, who)
		}
	}
	runs.handlers[0].Settings.User = "daemon"
	if who, err := chooseAccount(at, Settings{AgentUser: "daemon"}, runs); err == nil {
		t.Errorf("that of one handler: got %+v, want an error", who)
	}
}

// Nothing of a start that fails is left for the next one to stumble over.
func TestAHomeIsFreeWhenItsAgentWasRefused(t *testing.T) {
	at := newHome(t)
	for range 2 {
		settings := loopback().Merge(Settings{EventHandlers: []string{"/no/such/program"}})
		if err := Run(at, settings, nil, os.Stderr, nil); !errors.Is(err, ErrSetup) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want %v", err, ErrSetup)
		}
	}
	begin := time.Now()
	lock, err := lockSoon(at)
	check(t, err)
	check(t, lock.Close())
	t.Logf("locked after %s", time.Since(begin))
}
