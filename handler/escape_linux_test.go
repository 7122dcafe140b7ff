package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// attackProgram is what the test binary is called when it is a hostile handler.
const attackProgram = "secgossip-test-attack"

// targets is what an attack is aimed at, told on standard input.
type targets struct {
	Attack   string
	Victim   int    // a process of another handler's, or of anybody, with a group of its own
	Leaked   int    // a pipe that the agent has left open for its children
	Agent    int    // the agent
	Secret   string // a file that only its directory's being private keeps from being read
	Outside  string // a directory that everybody may write to
	Address  string // where the agent listens
	Abstract string // an abstract socket of the host
	Setuid   string // a set-uid copy of id(1)
	Capable  string // this program, with capabilities in its file
}

// attacks try one thing each and return nil if they succeed.
var attacks = map[string]func(targets) error{
	// Files.
	"read a private file":                func(x targets) error { return reads(x.Secret) },
	"read a private file by a symlink":   func(x targets) error { return errors.Join(os.Symlink(x.Secret, "link"), reads("link")) },
	"hard link to a private file":        func(x targets) error { return os.Link(x.Secret, x.Outside+"/hard") },
	"change the mode of an agent's file": func(x targets) error { return os.Chmod(x.Secret, 0o666) },
	"write outside of the scratch":       func(x targets) error { return os.WriteFile(x.Outside+"/new", nil, 0o600) },
	"make a device node":                 func(x targets) error { return unix.Mknod(x.Outside+"/mem", unix.S_IFCHR|0o666, 1<<8|1) },
	"write to the kernel's log":          func(targets) error { return opensToWrite("/dev/kmsg") },
	"write a sysctl":                     func(targets) error { return opensToWrite("/proc/sys/kernel/core_pattern") },
	"move to another cgroup": func(targets) error {
		return opensToWrite("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/pids/cgroup.procs")
	},
	"open a file by its handle": reaches(unix.SYS_OPEN_BY_HANDLE_AT),

	"exchange a link while it is read": func(x targets) error { return races(x.Secret) },

	// What is inherited.
	"use a leaked descriptor": func(x targets) error {
		var stat unix.Stat_t
		err := unix.Fstat(x.Leaked, &stat)
		if err == nil && stat.Mode&unix.S_IFMT != unix.S_IFIFO {
			err = unix.EBADF // The runtime's own.
		}
		return err
	},

	// Other processes.
	"see the agent":                     func(x targets) error { return reads(proc(x.Agent, "cmdline")) },
	"read the agent's environment":      func(x targets) error { return reads(proc(x.Agent, "environ")) },
	"open the agent's memory":           func(x targets) error { return opens(proc(x.Agent, "mem")) },
	"list the agent's descriptors":      func(x targets) error { _, err := os.ReadDir(proc(x.Agent, "fd")); return err },
	"see another handler's process":     func(x targets) error { return reads(proc(x.Victim, "status")) },
	"open another process's memory":     func(x targets) error { return opens(proc(x.Victim, "mem")) },
	"signal the agent":                  func(x targets) error { return unix.Kill(x.Agent, 0) },
	"signal another process":            func(x targets) error { return unix.Kill(x.Victim, 0) },
	"signal another process's group":    func(x targets) error { return unix.Kill(-x.Victim, 0) },
	"signal everybody":                  func(targets) error { return unix.Kill(-1, 0) },
	"hold another process":              func(x targets) error { fd, err := unix.PidfdOpen(x.Victim, 0); unix.Close(fd); return err },
	"trace another process":             func(x targets) error { return trace(x.Victim) },
	"trace a process":                   reaches(unix.SYS_PTRACE, 1<<20),
	"read another process's pages":      reaches(unix.SYS_PROCESS_VM_READV, 1<<22, 0, 0, 0, 0, 99),
	"write another process's pages":     reaches(unix.SYS_PROCESS_VM_WRITEV, 1<<22, 0, 0, 0, 0, 99),
	"compare processes":                 func(targets) error { return comparesItself() },
	"take another process's descriptor": reaches(unix.SYS_PIDFD_GETFD, 0, 0, 0),

	// Privileges.
	"run a set-uid program": func(x targets) error { return printsZero(x.Setuid, "-u") },
	"run a program with file capabilities": func(x targets) error {
		ctx, cancel := context.WithTimeout(context.Background(), attackTime)
		defer cancel()
		out, err := assail(exec.CommandContext(ctx, x.Capable), targets{Attack: "hold a capability"})
		if err == nil && !strings.HasPrefix(out, escapedMark) {
			err = errors.New(out)
		}
		return err
	},
	"hold a capability": func(targets) error {
		held, err := heldCapabilities()
		if err == nil && held == [2]unix.CapUserData{} {
			err = errors.New("none is held")
		}
		return err
	},
	"become root": func(targets) error { return syscallOf(unix.SYS_SETUID, 0) },

	// Mounts and namespaces.
	"mount":                      func(targets) error { return unix.Mount("x", ".", "tmpfs", 0, "") },
	"unmount /proc":              func(targets) error { return unix.Unmount("/proc", unix.MNT_DETACH) },
	"open a file system":         reaches(unix.SYS_FSOPEN, 0, 99),
	"clone a mount":              reaches(unix.SYS_OPEN_TREE, 0, 0, 1<<30),
	"pivot the root":             reaches(unix.SYS_PIVOT_ROOT),
	"change the root":            func(targets) error { return unix.Chroot(".") },
	"unshare users":              reaches(unix.SYS_UNSHARE, unix.CLONE_NEWUSER),
	"unshare the network":        reaches(unix.SYS_UNSHARE, unix.CLONE_NEWNET),
	"unshare mounts":             reaches(unix.SYS_UNSHARE, unix.CLONE_NEWNS),
	"unshare processes":          reaches(unix.SYS_UNSHARE, unix.CLONE_NEWPID),
	"unshare time":               reaches(unix.SYS_UNSHARE, unix.CLONE_NEWTIME),
	"clone into a namespace":     func(targets) error { return childWith(unix.CLONE_NEWUTS) },
	"clone by the newer call":    func(targets) error { return clonesAnew() },
	"enter a namespace":          reaches(unix.SYS_SETNS, 1<<20),
	"set the host's name":        func(targets) error { return unix.Sethostname([]byte("hostile")) },
	"set the host's domain name": func(targets) error { return unix.Setdomainname([]byte("hostile")) },

	// The network.
	"call the agent's RPC on loopback": func(x targets) error {
		conn, err := net.Dial("tcp", x.Address)
		if err == nil {
			conn.Close()
		}
		return err
	},
	"TCP":      socket(unix.AF_INET, unix.SOCK_STREAM, 0),
	"UDP":      socket(unix.AF_INET, unix.SOCK_DGRAM, 0),
	"IPv6":     socket(unix.AF_INET6, unix.SOCK_STREAM, 0),
	"MPTCP":    socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP),
	"raw IP":   socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP),
	"netlink":  socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE),
	"packets":  socket(unix.AF_PACKET, unix.SOCK_RAW, 0),
	"vsock":    socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0),
	"io_uring": reaches(unix.SYS_IO_URING_SETUP),
	"host's abstract socket": func(x targets) error {
		conn, err := net.Dial("unix", x.Abstract)
		if err == nil {
			conn.Close()
		}
		return err
	},

	// The host and the kernel. Where success would change the machine, the
	// call is one that the kernel refuses for its arguments.
	"type into a terminal":             reaches(unix.SYS_IOCTL, 0, unix.TIOCSTI),
	"paste into a console":             reaches(unix.SYS_IOCTL, 0, unix.TIOCLINUX),
	"set the time of day":              reaches(unix.SYS_SETTIMEOFDAY), // With no time: nothing changes.
	"adjust the clock":                 reaches(unix.SYS_ADJTIMEX),
	"set the clock":                    reaches(unix.SYS_CLOCK_SETTIME, 99),
	"load a module":                    reaches(unix.SYS_INIT_MODULE),
	"load a module from a file":        reaches(unix.SYS_FINIT_MODULE, 1<<20),
	"remove a module":                  reaches(unix.SYS_DELETE_MODULE),
	"load a kernel":                    reaches(unix.SYS_KEXEC_LOAD, 0, 99),
	"reboot":                           reaches(unix.SYS_REBOOT, 1, 1, 1),
	"swap":                             reaches(unix.SYS_SWAPON),
	"account processes":                reaches(unix.SYS_ACCT, 1),
	"read the kernel's log":            reaches(unix.SYS_SYSLOG, 10),
	"read the session keyring":         reaches(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, 0xfffffffd, 0),
	"add a key":                        reaches(unix.SYS_ADD_KEY),
	"request a key":                    reaches(unix.SYS_REQUEST_KEY),
	"load a program for the kernel":    reaches(unix.SYS_BPF, 9999),
	"measure the kernel":               reaches(unix.SYS_PERF_EVENT_OPEN),
	"handle page faults":               reaches(unix.SYS_USERFAULTFD, 1<<20),
	"change a quota":                   reaches(unix.SYS_QUOTACTL, 0xffffffff),
	"watch all files":                  reaches(unix.SYS_FANOTIFY_INIT, 1<<30),
	"switch off address randomization": func(targets) error { return syscallOf(unix.SYS_PERSONALITY, 0x0040000) },

	// Resources.
	"write a large file":      func(targets) error { return fill(1, DefaultFileSize+1) },
	"fill the disk":           func(targets) error { return fill(maxScratch/DefaultFileSize+1, DefaultFileSize) },
	"make a great many files": func(targets) error { return fill(maxScratch/scratchBytesPerFile+1, 0) },
	"map much memory": func(targets) error {
		_, err := unix.Mmap(-1, 0, 2*DefaultMemory, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		return err
	},
	"use much memory in pieces": func(targets) error { return grows(2*DefaultMemory, 8<<20) },
	"map much shared memory": func(targets) error {
		_, err := unix.Mmap(-1, 0, maxAddressSpace+1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
		return err
	},
	"keep much in an unnamed file": func(targets) error {
		fd, err := unix.MemfdCreate("hostile", unix.MFD_CLOEXEC)
		if err != nil {
			return err
		}
		return unix.Ftruncate(fd, DefaultFileSize+1)
	},
	"start a great many processes": func(targets) error { return multiplies(2 * DefaultProcesses) },
	"dump core": func(targets) error {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit.Max == 0 {
			return errors.Join(errors.New("limited"), err)
		}
		return nil
	},
}

// Threat L08. Each attack is contained, and is seen to succeed as the same
// program without any layer, so that none fails for a reason of its own.
func TestEscapesAreContained(t *testing.T) {
	needRoot(t)
	if raceDetector {
		t.Log("memory is not limited under the race detector")
	}
	home, outside := folder(t), folder(t)
	if err := os.Chmod(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(folder(t), attackProgram)
	self := read(t, "/proc/self/exe")
	write(t, program, self, 0o755)
	capable := write(t, filepath.Join(folder(t), attackProgram), self, 0o755)
	// Revision 2 and the effective bit, then CAP_NET_RAW (13) as permitted.
	header := []byte{0: 1, 3: 2, 5: 1 << (unix.CAP_NET_RAW - 8), 19: 0}
	if err := unix.Setxattr(capable, "security.capability", header, 0); err != nil {
		t.Fatal(err)
	}
	setuid := install(t, "/usr/bin/id")
	if err := os.Chmod(setuid, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	name := fmt.Sprintf("@secgossip-test-%d", os.Getpid())
	abstract, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	victim := exec.Command("/bin/sleep", "100000")
	who := handlerAccount(t)
	victim.SysProcAttr = &syscall.SysProcAttr{
		Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: uint32(who.uid), Gid: uint32(who.gid)},
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = victim.Process.Kill(); _ = victim.Wait() }()

	leaked := leak(t)
	config, err := Config{ScratchRoot: folder(t), Private: []string{home}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	needLandlock(t)
	c, err := newConfinement(config)
	if err != nil {
		t.Fatal(err)
	}
	runs, spares := 0, 0
	for attack := range attacks {
		t.Run(attack, func(t *testing.T) {
			x := targets{
				Attack: attack, Victim: victim.Process.Pid, Leaked: leaked, Agent: os.Getpid(), Outside: outside, Address: tcp.Addr().String(),
				Secret: write(t, filepath.Join(home, "key"), "secret", 0o644), Abstract: name, Setuid: setuid, Capable: capable,
			}
			text, err := json.Marshal(x)
			if err != nil {
				t.Fatal(err)
			}
			if !(raceDetector && strings.Contains(attack, "memory")) {
				// From a spare. What it does once it has its job, every other run does as well.
				c.keepSpare(program)
				r := c.run(t.Context(), program, Event{Kind: KindUser, Name: "x", Payload: text})
				if !r.Done() || !strings.HasPrefix(r.Stdout.String(), containedMark) {
					t.Errorf("confined: %q, exit %d, %v, %s, want that it is contained", r.Stdout, r.ExitCode, r.Err, r.Stderr)
				}
				runs++
				if r.spare {
					spares++
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), attackTime)
			defer cancel()
			bare := exec.CommandContext(ctx, program)
			bare.Dir = folder(t)
			bare.Env = []string{}
			// What some do to the machine stays in these.
			bare.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS | unix.CLONE_NEWUTS}
			switch attack {
			case "run a set-uid program", "run a program with file capabilities":
				// Root would gain nothing by it.
				bare.SysProcAttr = victim.SysProcAttr
			}
			out, err := assail(bare, x)
			if strings.Contains(out, absentMark) {
				t.Skip("this kernel has nothing of the kind")
			}
			if err != nil || !strings.HasPrefix(out, escapedMark) {
				t.Errorf("without a layer: %q, %v, want that it succeeds", out, err)
			}
		})
	}
	c.spare.end()
	// All but those before which somebody made a file beside what is private.
	if spares < runs/2 {
		t.Errorf("%d of %d attacks were made from a spare, want most", spares, runs)
	}
}

const (
	escapedMark   = "escaped"
	containedMark = "contained: "
	absentMark    = "address family not supported"
	// Much longer than any attack takes.
	attackTime = time.Minute
)

// assail runs the attack that x names as cmd and returns what it says.
func assail(cmd *exec.Cmd, x targets) (string, error) {
	text, err := json.Marshal(x)
	if err != nil {
		return "", err
	}
	cmd.Stdin = strings.NewReader(string(text))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// beAttack is the main function of a hostile handler.
func beAttack() {
	var x targets
	text, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = json.Unmarshal(text, &x)
	}
	attack, ok := attacks[x.Attack]
	if err != nil || !ok {
		fmt.Println("no such attack", err)
		os.Exit(1)
	}
	if err := attack(x); err != nil {
		fmt.Print(containedMark, err)
	} else {
		fmt.Print(escapedMark)
	}
	syscall.Exit(0) // not os.Exit, at which the race detector waits for a second
}

// reaches makes an attack of a system call that succeeds when the kernel looks
// at its arguments, whatever it thinks of them, or was built without it.
func reaches(number uintptr, args ...uintptr) func(targets) error {
	return func(targets) error {
		if err := syscallOf(number, args...); err == unix.EPERM {
			return err
		}
		return nil
	}
}

func socket(family, kind, protocol int) func(targets) error {
	return func(targets) error {
		_, err := unix.Socket(family, kind, protocol)
		return err
	}
}

func proc(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }

func reads(path string) error { _, err := os.ReadFile(path); return err }

func opens(path string) error { _, err := os.Open(path); return err }

// opensToWrite opens the first of paths that exists for writing, and writes nothing.
func opensToWrite(paths ...string) (err error) {
	for _, path := range paths {
		if _, err = os.OpenFile(path, os.O_WRONLY, 0); !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return err
}

func trace(pid int) error {
	err := unix.PtraceSeize(pid)
	if err == nil {
		_ = unix.PtraceDetach(pid) // It ends with this process anyway.
	}
	return err
}

func printsZero(program string, args ...string) error {
	out, err := exec.Command(program, args...).Output()
	if err == nil && string(out) != "0\n" {
		err = fmt.Errorf("it printed %q", out)
	}
	return err
}

func childWith(flags uintptr) error {
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	return cmd.Run()
}

// fill makes count files of size bytes each.
func fill(count, size int) error {
	text := make([]byte, size)
	for i := range count {
		if err := os.WriteFile(strconv.Itoa(i), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// races reads a link that a second thread makes lead to path, for as long as a
// check and a use of it could differ.
func races(path string) error {
	if err := os.WriteFile("harmless", nil, 0o600); err != nil {
		return err
	}
	done := make(chan bool)
	defer func() { <-done }()
	go func() {
		defer close(done)
		for i := range 2000 {
			target := []string{"harmless", path}[i%2]
			if os.Symlink(target, "new") != nil || os.Rename("new", "raced") != nil {
				return
			}
		}
	}()
	for range 4000 {
		if text, err := os.ReadFile("raced"); err == nil && len(text) > 0 {
			return nil
		}
	}
	return unix.EACCES
}

// grows uses memory, page by page, in pieces of size bytes.
func grows(total, size int) error {
	for range total / size {
		piece, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		for i := 0; i < size; i += os.Getpagesize() {
			piece[i] = 1
		}
	}
	return nil
}

// multiplies starts so many processes at once, and ends them.
func multiplies(count int) (err error) {
	runtime.LockOSThread() // They end with this thread, if it does not come to that.
	var started []*exec.Cmd
	for len(started) < count && err == nil {
		cmd := exec.Command("/bin/sleep", "100")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err = cmd.Start(); err == nil {
			started = append(started, cmd)
		}
	}
	for _, cmd := range started {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // It was killed.
	}
	return err
}

func comparesItself() error {
	self := uintptr(os.Getpid())
	return syscallOf(unix.SYS_KCMP, self, self, 0, 0, 0) // Descriptor 0 with itself.
}

// clonesAnew is refused by the kernel for its arguments.
func clonesAnew() error {
	if err := syscallOf(unix.SYS_CLONE3); err == unix.ENOSYS {
		return err
	}
	return nil
}

// Threat L08. Each of these is out of the program's process group, or deaf to
// polite signals, when the program ends. Without namespaces the first two live
// on, as SECURITY.md says.
func TestNothingOutlivesARun(t *testing.T) {
	for name, row := range map[string]struct {
		text  string
		lives bool // without namespaces
	}{
		"a session of its own": {"setsid sh -c 'touch here; exec sleep 100000' >/dev/null 2>&1 &", true},
		"forked twice":         {"(setsid sh -c '(touch here; exec sleep 100000) &' &) >/dev/null 2>&1", true},
		"deaf to signals":      {"(trap '' TERM HUP INT; touch here; sleep 100000) >/dev/null 2>&1 &", false},
		"output closed":        {"sh -c 'exec >&- 2>&- <&-; touch here; exec sleep 100000' &", false},
	} {
		t.Run(name, func(t *testing.T) {
			program := script(t, row.text+"\nuntil [ -e here ]; do :; done")
			for _, isolated := range []bool{true, false} {
				c := confined(t, Settings{})
				if isolated {
					rehearsed(t, c)
				}
				if isolated && !c.canIsolate {
					t.Skipf("this user gets no namespaces: %v", c.unshared)
				}
				c.canIsolate = isolated
				// No other run anywhere has this folder's name in its event's.
				event := Event{Kind: KindUser, Name: fmt.Sprintf("%s-%t", strings.ReplaceAll(program, "/", "-"), isolated)}
				if r := c.run(t.Context(), program, event); !r.Done() {
					t.Fatalf("isolated %t: exit %d, %v, %s", isolated, r.ExitCode, r.Err, r.Stderr)
				}
				outlives := !isolated && row.lives
				if outlives {
					// While it becomes another program it is not to be found.
					until(t, "something outlives the run without namespaces", func() bool { return running(t, event.Name) > 0 })
				}
				until(t, "nothing is left", func() bool {
					if outlives {
						killRunning(t, event.Name)
					}
					return running(t, event.Name) == 0
				})
			}
		})
	}
}

// expired is a context whose time is over when the test says so.
type expired struct {
	context.Context
	over chan struct{}
}

func (e expired) Done() <-chan struct{} { return e.over }

func (e expired) Err() error {
	select {
	case <-e.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// Threat L08. The program has a child in a session of its own when its time is
// over. Without namespaces that lives on.
func TestNothingOutlivesTheTimeLimit(t *testing.T) {
	dir := granted(t)
	program := script(t, "setsid sh -c 'touch $0; exec sleep 100000' "+dir+"/$SERF_USER_EVENT >/dev/null 2>&1 &\nexec sleep 100000")
	for _, isolated := range []bool{true, false} {
		c := confined(t, Settings{Writable: []string{dir}, Timeout: patience})
		if isolated {
			rehearsed(t, c)
		}
		if isolated && !c.canIsolate {
			t.Skipf("this user gets no namespaces: %v", c.unshared)
		}
		c.canIsolate = isolated
		event := Event{Kind: KindUser, Name: fmt.Sprintf("%s-%d-%t", t.Name(), os.Getpid(), isolated)}
		ctx := expired{t.Context(), make(chan struct{})}
		results := make(chan Result, 1)
		go func() { results <- c.run(ctx, program, event) }()
		until(t, "the child runs", func() bool { return present(filepath.Join(dir, event.Name)) })
		close(ctx.over)
		if r := receive(t, results); !errors.Is(r.Err, ErrTimeout) {
			t.Errorf("isolated %t: %v, want ErrTimeout", isolated, r.Err)
		}
		if !isolated {
			if running(t, event.Name) == 0 {
				t.Error("without namespaces nothing outlived the time limit: this test shows nothing")
			}
			killRunning(t, event.Name)
		}
		until(t, "nothing is left", func() bool { return running(t, event.Name) == 0 })
	}
}
