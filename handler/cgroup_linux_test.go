package handler

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOwnCgroupIsFoundUnderAnyMount(t *testing.T) {
	const unified = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
	const hybrid = "31 24 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n32 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	for _, row := range []struct{ own, mounts, want string }{
		{"0::/system.slice/secgossip.service\n", unified, "/sys/fs/cgroup/system.slice/secgossip.service"},
		{"8:pids:/\n0::/x\n", hybrid, "/sys/fs/cgroup/unified/x"},
		{"0::/x/agent\n", unified, "/sys/fs/cgroup/x"},
		{"8:pids:/\n", hybrid, ""},
		{"0::/x\n", "31 24 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n", ""},
		{"0::/x\n", "30 24 0:26 /part /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", ""},
	} {
		if got, err := ownCgroup(row.own, row.mounts); got != row.want || (err == nil) != (row.want != "") {
			t.Errorf("%q in %q: got %q, %v, want %q", row.own, row.mounts, got, err, row.want)
		}
	}
}

// A group has its limits before anything is in it, and at its end everything in it
// is killed before it is removed.
func TestCgroupHasItsLimitsFirstAndIsKilledLast(t *testing.T) {
	var written []string
	c := cgroups{t.TempDir(), func(group, file, value string) error {
		if _, err := os.Stat(group); err != nil {
			t.Error(err)
		}
		written = append(written, file+"="+value)
		if file == "memory.swap.max" {
			return os.ErrNotExist // as without swap accounting
		}
		return nil
	}}
	g, err := c.add(permissions{Processes: 64, Memory: 1 << 20, Scratch: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.end(); err != nil {
		t.Error(err)
	}
	want := []string{"pids.max=80", fmt.Sprintf("memory.max=%d", 4<<20+1<<10), "memory.swap.max=0", "cgroup.kill=1"}
	if diff := cmp.Diff(want, written); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	isEmpty(t, c.root)
}

func TestRunWithoutItsCgroupIsRefused(t *testing.T) {
	c := confined(t, Settings{})
	broken := cgroups{t.TempDir(), func(string, string, string) error { return errors.New("no such controller") }}
	c.newGroup = broken.add
	dir := granted(t)
	c.writable = []string{dir}
	if r := c.run(t.Context(), script(t, "touch "+dir+"/ran"), Event{Kind: KindUser, Name: "x"}); r.Err == nil || r.Started {
		t.Errorf("started %t, %v, want a refusal", r.Started, r.Err)
	}
	isEmpty(t, dir)
	isEmpty(t, broken.root)
}

// Threat L08: the group alone ends what has a session of its own. The kernel's own
// group is made here without limits, for which it may have no controllers.
func TestCgroupAloneEndsEverything(t *testing.T) {
	needRoot(t)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	root, err := ownCgroup("0::/", string(mounts))
	if err != nil {
		t.Skip(err)
	}
	path := filepath.Join(root, fmt.Sprintf("secgossip-test-%d", os.Getpid()))
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Skipf("groups cannot be made: %v", err)
	}
	t.Cleanup(func() { _ = os.Remove(path) }) // It should be gone.
	if _, err := os.Stat(filepath.Join(path, "cgroup.kill")); err != nil {
		t.Skip(err)
	}
	c := confined(t, Settings{})
	c.canIsolate = false
	c.newGroup = func(permissions) (*cgroup, error) {
		dir, err := os.Open(path)
		return &cgroup{path, dir, writeCgroup}, err
	}
	e := unique(t)
	r := c.run(t.Context(), script(t, "setsid sh -c 'touch here; exec sleep 100000' >/dev/null 2>&1 &\nuntil [ -e here ]; do :; done"), e)
	if !r.Done() {
		t.Errorf("exit %d, %v, %s", r.ExitCode, r.Err, r.Stderr)
	}
	until(t, "nothing is left", func() bool { return running(t, e.Name) == 0 })
	if _, err := os.Stat(path); err == nil {
		t.Error("the group is still there")
	}
}
