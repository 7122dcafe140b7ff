package handler

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// beInit starts the program and waits for its end, as process 1 of the run.
//
// Process 1 is not the program itself: the kernel keeps from process 1 every
// signal that it has no handler for, "kill $$" included, and gives it every orphan
// to reap. Programs expect neither. When this process exits, the kernel kills
// whatever the run has left, in whatever session that is, and nobody sees this
// process as ended before that is done.
//
// It is confined as the program is, and there is nothing in it for the program to
// take: it is not dumpable, so that its memory and descriptors are root's to look
// at, and it keeps no descriptor but the hatch. It returns only if the program could
// not be started.
func beInit(job *job, hatch *os.File) error {
	if err := forgetSignals(); err != nil {
		return err
	}
	// A session of its own: "kill 0" in a script means the script's processes.
	pid, err := syscall.ForkExec(fdPath(job.executed()), job.Argv, &syscall.ProcAttr{
		Env: job.Env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return err
	}
	for _, fd := range job.given() {
		unix.Close(*fd)
	}
	for fd := range 3 {
		unix.Close(fd) // Else a pipe that the program closed would stay open.
	}
	for {
		var ended unix.WaitStatus
		reaped, err := unix.Wait4(-1, &ended, 0, nil)
		switch {
		case err == unix.EINTR, err == nil && reaped != pid:
			continue
		case err != nil:
			syscall.Exit(1) // The agent misses the word about the end.
		}
		_, _ = fmt.Fprintf(hatch, "%s%d", endedMark, uint32(ended))
		syscall.Exit(0)
	}
}

// closeInherited closes what something before the agent left open (threat L04): it
// would be open in process 1 for the whole run. What this process has opened itself,
// which its runtime may not be able to do without, is told by its closing on exec.
func closeInherited() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= programFD {
			continue
		}
		if inherited(fd) {
			unix.Close(fd)
		}
	}
	return nil
}

// inherited reports whether a descriptor was open when this process was executed.
func inherited(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

// forgetSignals takes the Go runtime's signal handlers away. The kernel keeps from
// process 1 what it has no handler for, while the runtime would end this process,
// and so the run, at the first SIGTERM. The runtime must not know: it would ignore
// the signals instead, and so would the program, which inherits that.
func forgetSignals() error {
	var byDefault [64]byte // A struct sigaction of zeros, wherever its fields are.
	for number := uintptr(1); number <= 64; number++ {
		if number == uintptr(unix.SIGKILL) || number == uintptr(unix.SIGSTOP) {
			continue
		}
		if _, _, errno := unix.Syscall6(unix.SYS_RT_SIGACTION, number, uintptr(unsafe.Pointer(&byDefault[0])), 0, 8, 0, 0); errno != 0 {
			return fmt.Errorf("signal %d: %w", number, errno)
		}
	}
	return nil
}

// verifyThreads reads back what each thread of this process may do. Those that
// will not execute the program stay for the whole run.
func verifyThreads(filtered bool) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	want := []string{
		"CapInh:\t" + noCapabilities, "CapPrm:\t" + noCapabilities, "CapEff:\t" + noCapabilities, "CapAmb:\t" + noCapabilities,
		"NoNewPrivs:\t1",
	}
	if filtered {
		want = append(want, "Seccomp:\t2")
	}
	for _, task := range tasks {
		status, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		for _, line := range want {
			if !strings.Contains(string(status), "\n"+line+"\n") {
				return fmt.Errorf("thread %s is not confined: it lacks %q", task.Name(), line)
			}
		}
	}
	return nil
}

const noCapabilities = "0000000000000000"
