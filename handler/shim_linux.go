package handler

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// ShimMain makes this process the shim if it was started as one, and does not
// return then. Otherwise it returns at once. It must be the first thing in
// main, and in TestMain of every package whose tests run handlers.
//
// The shim stands between the agent and a handler. A process can only confine
// itself, Go cannot run code between fork and exec, and the agent must stay
// unconfined: so the agent starts its own executable again, which confines
// itself step by step and then becomes the program or, with a process namespace,
// its parent and process 1 (see beInit). If any step fails, nothing of the program
// runs and the agent learns why.
func ShimMain() {
	if len(os.Args) == 0 {
		return
	}
	switch os.Args[0] {
	case probeName:
		beProbe()
	case lingererName:
		beLingerer()
	case shimName:
		beShim()
	}
}

func beShim() {
	// What is set on this thread alone (capabilities, parent death signal)
	// must be set on the one that executes the program.
	runtime.LockOSThread()
	// There is little to do at once, and each thread stays as long as process 1.
	runtime.GOMAXPROCS(1)
	// The shim does nothing after the last limits, under which there is no
	// memory to be had for the collector.
	debug.SetGCPercent(-1)
	// Not os.Exit, which would run what the agent has to do at its end.
	hatch := os.NewFile(hatchFD, "hatch")
	text := becomeHandler(hatch).Error()
	_, _ = hatch.WriteString(text[:min(len(text), maxStatus-len(readyMark))])
	syscall.Exit(1)
}

// becomeHandler confines this process, waits for its job and executes the program, or
// the probe of a rehearsal. It returns only if that fails.
//
// A run's shim gets its job at once; a spare waits for it, confined as the
// program will be: all that the job brings is which program that is, with which
// arguments, environment and limits.
func becomeHandler(hatch *os.File) error {
	var cage cage
	if err := readFile(cageFD, "cage", &cage); err != nil {
		return err
	}
	if cage.OwnUsers {
		return beOuter(&cage, hatch)
	}
	if err := enterCage(&cage); err != nil {
		return err
	}
	job, err := receiveJob(&cage)
	if err != nil {
		return err
	}
	return beProgram(job, hatch)
}

// enterCage gives up what no run of this handler has, and reads back that it is gone.
func enterCage(cage *cage) error {
	// Whoever else runs as this user has no business with its memory and its
	// descriptors. Executing the program ends this, for the program.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("making the shim unreadable: %w", err)
	}
	if err := closeInherited(); err != nil {
		return fmt.Errorf("inherited descriptors: %w", err)
	}
	if err := tieToAgent(cage.Parent); err != nil {
		return err
	}
	unix.Umask(0o077)
	if err := setEarlyLimits(cage.CPUSeconds, cage.Permissions.FileSize); err != nil {
		return err
	}
	if err := isolate(cage); err != nil {
		return err
	}
	if err := os.Chdir(cage.Work); err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	if err := dropCapabilities(cage.EmptyBounding); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := restrictFiles(cage); err != nil {
		return err
	}
	// From here on every descriptor but 0 to 2 closes when the program is
	// executed; those that come with the job do by themselves.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range (Linux 5.11): %w", err)
	}
	unix.Close(programFD)
	if cage.FilterCalls {
		if err := restrictCalls(cage.Permissions.Network); err != nil {
			return err
		}
	}
	if err := verify(cage); err != nil {
		return fmt.Errorf("confinement did not hold: %w", err)
	}
	return nil
}

// beProgram sets the last limits and executes the program.
func beProgram(job *job, hatch *os.File) error {
	if job.Rehearsal != "" {
		if err := checkAccess(job); err != nil {
			return err
		}
	}
	if _, err := hatch.WriteString(readyMark); err != nil {
		return err
	}
	if err := setLastLimits(job); err != nil {
		return err
	}
	if len(job.Namespaces) > 0 {
		return fmt.Errorf("executing %q: %w", job.Argv[0], beInit(job, hatch))
	}
	// Not execveat: syscall.Exec keeps the runtime from starting a thread
	// at the same moment, which the kernel would refuse and the runtime
	// would die of. By this path the kernel executes the open file itself.
	err := syscall.Exec(fdPath(job.executed()), job.Argv, job.Env)
	return fmt.Errorf("executing %q: %w", job.Argv[0], err)
}

// tieToAgent makes the kernel kill this process when the agent ends. If that
// has happened already there is nobody to work for. From a namespace of its own
// the agent cannot be told from its heir: there the hatch, which broke when
// the agent ended, keeps the shim from going on.
func tieToAgent(parent int) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("parent death signal: %w", err)
	}
	if os.Getppid() != parent {
		return errors.New("the agent has ended")
	}
	return nil
}

// checkAccess asks, as the handler's user, what only that user can find out.
func checkAccess(job *job) error {
	if err := unix.Access(fdPath(job.program), unix.X_OK); err != nil {
		return fmt.Errorf("uid %d may not execute %q: %w; fix: chmod a+x %s", job.UID, job.Rehearsal, err, pasteable(job.Rehearsal))
	}
	// A script is read by the agent on behalf of its interpreter. That must
	// not show it to a user who could not read it.
	if job.Script {
		if err := unix.Access(fdPath(job.script), unix.R_OK|unix.X_OK); err != nil {
			return fmt.Errorf("uid %d may not read and execute it: %w; fix: chmod a+rx %s", job.UID, err, pasteable(job.Program))
		}
	}
	for _, path := range job.Writable {
		if err := unix.Access(path, unix.W_OK); err != nil {
			return fmt.Errorf("uid %d may not write to %q: %w; fix: chown %d %s", job.UID, path, err, job.UID, pasteable(path))
		}
	}
	return nil
}

// verify reads back what the kernel says this process is. No step above is
// believed to have worked because it returned no error.
func verify(cage *cage) error {
	ruid, euid, suid := unix.Getresuid()
	rgid, egid, sgid := unix.Getresgid()
	for _, uid := range []int{ruid, euid, suid} {
		if uid == 0 || uid != cage.UID {
			return fmt.Errorf("user ids are %d %d %d, not %d", ruid, euid, suid, cage.UID)
		}
	}
	for _, gid := range []int{rgid, egid, sgid} {
		if gid != cage.GID || cage.Switched && gid == 0 {
			return fmt.Errorf("group ids are %d %d %d, not %d", rgid, egid, sgid, cage.GID)
		}
	}
	groups, err := unix.Getgroups()
	if err != nil {
		return err
	}
	if !slices.Equal(slices.Sorted(slices.Values(groups)), slices.Sorted(slices.Values(cage.Groups))) {
		return fmt.Errorf("supplementary groups are %v, not %v", groups, cage.Groups)
	}
	locked, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil || locked != 1 {
		return fmt.Errorf("no_new_privs is %d (%v)", locked, err)
	}
	if err := verifyIsolation(cage); err != nil {
		return err
	}
	if err := verifyThreads(cage.FilterCalls); err != nil {
		return err
	}
	if cage.FilterCalls {
		if err := verifyCalls(cage.Permissions.Network); err != nil {
			return err
		}
	}
	return verifyCapabilities(cage.EmptyBounding)
}
