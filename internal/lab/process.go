package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// process is an agent that was started here.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and err is set
	err  error
}

// launch starts an agent that writes to a new log.
func (l *Lab) launch(log string, argv ...string) (*process, error) {
	file, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close() // the agent has its own
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = file, file
	// Handlers run in directories below TMPDIR. One of ours goes with the folder
	// even if an agent must be killed.
	p.cmd.Env = append(os.Environ(), "TMPDIR="+l.In("scratch"))
	p.cmd.SysProcAttr = apart()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// leaveTime is how long an agent may take to leave. It is killed after that.
const leaveTime = 10 * time.Second

// stop interrupts the agent, waits for its end and kills it if that does not come.
func (p *process) stop() error {
	if p.exited() {
		return fmt.Errorf("ended by itself: %s", p.cmd.ProcessState)
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return errors.Join(err, p.kill())
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(leaveTime):
		return errors.Join(errors.New("did not leave in time and was killed"), p.kill())
	}
}

func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	if err == nil {
		<-p.done
	}
	return err
}
