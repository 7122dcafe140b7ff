package handler

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// spared is a confinement with a spare for the program.
func spared(t testing.TB, c *confinement, program string) *shim {
	t.Helper()
	c.keepSpare(program)
	t.Cleanup(c.spare.end)
	s := c.waiting()
	if s == nil {
		t.Fatal("there is no spare")
	}
	return s
}

// waiting is the spare, where it is; nil if there is none.
func (c *confinement) waiting() *shim {
	c.spare.mu.Lock()
	defer c.spare.mu.Unlock()
	return c.spare.shim
}

// confinedNow waits until a spare is confined, and as far as this user can see that, until
// it waits for its job.
func confinedNow(t testing.TB, s *shim) {
	t.Helper()
	until(t, "the spare waits", func() bool {
		for _, pid := range append(children(t, s.pid), s.pid) {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			call, callErr := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
			waits := callErr != nil || strings.HasPrefix(string(call), fmt.Sprintf("%d ", unix.SYS_RECVMSG))
			if err == nil && waits && strings.Contains(string(text), "\nSeccomp:\t2\n") {
				return true
			}
		}
		return false
	})
}

// children are the processes that a process has started, and those that they have.
func children(t testing.TB, parent int) (pids []int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		text, err := os.ReadFile(dir + "/stat")
		_, rest, ok := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if err != nil || !ok || len(fields) < 2 || fields[1] != strconv.Itoa(parent) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(append(pids, pid), children(t, pid)...)
	}
	return pids
}

// gone waits until processes have ended.
func gone(t testing.TB, what string, pids ...int) {
	t.Helper()
	until(t, what+" is gone", func() bool {
		for _, pid := range pids {
			if exists(strconv.Itoa(pid)) {
				return false
			}
		}
		return true
	})
}

var anEvent = Event{Kind: KindUser, Name: "x"}

func TestASpareRunsOneJobAndEnds(t *testing.T) {
	results := make(chan Result, 1)
	r := launch(t, Config{Specs: []Spec{everyEvent(script(t, "echo ran"))}, OnResult: func(r Result) { results <- r }})
	c := r.handlers[0].confine
	for range 3 {
		until(t, "a spare waits", func() bool { return c.waiting() != nil })
		before := c.waiting().pid
		r.Dispatch(anEvent)
		if got := receive(t, results); !got.spare || got.Stdout.String() != "ran\n" {
			t.Errorf("by the spare %t, %q, %v, want that it ran", got.spare, got.Stdout, got.Err)
		}
		until(t, "another spare waits", func() bool { return c.waiting() != nil && c.waiting().pid != before })
		gone(t, "the first", before)
	}
	if got := r.Stats()[0]; got.BySpare != 3 || got.Runs != 3 {
		t.Errorf("a spare was waiting for %d of %d runs, want all", got.BySpare, got.Runs)
	}
}

// Whatever has become of a spare, the event runs the program, once.
func TestASpareThatIsOfNoUseCostsNoRun(t *testing.T) {
	for name, row := range map[string]struct {
		spoil func(*testing.T, *shim)
		taken bool // only the run that has it finds out
	}{
		"dead": {func(t *testing.T, s *shim) {
			killGroup(s.pid)
			if err := waitUntilExited(s.pid); err != nil {
				t.Error(err)
			}
		}, false},
		"stopped": {func(t *testing.T, s *shim) {
			confinedNow(t, s)
			if err := unix.Kill(-s.pid, unix.SIGSTOP); err != nil {
				t.Error(err)
			}
		}, true},
		"whose hatch is closed": {func(t *testing.T, s *shim) {
			confinedNow(t, s)
			_ = s.pipes.hatch.ours.Close()
		}, false},
		"without its scratch": {func(t *testing.T, s *shim) {
			if err := os.Remove(s.dir.work); err != nil && err.(*os.PathError).Err != unix.EBUSY {
				t.Error(err)
			}
			if err := os.Rename(s.dir.top, s.dir.top+"-gone"); err != nil {
				t.Error(err)
			}
		}, false},
		"with something in its script's place": {func(t *testing.T, s *shim) {
			write(t, filepath.Join(s.dir.program, "handler.sh"), "echo planted", 0o755)
		}, true},
		"with something in its scratch": {func(t *testing.T, s *shim) { write(t, s.dir.work+"/planted", "", 0o644) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := granted(t)
			program := script(t, "echo ran >> "+dir+"/runs")
			c := confined(t, Settings{Writable: []string{dir}})
			s := spared(t, c, program)
			pid := s.pid
			row.spoil(t, s)
			if !row.taken {
				if c.spare.take(opened(t, program)) != nil {
					t.Fatal("the spare was taken")
				}
			}
			if r := c.run(t.Context(), program, anEvent); !r.Done() || r.spare {
				t.Errorf("exit %d, %v, by the spare %t, want a run of a shim of its own", r.ExitCode, r.Err, r.spare)
			}
			if got := read(t, dir+"/runs"); got != "ran\n" {
				t.Errorf("the program has written %q, want one run", got)
			}
			gone(t, "the spare", pid)
		})
	}
}

// A spare that is of no use does not live as long as the run that found that out.
func TestASpareThatIsOfNoUseEndsAtOnce(t *testing.T) {
	dir := granted(t)
	program := script(t, "until [ -e "+dir+"/go ]; do sleep 0.01; done")
	c := confined(t, Settings{Writable: []string{dir}})
	s := spared(t, c, program)
	pid := s.pid
	write(t, s.dir.work+"/planted", "", 0o644)
	over := make(chan Result, 1)
	go func() { over <- c.run(t.Context(), program, anEvent) }()
	gone(t, "the spare", pid)
	select {
	case result := <-over:
		t.Errorf("the run was over before: %v", result.Err)
	default:
	}
	write(t, dir+"/go", "", 0o644)
	if got := receive(t, over); !got.Done() {
		t.Error(got.ExitCode, got.Err)
	}
}

// A path that a handler may use can lie on a server that is gone. Whoever looks at it
// waits, and no run, nor the end of the handler, waits for that.
func TestAHostThatCannotBeLookedAtKeepsNobodyWaiting(t *testing.T) {
	program := script(t, "exit 0")
	c := confined(t, Settings{})
	s := spared(t, c, program)
	pid := s.pid
	c.looks <- struct{}{} // somebody looks, and does not come back
	over := make(chan Result, 1)
	go func() { over <- c.run(t.Context(), program, anEvent) }()
	if got := receive(t, over); !got.Done() || got.spare {
		t.Errorf("exit %d, %v, by the spare %t, want a run of a shim of its own", got.ExitCode, got.Err, got.spare)
	}
	gone(t, "the spare", pid)
	c.keepSpare(program)
	if c.waiting() != nil {
		t.Error("there is a spare of which nobody knows what it was made of")
	}
	<-c.looks
	if c.keepSpare(program); c.waiting() == nil {
		t.Error("there is no spare when all can be looked at again")
	}
}

// A run is as it would be without a spare: what has changed on the host since the
// spare was started counts.
func TestASpareFromBeforeAChangeIsNotUsed(t *testing.T) {
	dir, private := granted(t), filepath.Join(folder(t), "keys")
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	file := write(t, filepath.Join(dir, "file"), "", 0o600)
	give(t, file)
	neighbour := filepath.Join(filepath.Dir(private), "neighbour")
	mounted := filepath.Join(folder(t), "mounted")
	if err := os.Mkdir(mounted, 0o755); err != nil {
		t.Fatal(err)
	}
	shell := install(t, "/bin/sh")
	for name, row := range map[string]struct {
		change func() error
		root   bool
		want   string
	}{
		"nothing":             {func() error { return nil }, false, "before"},
		"a mode, to itself":   {func() error { return os.Chmod(filepath.Dir(private), 0o755) }, false, "before"},
		"the interpreter":     {func() error { return exchange(shell, read(t, shell)) }, false, "after"},
		"a writable file":     {func() error { return exchange(file, "") }, false, "written"},
		"beside what is kept": {func() error { return os.WriteFile(neighbour, []byte("read"), 0o644) }, false, "read"},
		"the mounts":          {func() error { return unix.Mount("test", mounted, "tmpfs", 0, "size=64k") }, true, "mounted"},
	} {
		t.Run(name, func(t *testing.T) {
			if row.root {
				needRoot(t)
				t.Cleanup(func() { _ = unix.Unmount(mounted, unix.MNT_DETACH) })
			}
			c := confined(t, Settings{Writable: []string{file}})
			c.private = []string{private}
			program := script(t, "#!"+shell+"\necho "+row.want)
			switch row.want {
			case "written":
				program = script(t, "echo x > "+file+" && echo written")
			case "read":
				program = script(t, "cat "+neighbour)
			case "mounted":
				program = script(t, "stat -f -c %T "+mounted+" | grep -q tmpfs && echo mounted")
			}
			s := spared(t, c, program)
			pid := s.pid
			if err := row.change(); err != nil {
				t.Fatal(err)
			}
			got := c.run(t.Context(), program, anEvent)
			if text := strings.TrimSpace(got.Stdout.String()); text != row.want || got.spare != (row.want == "before") {
				t.Errorf("by the spare %t: %q, %v, %s, want %q", got.spare, text, got.Err, got.Stderr, row.want)
			}
			gone(t, "the spare", pid)
		})
	}
}

// exchange puts another file in the place of one, as whoever deploys does.
func exchange(path, text string) error {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", []byte(text), os.FileMode(stat.Mode).Perm()); err != nil {
		return err
	}
	if err := os.Chown(path+".new", int(stat.Uid), int(stat.Gid)); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// A spare that is of no use is replaced though there is no event.
func TestAStaleSpareIsReplaced(t *testing.T) {
	program := install(t, "/bin/true")
	c := confined(t, Settings{})
	s := spared(t, c, program)
	pid := s.pid
	if c.renewSpare(program); c.waiting() != s {
		t.Error("one that is as new was replaced")
	}
	if err := exchange(program, read(t, program)); err != nil {
		t.Fatal(err)
	}
	c.renewSpare(program)
	if now := c.waiting(); now == nil || now.pid == pid {
		t.Error("one for a program that is gone by now was kept")
	}
	gone(t, "the first", pid)
}

func TestReloadAndCloseLeaveNoSpareBehind(t *testing.T) {
	root := folder(t)
	altered, taken, kept := everyEvent(script(t, "exit 0")), everyEvent(script(t, "exit 0")), everyEvent(script(t, "exit 0"))
	altered.Name, taken.Name, kept.Name = "altered", "taken", "kept"
	r := launch(t, Config{Specs: []Spec{altered, taken, kept}, ScratchRoot: root})
	pids := func() (list []int) {
		for _, w := range r.handlers {
			until(t, "a spare waits", func() bool { return w.confine.waiting() != nil })
			list = append(list, w.confine.waiting().pid)
		}
		return list
	}
	before := pids()
	altered.Settings.Processes = 7
	reload(t, r, altered, kept)
	gone(t, "what was for handlers of before", before[:2]...)
	after := pids()
	if after[1] != before[2] {
		t.Error("the spare of a handler that is as it was is another one")
	}
	shut(t, r)
	gone(t, "every spare", after...)
	isEmpty(t, root)
	r.handlers = nil
}

// Threat L08: a spare that is left alone ends by itself, and nothing has run.
func TestASpareDoesNothingWithoutItsAgent(t *testing.T) {
	dir := granted(t)
	program := script(t, "touch "+dir+"/ran")
	c := confined(t, Settings{Writable: []string{dir}})
	s := spared(t, c, program)
	confinedNow(t, s)
	if err := s.pipes.hatch.ours.Close(); err != nil {
		t.Fatal(err)
	}
	if err := waitUntilExited(s.pid); err != nil {
		t.Error(err)
	}
	isEmpty(t, dir)
}

// An agent that is killed can end nothing itself.
func TestASpareEndsWithItsAgent(t *testing.T) {
	needLandlock(t)
	dir, scratch := granted(t), folder(t)
	agent := exec.Command("/proc/self/exe")
	agent.Args = []string{doomedAgent, script(t, "touch "+dir+"/ran"), dir, scratch, string(KindMemberJoin)}
	agent.Stderr = os.Stderr
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = agent.Process.Kill() }) // If the test ends before it does so itself.
	var spares []int
	until(t, "a spare waits", func() bool {
		spares = children(t, agent.Process.Pid)
		for _, pid := range spares {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			left, err := filepath.Glob(scratch + "/*/outside")
			if strings.Contains(string(text), "\nSeccomp:\t2\n") && strings.HasPrefix(string(command), shimName) && err == nil && len(left) == 0 {
				return true
			}
		}
		return false
	})
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait() // It was killed.
	gone(t, "the spare", spares...)
	isEmpty(t, dir)
}

// Threat L08. While it waits a spare is confined as a program is, and nothing of it
// can be reached by others of its user.
func TestASpareHasNothingBeforeItsJob(t *testing.T) {
	needRoot(t)
	c := confined(t, Settings{})
	s := spared(t, c, script(t, "exit 0"))
	confinedNow(t, s)
	proc := fmt.Sprintf("/proc/%d/", s.pid)
	status := read(t, proc+"status")
	none := "\t0000000000000000\n"
	for _, want := range []string{"NoNewPrivs:\t1\n", "CapInh:" + none, "CapPrm:" + none, "CapEff:" + none, "CapBnd:" + none, "CapAmb:" + none,
		fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", c.account.uid), "Groups:\t \n"} {
		if !strings.Contains(status, "\n"+want) {
			t.Errorf("%q is not in its status:\n%s", want, status)
		}
	}
	if got := read(t, proc+"environ"); got != "" {
		t.Errorf("its environment is %q", got)
	}
	fds, err := filepath.Glob(proc + "fd/*")
	if err != nil {
		t.Fatal(err)
	}
	sockets := 0
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		switch {
		case err != nil:
			t.Error(err)
		case strings.HasPrefix(target, "socket:"):
			sockets++
		case !strings.HasPrefix(target, "pipe:") && !strings.HasPrefix(target, "anon_inode:[event") && !strings.HasPrefix(target, "/sys/fs/cgroup/"):
			t.Errorf("it holds %q", target)
		}
	}
	if sockets != 1 {
		t.Errorf("it holds %d sockets, want the hatch", sockets)
	}
	for name, agents := range s.cage.Namespaces {
		if own, err := os.Readlink(proc + "ns/" + name); err != nil || own == agents {
			t.Errorf("its %s namespace is the agent's (%v)", name, err)
		}
	}
	// Dumpable is what decides whether its user may look at it.
	var stat unix.Stat_t
	if err := unix.Stat(proc+"environ", &stat); err != nil || stat.Uid != 0 {
		t.Errorf("its files in /proc are uid %d's (%v), want root's", stat.Uid, err)
	}
}

// Several events at once: one takes the spare, and the others do not wait for another.
func TestABurstTakesTheSpareAndStartsTheRest(t *testing.T) {
	dir := granted(t)
	const atOnce = 3
	spec := everyEvent(script(t, fmt.Sprintf("touch %s/$SERF_USER_LTIME\nuntil [ -e %[1]s/go ]; do sleep 0.01; done", dir)))
	spec.Settings = Settings{Concurrency: atOnce, Writable: []string{dir}}
	results := make(chan Result, atOnce)
	r := launch(t, Config{Specs: []Spec{spec}, OnResult: func(r Result) { results <- r }})
	c := r.handlers[0].confine
	until(t, "a spare waits", func() bool { return c.waiting() != nil })
	for i := range atOnce {
		r.Dispatch(Event{Kind: KindUser, Name: "x", LTime: uint64(i)})
	}
	until(t, "all run", func() bool { names, err := filepath.Glob(dir + "/*"); return err == nil && len(names) == atOnce })
	if s := c.waiting(); s != nil {
		t.Errorf("a spare (%d) waits while there are as many runs as there may be", s.pid)
	}
	write(t, dir+"/go", "", 0o644)
	spares := 0
	for range atOnce {
		got := receive(t, results)
		if !got.Done() {
			t.Errorf("exit %d, %v, %s", got.ExitCode, got.Err, got.Stderr)
		}
		if got.spare {
			spares++
		}
	}
	if spares != 1 {
		t.Errorf("%d runs took a spare, want one", spares)
	}
}
