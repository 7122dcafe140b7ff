package handler

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// probeName is what the agent's executable is called when it is the program of a
// rehearsal, and lingererName when it is what that program leaves behind.
const (
	probeName    = "secgossip-handler-probe"
	lingererName = "secgossip-handler-lingerer"
)

// plan is what a probe is told on standard input: what there is to reach, and what
// it should be held by.
type plan struct {
	Agent    int    // process id
	Outside  string // folder that everybody may write to, with a file such as that in it
	Private  []string
	Restrict bool   // the settings name what may be read, and Outside is not among it
	Port     int    // on loopback, where the agent listens; 0: nowhere
	Abstract string // an abstract socket of the agent's

	UID         int
	Switched    bool
	Permissions permissions
	Namespaces  map[string]string // as in the job
}

// trial is something that a layer is there to prevent. try returns nil if it could
// be done.
type trial struct {
	layer, what string
	try         func() error
}

// trials are what the program of a rehearsal tries: the crude form of what the
// escape suite does at length. The order matters: what takes something away from
// the probe comes last.
func (p *plan) trials() []trial {
	file := filepath.Join(p.Outside, "file")
	list := []trial{
		{layerPrivileges, "become root", func() error { return syscallOf(unix.SYS_SETUID, 0) }},
		{layerPrivileges, "allow new privileges", allowsPrivileges},
		{layerBounding, "keep a capability in reach", boundCapability},
		{layerBounding, "change the securebits", func() error { return unix.Prctl(unix.PR_SET_SECUREBITS, 0, 0, 0, 0) }},
		{layerPrivileges, "take a capability", takeCapability},
		{layerDescriptors, "find an open descriptor", openDescriptor},
		{layerFiles, "make a file outside", func() error { return makesFile(filepath.Join(p.Outside, "new")) }},
		{layerFiles, "write to a file outside", func() error { return opensFile(file, unix.O_WRONLY) }},
		{layerFiles, "truncate a file outside", func() error { return unix.Truncate(file, 0) }},
		{layerSignals, "signal the agent", func() error { return unix.Kill(p.Agent, 0) }},
		{layerCalls, "trace", refusedWith(unix.EPERM, unix.SYS_PTRACE, 1<<20)},
		{layerCalls, "read the session keyring", refusedWith(unix.EPERM, unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, 0xfffffffd)},
		{layerCalls, "set up io_uring", refusedWith(unix.EPERM, unix.SYS_IO_URING_SETUP)},
		{layerCalls, "make a namespace", refusedWith(unix.EPERM, unix.SYS_UNSHARE, unix.CLONE_NEWUSER)},
		{layerCalls, "load a program for the kernel", refusedWith(unix.EPERM, unix.SYS_BPF, 9999)},
		{layerLimits, "dump core", limitedBelow(unix.RLIMIT_CORE, 1)},
		{layerLimits, "compute without end", limitedBelow(unix.RLIMIT_CPU, unix.RLIM_INFINITY)},
		{layerLimits, "make a large file", func() error { return growsFile(int64(p.Permissions.FileSize) + 1) }},
		{layerLimits, "open many files", opensMany},
		{layerProcesses, "start processes without end", forksBeyondItsLimit},
	}
	if !raceDetector {
		list = append(list, trial{layerLimits, "use much memory", func() error { return mapsMemory(p.Permissions.Memory + 1) }})
	}
	if p.Switched {
		list = append(list, trial{layerUser, "be the agent's user", func() error { return succeedsIf(os.Getuid() == p.UID) }})
	}
	for _, path := range p.Private {
		list = append(list, trial{layerFiles, "read " + path, func() error { return opensFile(path, unix.O_RDONLY) }})
	}
	if p.Restrict {
		list = append(list, trial{layerFiles, "read what is not named", func() error { return opensFile(file, unix.O_RDONLY) }})
	}
	if p.Abstract != "" {
		list = append(list, trial{layerSignals, "reach an abstract socket", func() error {
			return connects(unix.AF_UNIX, 0, &unix.SockaddrUnix{Name: p.Abstract})
		}})
	}
	if !p.Permissions.Network {
		loopback := &unix.SockaddrInet4{Port: p.Port, Addr: [4]byte{127, 0, 0, 1}}
		list = append(list,
			trial{layerNetwork, "connect to the agent", func() error { return connects(unix.AF_INET, 0, loopback) }},
			trial{layerNetwork, "connect by multipath TCP", func() error { return connects(unix.AF_INET, unix.IPPROTO_MPTCP, loopback) }},
		)
	}
	list = append(list, trial{layerNamespaces, "see the agent", func() error { return opensFile(fmt.Sprintf("/proc/%d/stat", p.Agent), unix.O_RDONLY) }})
	for name, agents := range p.Namespaces {
		list = append(list, trial{layerNamespaces, "be in the agent's " + name + " namespace", func() error {
			own, err := namespaceID(name)
			if err == nil && own != agents {
				err = unix.EPERM
			}
			return err
		}})
	}
	return append(list, trial{layerScratch, "fill the disk", func() error { return fillsScratch(p.Permissions) }})
}

// beProbe is the main function of the program of a rehearsal. It says what it could
// do, by layer, and leaves a process behind.
func beProbe() {
	signal.Ignore(unix.SIGXFSZ) // The error is enough.
	var p plan
	text, err := io.ReadAll(io.LimitReader(os.Stdin, maxPlan))
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "reading the plan:", err)
		syscall.Exit(1)
	}
	breaches := make(map[string][]string)
	for _, t := range p.trials() {
		if t.try() == nil {
			breaches[t.layer] = append(breaches[t.layer], t.what)
		}
	}
	// It holds standard output, whose end the agent waits for.
	if _, err := syscall.ForkExec("/proc/self/exe", []string{lingererName}, &syscall.ProcAttr{
		Files: []uintptr{1, 1, 1}, Sys: &syscall.SysProcAttr{Setsid: true},
	}); err != nil {
		fmt.Fprintln(os.Stderr, "leaving a process behind:", err)
		syscall.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(breaches); err != nil {
		syscall.Exit(1)
	}
	syscall.Exit(0)
}

// maxPlan is for some thousand private paths.
const maxPlan = 16 << 20

// lingering is how long a process that was left behind waits for an agent that has
// not closed its end, which is longer than the agent waits for its output.
const lingering = 10 * pipeTime

// beLingerer stays until its output is closed at the other end.
func beLingerer() {
	_, _ = unix.Poll([]unix.PollFd{{Fd: 1}}, int(lingering.Milliseconds()))
	syscall.Exit(0)
}

func syscallOf(number uintptr, args ...uintptr) error {
	var six [6]uintptr
	copy(six[:], args)
	if _, _, errno := unix.Syscall6(number, six[0], six[1], six[2], six[3], six[4], six[5]); errno != 0 {
		return errno
	}
	return nil
}

// refusedWith makes a trial of a call that must end with one error: any other comes
// from further inside the kernel than a handler should get.
func refusedWith(want unix.Errno, number uintptr, args ...uintptr) func() error {
	return func() error {
		if err := syscallOf(number, args...); err == want {
			return err
		}
		return nil
	}
}

func takeCapability() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	wanted := [2]unix.CapUserData{{Effective: 1 << unix.CAP_NET_RAW, Permitted: 1 << unix.CAP_NET_RAW}}
	return unix.Capset(&header, &wanted[0])
}

// allowsPrivileges succeeds if a set-uid program would gain something: a bit that is
// never taken back is missing.
func allowsPrivileges() error {
	locked, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	return errors.Join(err, succeedsIf(locked != 1))
}

func boundCapability() error {
	for capability := range uintptr(64) {
		bound, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, capability, 0, 0, 0)
		if err != nil {
			return err // The kernel knows no more of them.
		}
		if bound != 0 {
			return nil
		}
	}
	return unix.EPERM
}

// openDescriptor finds one that came with the confinement.
func openDescriptor() error {
	for fd := 3; fd < maxOpenFiles; fd++ {
		if inherited(fd) {
			return nil
		}
	}
	return unix.EBADF
}

func makesFile(path string) error { return opensFile(path, unix.O_WRONLY|unix.O_CREAT) }

func opensFile(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func growsFile(size int64) error {
	fd, err := unix.Open("large", unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil // The scratch is there to be written to: something is wrong.
	}
	defer unix.Close(fd)
	return unix.Ftruncate(fd, size)
}

func opensMany() (err error) {
	var opened []int
	for len(opened) <= maxOpenFiles && err == nil {
		var fd int
		if fd, err = unix.Dup(0); err == nil {
			opened = append(opened, fd)
		}
	}
	for _, fd := range opened {
		unix.Close(fd)
	}
	return err
}

func limitedBelow(resource int, most uint64) func() error {
	return func() error {
		var limit unix.Rlimit
		if err := unix.Getrlimit(resource, &limit); err != nil || limit.Max >= most {
			return nil
		}
		return unix.EPERM
	}
}

func mapsMemory(size uint64) error {
	_, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	return err // This process ends soon.
}

// forksBeyondItsLimit finds out whether the kernel holds this user to a number of
// processes at all: starting thousands would be no rehearsal. Some users are exempt.
func forksBeyondItsLimit() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &limit); err != nil || limit.Max > mostProcesses*4 {
		return nil
	}
	runtime.LockOSThread()
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		return nil
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{lingererName}, &syscall.ProcAttr{})
	_ = unix.Setrlimit(unix.RLIMIT_NPROC, &limit)
	if err == nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
	}
	return err
}

func succeedsIf(could bool) error {
	if could {
		return nil
	}
	return unix.EPERM
}

// connects reaches a listener of the agent's, without waiting longer than a moment.
func connects(family, protocol int, to unix.Sockaddr) error {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err = unix.Connect(fd, to); err != unix.EINPROGRESS {
		return err
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(time.Second.Milliseconds())); err != nil || n == 0 {
		return unix.ETIMEDOUT
	}
	if failed, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || failed != 0 {
		return unix.Errno(max(failed, 1))
	}
	return nil
}

// fillsScratch takes more room than the scratch has. What it took goes with it.
func fillsScratch(may permissions) (err error) {
	piece := min(int64(may.FileSize), int64(may.Scratch))
	var names []string
	for taken := int64(0); taken <= int64(may.Scratch) && err == nil; taken += piece {
		name := "fill-" + strconv.Itoa(len(names))
		names = append(names, name)
		var fd int
		if fd, err = unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600); err != nil {
			break
		}
		err = unix.Fallocate(fd, 0, 0, piece)
		unix.Close(fd)
	}
	for _, name := range names {
		_ = unix.Unlink(name)
	}
	if err == unix.EOPNOTSUPP {
		return nil // No file system of ours.
	}
	return err
}

// bindLoopback and bindAbstract open what a probe must not reach.
func bindLoopback() (fd, port int) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0
	}
	if unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}) == nil && unix.Listen(fd, 8) == nil {
		if name, err := unix.Getsockname(fd); err == nil {
			return fd, name.(*unix.SockaddrInet4).Port
		}
	}
	return fd, 0
}

func bindAbstract() (fd int, name string) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, ""
	}
	// Without a name the kernel chooses one.
	family := uint16(unix.AF_UNIX)
	_, _, errno := unix.Syscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&family)), unsafe.Sizeof(family))
	if errno == 0 && unix.Listen(fd, 8) == nil {
		if bound, err := unix.Getsockname(fd); err == nil {
			return fd, bound.(*unix.SockaddrUnix).Name
		}
	}
	return fd, ""
}
