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
	status := os.NewFile(statusFD, "status")
	text := becomeHandler(status).Error()
	_, _ = status.WriteString(text[:min(len(text), maxStatus-len(readyMark))])
	syscall.Exit(1)
}

// becomeHandler confines this process and executes the program, or the probe of a
// rehearsal. It returns only if that fails.
func becomeHandler(status *os.File) error {
	settings := os.NewFile(settingsFD, "job")
	job, err := readJob(settings)
	if err != nil {
		return err
	}
	if job.OwnUsers {
		return beOuter(job, settings, status)
	}
	settings.Close()
	if err := closeInherited(job.given()); err != nil {
		return fmt.Errorf("inherited descriptors: %w", err)
	}

	if err := tieToAgent(job.Parent); err != nil {
		return err
	}
	unix.Umask(0o077)
	if err := setEarlyLimits(job.CPUSeconds, job.Permissions.FileSize); err != nil {
		return err
	}
	// In a /proc of its own it would count its own alone.
	others, err := othersOf(job)
	if err != nil {
		return fmt.Errorf("counting processes: %w", err)
	}
	if err := isolate(job); err != nil {
		return err
	}
	if err := os.Chdir(job.Work); err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	if job.Rehearsal != "" {
		if err := checkAccess(job); err != nil {
			return err
		}
	}
	if err := dropCapabilities(job.EmptyBounding); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := restrictFiles(job); err != nil {
		return err
	}
	// From here on every descriptor but 0 to 2 closes when the program is
	// executed.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range (Linux 5.11): %w", err)
	}
	if job.FilterCalls {
		if err := restrictCalls(job.Permissions.Network); err != nil {
			return err
		}
	}
	if err := verify(job); err != nil {
		return fmt.Errorf("confinement did not hold: %w", err)
	}
	if _, err := status.WriteString(readyMark); err != nil {
		return err
	}
	if err := setLastLimits(job, others); err != nil {
		return err
	}
	if len(job.Namespaces) > 0 {
		return fmt.Errorf("executing %q: %w", job.Argv[0], beInit(job, status))
	}
	// Not execveat: syscall.Exec keeps the runtime from starting a thread
	// at the same moment, which the kernel would refuse and the runtime
	// would die of. By this path the kernel executes the open file itself.
	err = syscall.Exec(fdPath(job.executed()), job.Argv, job.Env)
	return fmt.Errorf("executing %q: %w", job.Argv[0], err)
}

// tieToAgent makes the kernel kill this process when the agent ends. If that
// has happened already there is nobody to work for. From a namespace of its own
// the agent cannot be told from its heir: there the status pipe, which broke
// when the agent ended, keeps the shim from going on.
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
	if err := unix.Access(fdPath(programFD), unix.X_OK); err != nil {
		return fmt.Errorf("uid %d may not execute %q: %w; fix: chmod a+x %s", job.UID, job.Rehearsal, err, pasteable(job.Rehearsal))
	}
	// A script is read by the agent on behalf of its interpreter. That must
	// not show it to a user who could not read it.
	if job.Script {
		if err := unix.Access(fdPath(scriptFD), unix.R_OK|unix.X_OK); err != nil {
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
func verify(job *job) error {
	ruid, euid, suid := unix.Getresuid()
	rgid, egid, sgid := unix.Getresgid()
	for _, uid := range []int{ruid, euid, suid} {
		if uid == 0 || uid != job.UID {
			return fmt.Errorf("user ids are %d %d %d, not %d", ruid, euid, suid, job.UID)
		}
	}
	for _, gid := range []int{rgid, egid, sgid} {
		if gid != job.GID || job.Switched && gid == 0 {
			return fmt.Errorf("group ids are %d %d %d, not %d", rgid, egid, sgid, job.GID)
		}
	}
	groups, err := unix.Getgroups()
	if err != nil {
		return err
	}
	if !slices.Equal(slices.Sorted(slices.Values(groups)), slices.Sorted(slices.Values(job.Groups))) {
		return fmt.Errorf("supplementary groups are %v, not %v", groups, job.Groups)
	}
	locked, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil || locked != 1 {
		return fmt.Errorf("no_new_privs is %d (%v)", locked, err)
	}
	if err := verifyIsolation(job); err != nil {
		return err
	}
	if err := verifyThreads(job.FilterCalls); err != nil {
		return err
	}
	if job.FilterCalls {
		if err := verifyCalls(job.Permissions.Network); err != nil {
			return err
		}
	}
	return verifyCapabilities(job.EmptyBounding)
}
