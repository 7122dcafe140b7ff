package handler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// dyingTime is how long a run waits for processes that were killed. They
	// die at once; it is process 1 that may take its time to reap them.
	dyingTime = 100 * time.Millisecond
	// pipeTime is how long a run waits for the last output after that. Only
	// a process that left the handler's group can still hold the pipes.
	pipeTime = time.Second
)

// run runs the program at path once. It returns when the program and all that
// is left of its process group are gone.
func (c *confinement) run(ctx context.Context, path string, e Event) Result {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	p, err := openProgram(path, c.agentUID)
	if err != nil {
		return notRun(err)
	}
	defer p.close()
	return c.runOpened(ctx, p, path, e, nil)
}

// prepared is a run of which nothing has been started.
type prepared struct {
	job     *job
	dir     *scratch
	program *program
	group   *cgroup  // nil: none
	probe   *os.File // rehearsals only: what runs in the program's place
	stdin   []byte
}

// runOpened runs a program that has been checked. From here on path is only
// what the program is called. A rehearsal changes what has been prepared.
func (c *confinement) runOpened(ctx context.Context, p *program, path string, e Event, change func(*prepared) error) Result {
	dir, err := newScratch(c.scratchRoot, c.account)
	if err != nil {
		return notRun(err)
	}
	defer func() {
		if err := dir.remove(); err != nil {
			c.logger.Warn("scratch directory left behind", "err", err)
		}
	}()
	env, err := environmentFor(c.settings.Input, e, dir.work)
	if err != nil {
		return notRun(err)
	}
	stdin, err := inputFor(c.settings.Input, e)
	if err != nil {
		return notRun(err)
	}
	argv, err := dir.stage(p, path)
	if err != nil {
		return notRun(err)
	}
	job, err := c.newJob(path, dir, argv, env)
	if err != nil {
		return notRun(err)
	}
	job.answers = e.Kind == KindQuery
	run := &prepared{job: job, dir: dir, program: p, stdin: stdin}
	if change != nil {
		if err := change(run); err != nil {
			return notRun(err)
		}
	}
	if c.newGroup != nil {
		if run.group, err = c.newGroup(job.Permissions); err != nil {
			return notRun(err)
		}
	}
	result := c.supervise(ctx, run)
	run.endGroup(c.logger)
	return result
}

// endGroup kills what is left in the run's cgroup, once.
func (r *prepared) endGroup(logger *slog.Logger) {
	if r.group == nil {
		return
	}
	if err := r.group.end(); err != nil {
		logger.Warn("cgroup of a run left behind", "err", err)
	}
	r.group = nil
}

func notRun(err error) Result {
	return Result{ExitCode: -1, Err: fmt.Errorf("not run: %w", err)}
}

// supervise starts the shim for a run, feeds it, collects what it says and makes
// sure that its process group ends.
func (c *confinement) supervise(ctx context.Context, run *prepared) Result {
	// The kernel ties Pdeathsig to the thread that starts the process, not
	// to the whole agent. Without the lock the runtime could end that
	// thread, and a healthy handler would be killed.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	pipes, err := newPlumbing(c.account)
	if err != nil {
		return notRun(err)
	}
	defer pipes.closeOurs()
	proc, err := c.start(run, pipes)
	pipes.closeTheirs()
	if err != nil {
		return notRun(err)
	}

	stdout, stderr := capture{answers: run.job.answers}, capture{}
	var copies sync.WaitGroup
	// Copying ends by itself or by a deadline. That says nothing about the
	// handler: it need not read its input, and its exit code is the judge
	// of its output.
	var stdoutErr, stderrErr error
	copies.Go(func() { _, stdoutErr = io.Copy(&stdout, pipes.stdout.ours) })
	copies.Go(func() { _, stderrErr = io.Copy(&stderr, pipes.stderr.ours) })
	copies.Go(func() {
		_, _ = pipes.stdin.ours.Write(run.stdin)
		pipes.stdin.ours.Close()
	})

	exited := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		select {
		case <-ctx.Done():
			killGroup(proc.Pid)
		case <-exited:
		}
	})
	// The status pipe ends when the shim becomes the program, or dies as process
	// 1 of the run does, and the killer sees to it that it does one of them in time.
	status, statusErr := io.ReadAll(io.LimitReader(pipes.status.ours, maxStatus))
	waitErr := waitUntilExited(proc.Pid)
	close(exited)
	killer.Wait()
	state, reapErr := c.reapGroup(proc.Pid)
	_ = proc.Release() // It has just been reaped.
	run.endGroup(c.logger)
	end := time.Now().Add(pipeTime)
	_ = pipes.stdout.ours.SetReadDeadline(end)
	_ = pipes.stderr.ours.SetReadDeadline(end)
	_ = pipes.stdin.ours.SetWriteDeadline(time.Now())
	copies.Wait()
	outlived := errors.Is(errors.Join(stdoutErr, stderrErr), os.ErrDeadlineExceeded)
	if outlived && run.probe == nil {
		c.logger.Warn("a process left its handler's process group and still runs", "program", run.program.path)
	}

	result := Result{
		ExitCode: -1, Stdout: stdout.output(), Stderr: stderr.output(), outlived: outlived, answer: stdout.answer,
	}
	if err := errors.Join(statusErr, waitErr, reapErr); err != nil {
		result.Err = err
		return result
	}
	result.conclude(ctx, string(status), state)
	return result
}

// conclude says how a run ended that was begun.
func (r *Result) conclude(ctx context.Context, status string, wait unix.WaitStatus) {
	ready, end, problem := parseStatus(status)
	r.Started = ready && problem == ""
	switch {
	case end != nil && end.Signaled():
		r.Err = fmt.Errorf("handler ended by a signal: %v", end.Signal())
	case end != nil:
		r.ExitCode = end.ExitStatus()
	case wait.Signaled() && wait.Signal() == syscall.SIGKILL && errors.Is(ctx.Err(), context.DeadlineExceeded):
		r.Err = ErrTimeout
	case wait.Signaled() && wait.Signal() == syscall.SIGKILL && ctx.Err() != nil:
		r.Err = ErrClosed
	case problem != "":
		r.Err = fmt.Errorf("not run: %s", problem)
	case !ready:
		r.Err = fmt.Errorf("not run: the shim ended early (status %#x): %s", int(wait), r.Stderr.excerpt())
	case wait.Signaled():
		r.Err = fmt.Errorf("handler ended by a signal: %v", wait.Signal())
	default:
		r.ExitCode = wait.ExitStatus()
	}
}

// start starts the shim: this same executable under another name, as the
// handler's user, in a session of its own, with an empty environment.
func (c *confinement) start(run *prepared, pipes *plumbing) (*os.Process, error) {
	p, job := run.program, run.job
	settings, err := job.file()
	if err != nil {
		return nil, err
	}
	defer settings.Close()
	sys := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if c.account.switched {
		// No Groups: the supplementary groups are emptied.
		sys.Credential = &syscall.Credential{Uid: uint32(c.account.uid), Gid: uint32(c.account.gid)}
	}
	if run.group != nil {
		sys.UseCgroupFD, sys.CgroupFD = true, int(run.group.dir.Fd())
	}
	if c.account.switched && c.canDropAll {
		// Without this one capability the shim could not empty the
		// bounding set. It gives it up together with the rest.
		sys.AmbientCaps = []uintptr{unix.CAP_SETPCAP}
	}
	if len(job.Namespaces) > 0 && !job.OwnUsers {
		enter(sys, c.runNamespaces())
	}
	files := []*os.File{
		pipes.stdin.theirs, pipes.stdout.theirs, pipes.stderr.theirs,
		settingsFD: settings, statusFD: pipes.status.theirs, programFD: p.executed(),
	}
	if run.probe != nil {
		files = append(files, run.probe) // probeFD
	}
	if job.Script {
		files = append(files, p.file) // scriptFD
	}
	proc, err := os.StartProcess("/proc/self/exe", []string{shimName}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: files, Sys: sys,
	})
	if err != nil {
		return nil, fmt.Errorf("starting the shim as uid %d: %w (the handler user must be able to execute the agent's own file, "+
			"and the agent needs CAP_SETUID and CAP_SETGID)", c.account.uid, err)
	}
	return proc, nil
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
	deadline := time.Now().Add(dyingTime)
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
		case time.Now().After(deadline) && !reaped:
			return 0, errors.New("the handler could not be killed")
		case time.Now().After(deadline):
			c.logger.Debug("processes of a handler are still dying")
			return status, nil
		}
		<-tick.C
	}
}
