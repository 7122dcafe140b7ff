package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/internal/link"
)

// endTime is how long the network process may take to end once it was told to: it
// leaves, and closes what is open. It is killed after that.
const endTime = 60 * time.Second

// child is the network process as the runner has it.
type child struct {
	pipe   link.Pipe
	exited <-chan error // gets how it ended, once
	kill   func()
}

// Run is an agent: this process becomes its runner, starts the network process, and
// waits until a signal, a client or a problem ends them. Both write to log. reread reads
// the settings again for a reload.
func Run(at home.Home, settings Settings, reread func() (Settings, error), log io.Writer, signals <-chan os.Signal) error {
	plan, err := settings.check()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSetup, err)
	}
	if err := checkDescriptors(plan.runsAtOnce()); err != nil {
		return fmt.Errorf("%w: %w", ErrSetup, err)
	}
	who, err := chooseAccount(at, settings, plan)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSetup, err)
	}
	// The network process has the lock too: it ends with the last of both.
	lock, lockErr := lockSoon(at)
	if lockErr != nil && !errors.Is(lockErr, fs.ErrNotExist) {
		return lockErr
	}
	defer lock.Close()
	gate := &gate{to: log}
	defer gate.release("")
	// Of a home that is not there, this says what to do.
	r, err := newRunner(at, settings, plan, who, gate)
	if err != nil {
		return err
	}
	r.reread = reread
	if lockErr != nil {
		return errors.Join(lockErr, r.close())
	}
	text, err := settings.forNetwork()
	if err != nil {
		return errors.Join(err, r.close())
	}
	network, err := spawn(lock, log)
	if err != nil {
		return errors.Join(fmt.Errorf("starting the network process: %w", err), r.close())
	}
	defer trimSoon()()
	l := link.New(network.pipe, link.Runner)
	err = l.Send(&link.Order{
		Home: string(at), Settings: text, Handlers: validText(settings.handlersText(plan), link.MaxText/2),
		Switch: who.switched, UID: who.uid, GID: who.gid,
	})
	if err != nil {
		err = fmt.Errorf("%w: the settings: %w", ErrSetup, err)
	} else {
		err = r.supervise(l, gate, signals)
	}
	return errors.Join(err, r.end(l, network))
}

// dyingTime is how long a home may stay locked by the other half of an agent that was
// killed: that half is killed by then too, and the kernel is still at it.
const dyingTime = time.Second

// lockSoon locks the home, if need be when who was killed is gone.
func lockSoon(at home.Home) (*os.File, error) {
	deadline := time.Now().Add(dyingTime)
	for {
		lock, err := at.Lock()
		if err == nil || errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) {
			return lock, err
		}
		time.Sleep(dyingTime / 50)
	}
}

// supervise passes signals on until the agent has ended.
func (r *runner) supervise(l *link.Link, gate *gate, signals <-chan os.Signal) error {
	type end struct {
		final *link.Final
		err   error
	}
	served := make(chan end, 1)
	go func() {
		final, err := r.serve(l, func() { gate.release("") })
		served <- end{final, err}
	}()
	var overdue <-chan time.Time
	stops := 0
	for {
		select {
		case end := <-served:
			// However it ended: what handlers were told of has been accepted.
			if stops < 2 {
				r.drain(gate, signals)
			}
			switch {
			case end.final != nil && end.final.Problem == "":
				return nil
			case end.final != nil:
				return &ended{end.final}
			case errors.Is(end.err, io.EOF):
				return errors.New("the network process ended by itself")
			}
			return end.err
		case <-overdue:
			return errors.New("the network process did not end in time, and was killed")
		case s := <-signals:
			if s == syscall.SIGHUP {
				_, _ = fmt.Fprintln(gate, "==> Caught SIGHUP, reading settings and identity again...")
				r.askReload(bySignal) // if there is no room, others follow
				continue
			}
			if stops++; overdue == nil {
				overdue = time.After(endTime)
			}
			name, leave := "SIGINT", !r.settings.SkipLeaveOnInterrupt
			if s == syscall.SIGTERM {
				name, leave = "SIGTERM", r.settings.LeaveOnTerminate
			}
			what := "stopping"
			if leave {
				what = "leaving the cluster"
			}
			_, _ = fmt.Fprintf(gate, "==> Caught %s, %s...\n", name, what)
			if err := l.Send(&link.Stop{Leave: leave}); err != nil && !errors.Is(err, link.ErrClosed) {
				return err
			}
		}
	}
}

// drainTime is how long handlers may take for what they were told of before the agent
// stopped: its last waves, and what waited.
const drainTime = 3 * time.Second

// drain waits for handlers. A signal cuts that short.
func (r *runner) drain(log io.Writer, signals <-chan os.Signal) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if !r.handlers.Drain(ctx) && ctx.Err() == context.DeadlineExceeded {
			r.logger.Warn("handlers are stopped that did not end in time")
		}
	}()
	for {
		select {
		case <-done:
			return
		case s := <-signals:
			if s == syscall.SIGHUP {
				continue // there is nothing left to reload
			}
			_, _ = fmt.Fprintln(log, "==> Caught a second signal, stopping handlers at once...")
			cancel()
		}
	}
}

// end ends both the handlers that run and the network process, whatever state that is
// in. It has said its last word, or will never.
func (r *runner) end(l *link.Link, network *child) error {
	problems := []error{r.close()}
	_ = l.Close() // the other end may be gone: then there is nobody to be told anything
	select {
	case <-network.exited:
	case <-time.After(closeTimeout):
		network.kill()
		select {
		case <-network.exited:
		case <-time.After(closeTimeout):
			problems = append(problems, errors.New("the network process could not be killed"))
		}
	}
	return errors.Join(problems...)
}
