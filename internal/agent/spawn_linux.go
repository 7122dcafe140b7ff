package agent

import (
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/secgossip/secgossip/internal/link"
)

// networkName is what this executable is called when it is to be the network process.
const networkName = "secgossip-network"

// The network process's descriptors beside 0 to 2.
const (
	linkFD = 3
	homeFD = 4 // the folder of the home, with its lock
)

// homePath is the home by that descriptor: a process without rights may not be able to
// pass through the folders above it.
const homePath = "/proc/self/fd/4"

// spawn starts this executable again as the network process.
func spawn(lock *os.File, _ io.Writer) (*child, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "link"), os.NewFile(uintptr(fds[1]), "link")
	defer theirs.Close()
	nothing, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer nothing.Close()
	type outcome struct {
		proc *os.Process
		err  error
	}
	started := make(chan outcome, 1)
	exited := make(chan error, 1)
	go func() {
		// The kernel ties Pdeathsig to this thread, which so must last as long as we do.
		runtime.LockOSThread()
		proc, err := os.StartProcess("/proc/self/exe", []string{networkName}, &os.ProcAttr{
			Env:   os.Environ(),
			Files: []*os.File{nothing, nothing, os.Stderr, linkFD: theirs, homeFD: lock},
			Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
		})
		started <- outcome{proc, err}
		if err == nil {
			_, err = proc.Wait()
			exited <- err
		}
	}()
	begun := <-started // a fork: it takes no time
	if begun.err != nil {
		ours.Close()
		return nil, begun.err
	}
	return &child{pipe: ours, exited: exited, kill: func() {
		_ = begun.proc.Kill() // it may have ended
	}}, nil
}

// networkMain is the network process, if this process was started as that.
func networkMain() {
	if len(os.Args) == 0 || os.Args[0] != networkName {
		return
	}
	// What is set on this thread must last as long as the process.
	runtime.LockOSThread()
	// The terminal sends them to both processes. The runner says what they mean.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	trimSoon()
	unix.CloseOnExec(linkFD)
	unix.CloseOnExec(homeFD)
	if err := unix.SetNonblock(linkFD, true); err != nil {
		os.Exit(1) // nobody has started us
	}
	l := link.New(os.NewFile(linkFD, "link"), link.Network)
	// Without the runner there is nothing to be done, nor anybody to tell: what is on
	// disk is whole at every moment.
	network(l, settleAs, homePath, os.Stderr, func() { os.Exit(1) })
	_ = l.Close() // the runner may have gone with our last word
	os.Exit(0)
}
