package handler

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// shim is one start of the shim, for one run, as the agent sees it: first what the
// run has for itself, then the process.
type shim struct {
	c     *confinement
	dir   *scratch
	cage  *cage
	group *cgroup // nil: none
	view  *view   // a spare's: what the host was like when it was started; nil: a run's own

	pid    int // 0: not started, or reaped
	pipes  *plumbing
	ended  chan struct{} // closed when the process is reaped
	minder sync.WaitGroup
}

// newShim makes what a run has for itself. Nothing is started.
func (c *confinement) newShim() (*shim, error) {
	dir, err := newScratch(c.scratchRoot, c.account)
	if err != nil {
		return nil, err
	}
	s := &shim{c: c, dir: dir}
	if s.cage, err = c.newCage(dir); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// start starts the process: this same executable under another name, as the
// handler's user, in a session of its own, with an empty environment. executed is the
// file that it will execute.
func (s *shim) start(executed *os.File) (err error) {
	if s.c.newGroup != nil {
		if s.group, err = s.c.newGroup(s.cage.Permissions); err != nil {
			return err
		}
	}
	if s.pipes, err = newPlumbing(s.c.account); err != nil {
		return err
	}
	defer s.pipes.closeTheirs()
	settings, err := memoryFile("cage", s.cage)
	if err != nil {
		return err
	}
	defer settings.Close()
	files := []*os.File{
		s.pipes.stdin.theirs, s.pipes.stdout.theirs, s.pipes.stderr.theirs,
		cageFD: settings, hatchFD: s.pipes.hatch.theirs, programFD: executed,
	}
	s.ended = make(chan struct{})
	started := make(chan error)
	s.minder.Go(func() {
		// The kernel ties Pdeathsig to the thread that starts the process, not
		// to the whole agent. Without the lock the runtime could end that
		// thread, and a healthy handler would be killed.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		proc, err := os.StartProcess("/proc/self/exe", []string{shimName}, &os.ProcAttr{
			Dir: "/", Env: []string{}, Files: files, Sys: s.attributes(),
		})
		if err == nil {
			s.pid = proc.Pid
			_ = proc.Release() // It is waited for by its number.
		}
		started <- err
		if err == nil {
			<-s.ended
		}
	})
	if err := <-started; err != nil {
		return fmt.Errorf("starting the shim as uid %d: %w (the handler user must be able to execute the agent's own file, "+
			"and the agent needs CAP_SETUID and CAP_SETGID)", s.c.account.uid, err)
	}
	return nil
}

func (s *shim) attributes() *syscall.SysProcAttr {
	sys := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if s.c.account.switched {
		// No Groups: the supplementary groups are emptied.
		sys.Credential = &syscall.Credential{Uid: uint32(s.c.account.uid), Gid: uint32(s.c.account.gid)}
	}
	if s.group != nil {
		sys.UseCgroupFD, sys.CgroupFD = true, int(s.group.dir.Fd())
	}
	if s.c.account.switched && s.c.canDropAll {
		// Without this one capability the shim could not empty the
		// bounding set. It gives it up together with the rest.
		sys.AmbientCaps = []uintptr{unix.CAP_SETPCAP}
	}
	if len(s.cage.Namespaces) > 0 && !s.cage.OwnUsers {
		enter(sys, s.c.runNamespaces())
	}
	return sys
}

// reap kills what is left of the process and its group, and waits until it is gone.
func (s *shim) reap() (unix.WaitStatus, error) {
	status, err := s.c.reapGroup(s.pid)
	s.pid = 0
	close(s.ended)
	s.minder.Wait()
	s.endGroup()
	return status, err
}

// endGroup kills what is left in the cgroup, once.
func (s *shim) endGroup() {
	if s.group == nil {
		return
	}
	if err := s.group.end(); err != nil {
		s.c.logger.Warn("cgroup of a run left behind", "err", err)
	}
	s.group = nil
}

// end leaves nothing behind, whatever has been done so far. Of no shim there is nothing.
func (s *shim) end() {
	if s == nil {
		return
	}
	if s.pid != 0 {
		if _, err := s.reap(); err != nil {
			s.c.logger.Warn("shim left behind", "err", err)
		}
	}
	s.endGroup()
	s.view.close()
	if s.pipes != nil {
		s.pipes.close()
	}
	if err := s.dir.remove(); err != nil {
		s.c.logger.Warn("scratch directory left behind", "err", err)
	}
}

// killGroup kills the shim or the handler that it became and all processes that have
// not left its group, and with process 1 of a namespace all that are in it. Without
// namespaces one that starts a session of its own escapes this; it stays
// confined, and the pipes are not waited for.
func killGroup(leader int) { _ = unix.Kill(-leader, unix.SIGKILL) }

// waitUntilExited waits for the process to end without reaping it: until then
// its number cannot become another process group's, and killGroup is safe.
func waitUntilExited(leader int) error {
	for {
		err := unix.Waitid(unix.P_PID, leader, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err
		}
	}
}

// reapGroup kills what the handler left behind, so that nobody escapes the time
// limit by having a child, and waits a moment until it is gone: processes that
// are still dying count against those of the next run. It returns how the leader
// ended.
//
// All of them are reaped here if they are this process's children, as orphans
// are where the agent is process 1 of a container.
func (c *confinement) reapGroup(leader int) (status unix.WaitStatus, err error) {
	killed := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for reaped := false; ; {
		killGroup(leader)
		var ended unix.WaitStatus
		pid, err := unix.Wait4(-leader, &ended, unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
			continue
		case pid == leader:
			status, reaped = ended, true
			continue
		case pid > 0:
			continue
		case !reaped && err != nil:
			return 0, fmt.Errorf("reaping the handler: %w", err)
		case reaped && unix.Kill(-leader, 0) == unix.ESRCH:
			return status, nil
		case !reaped && time.Since(killed) > killTime:
			return 0, errors.New("the handler could not be killed")
		case reaped && time.Since(killed) > dyingTime:
			c.logger.Debug("processes of a handler are still dying")
			return status, nil
		}
		<-tick.C
	}
}
