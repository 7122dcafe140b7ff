package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/internal/link"
)

func TestMain(m *testing.M) {
	Become()
	probe()
	os.Exit(m.Run())
}

// whole is an agent with both of its parts in this process, to look inside.
type whole struct {
	*Agent
	runner *runner
	link   *link.Link // the network process's end
	served chan struct{}
	lock   *os.File
}

// Start is what Run does up to the banner, in one process.
func Start(at home.Home, settings Settings, log io.Writer) (_ *whole, err error) {
	plan, err := settings.check()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	w := &whole{served: make(chan struct{})}
	lock, lockErr := at.Lock()
	if lockErr != nil && lock == nil && !errors.Is(lockErr, os.ErrNotExist) {
		return nil, lockErr
	}
	w.lock = lock
	if w.runner, err = newRunner(at, settings, plan, account{}, io.Discard); err != nil {
		lock.Close()
		return nil, err
	}
	ours, theirs := net.Pipe()
	runnerEnd := link.New(ours, link.Runner)
	w.link = link.New(theirs, link.Network)
	go func() {
		defer close(w.served)
		_, _ = w.runner.serve(runnerEnd, func() {})
		_ = runnerEnd.Close()
	}()
	remote := newRemote(w.link)
	incoming := receive(w.link, func() {})
	go func() {
		for range sorted(incoming, remote) {
		}
	}()
	if w.Agent, err = startAgent(at, settings, remote, nil, settings.handlersText(plan), log); err != nil {
		return nil, errors.Join(err, w.end())
	}
	return w, nil
}

func (w *whole) Close() error { return errors.Join(w.Agent.Close(), w.end()) }

func (w *whole) end() error {
	_ = w.link.Close() // ends the other one as well
	<-w.served
	return errors.Join(w.runner.close(), w.lock.Close())
}
