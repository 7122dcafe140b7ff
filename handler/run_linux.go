package handler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// dyingTime is how long a run waits for processes that were killed. They
	// die at once; it is process 1 that may take its time to reap them.
	dyingTime = 100 * time.Millisecond
	// killTime is how long it waits for its own process, which a host that is short
	// of processors lets die late: until it is reaped, it is left behind.
	killTime = 5 * time.Second
	// pipeTime is how long a run waits for the last output after that. Only
	// a process that left the handler's group can still hold the pipes.
	pipeTime = time.Second
	// answerTime is how long a spare may take to say that the program begins. It
	// takes some milliseconds; one that was stopped takes for ever.
	answerTime = time.Second
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

// runOpened runs a program that has been checked. From here on path is only
// what the program is called. A rehearsal changes what has been prepared.
//
// A run takes the spare if there is one. When that cannot begin it, it is as if there
// had been none: nothing of the program has run, and the spare is dead.
func (c *confinement) runOpened(ctx context.Context, p *program, path string, e Event, change func(*prepared) error) Result {
	if change == nil {
		if s := c.spare.take(p); s != nil {
			result, again := s.run(ctx, p, path, e, nil)
			if !again || ctx.Err() != nil {
				return result
			}
			c.logger.Debug("spare was of no use", "program", p.path, "err", result.Err)
		}
	}
	s, err := c.newShim()
	if err != nil {
		return notRun(err)
	}
	result, _ := s.run(ctx, p, path, e, change)
	return result
}

// prepared is a run of which no job has been sent.
type prepared struct {
	*shim
	job     *job
	program *program
	probe   *os.File // rehearsals only: what runs in the program's place
	stdin   []byte
}

// run runs a program in this shim, which is at its end then. again says that nothing
// of the program has run or ever will, for a reason that may be this shim's own.
func (s *shim) run(ctx context.Context, p *program, path string, e Event, change func(*prepared) error) (result Result, again bool) {
	defer s.end()
	run, err := s.prepare(p, path, e)
	if err == nil && change != nil {
		err = change(run)
	}
	if err == nil && s.pid == 0 {
		err = s.start(run.executed())
	}
	if err != nil {
		return notRun(err), s.view != nil
	}
	result, again = run.supervise(ctx)
	result.spare = s.view != nil
	return result, again
}

func (s *shim) prepare(p *program, path string, e Event) (*prepared, error) {
	env, err := environmentFor(s.c.settings.Input, e, s.dir.work)
	if err != nil {
		return nil, err
	}
	stdin, err := inputFor(s.c.settings.Input, e)
	if err != nil {
		return nil, err
	}
	argv, err := s.dir.stage(p, path)
	if err != nil {
		return nil, err
	}
	others, err := s.c.othersOf(s.pid)
	if err != nil {
		return nil, fmt.Errorf("counting processes: %w", err)
	}
	job := &job{cage: s.cage, answers: e.Kind == KindQuery, Program: path, Argv: argv, Env: env, Others: others}
	return &prepared{shim: s, job: job, program: p, stdin: stdin}, nil
}

// executed is what the kernel will execute.
func (r *prepared) executed() *os.File {
	if r.probe != nil {
		return r.probe
	}
	return r.program.executed()
}

// files are what comes with the job, as job.given wants them.
func (r *prepared) files() []*os.File {
	files := []*os.File{r.program.executed()}
	if r.probe != nil {
		files = append(files, r.probe)
	}
	if r.job.Script {
		files = append(files, r.program.file)
	}
	return files
}

func notRun(err error) Result {
	return Result{ExitCode: -1, Err: fmt.Errorf("not run: %w", err)}
}

// supervise sends the job, feeds the run, collects what it says and makes sure that its
// process group ends. For again see run.
func (r *prepared) supervise(ctx context.Context) (result Result, again bool) {
	pipes := r.pipes
	// A shim that is gone has said why, or says by its end that it is.
	sendErr := sendJob(pipes.hatch.ours, r.job, r.files())

	stdout, stderr := capture{answers: r.job.answers}, capture{}
	var copies sync.WaitGroup
	// Copying ends by itself or by a deadline. That says nothing about the
	// handler: it need not read its input, and its exit code is the judge
	// of its output.
	var stdoutErr, stderrErr error
	copies.Go(func() { _, stdoutErr = io.Copy(&stdout, pipes.stdout.ours) })
	copies.Go(func() { _, stderrErr = io.Copy(&stderr, pipes.stderr.ours) })
	copies.Go(func() {
		_, _ = pipes.stdin.ours.Write(r.stdin)
		pipes.stdin.ours.Close()
	})

	exited := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		select {
		case <-ctx.Done():
			killGroup(r.pid)
		case <-exited:
		}
	})
	if sendErr != nil {
		killGroup(r.pid)
	}
	status, statusErr := r.listen()
	waitErr := waitUntilExited(r.pid)
	close(exited)
	killer.Wait()
	state, reapErr := r.reap()
	end := time.Now().Add(pipeTime)
	_ = pipes.stdout.ours.SetReadDeadline(end)
	_ = pipes.stderr.ours.SetReadDeadline(end)
	_ = pipes.stdin.ours.SetWriteDeadline(time.Now())
	copies.Wait()
	outlived := errors.Is(errors.Join(stdoutErr, stderrErr), os.ErrDeadlineExceeded)
	if outlived && r.probe == nil {
		r.c.logger.Warn("a process left its handler's process group and still runs", "program", r.program.path)
	}

	result = Result{
		ExitCode: -1, Stdout: stdout.output(), Stderr: stderr.output(), outlived: outlived, answer: stdout.answer,
	}
	if err := errors.Join(statusErr, waitErr, reapErr); err != nil {
		result.Err = err
		return result, false
	}
	ready := result.conclude(ctx, status, state)
	if sendErr != nil && status == "" {
		result.Err = fmt.Errorf("not run: %w", sendErr)
	}
	return result, !ready
}

// listen returns all that the shim says. The hatch ends when the shim becomes the
// program, or dies as process 1 of the run does, and the killer sees to it that it does
// one of them in time.
func (r *prepared) listen() (string, error) {
	hatch := r.pipes.hatch.ours
	if r.view != nil {
		_ = hatch.SetReadDeadline(time.Now().Add(answerTime))
	}
	said := make([]byte, maxStatus)
	n, err := hatch.Read(said)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		killGroup(r.pid)
		err = nil
	}
	_ = hatch.SetReadDeadline(time.Time{})
	var rest []byte
	if err == nil {
		rest, err = io.ReadAll(io.LimitReader(hatch, maxStatus))
	}
	if err == io.EOF || errors.Is(err, syscall.ECONNRESET) {
		err = nil // It ended, the second without having taken its job.
	}
	return string(said[:n]) + string(rest), err
}

// conclude says how a run ended whose job was sent. It reports whether the shim has
// said that the program begins: if not, nothing of it has run.
func (r *Result) conclude(ctx context.Context, status string, wait unix.WaitStatus) bool {
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
	return ready
}
