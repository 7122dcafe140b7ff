package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// command is one run of secgossip that ends by itself.
type command struct {
	args  []string
	stdin string
}

// refusal is a command that did not exit with 0.
type refusal struct {
	args   []string
	code   int    // -1 if it was killed
	stderr string // without the last newline
}

func (r *refusal) Error() string {
	return fmt.Sprintf("secgossip %s: exit code %d: %s", strings.Join(r.args, " "), r.code, r.stderr)
}

// run runs a command and returns its standard output. The error of one that
// ended otherwise than with 0 is a *refusal.
func (c *cluster) run(ctx context.Context, what command) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.bin, what.args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(what.stdin), &stdout, &stderr
	cmd.SysProcAttr = apart()
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); ended {
		return "", &refusal{what.args, cmd.ProcessState.ExitCode(), strings.TrimSpace(stderr.String())}
	}
	return stdout.String(), err
}

// process is an agent that was started here.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and err is set
	err  error
}

// launch starts an agent that writes to a new log.
func (c *cluster) launch(log string, args ...string) (*process, error) {
	file, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close() // the agent has its own
	p := &process{cmd: exec.Command(c.bin, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = file, file
	// Handlers run in directories below TMPDIR. One of ours goes with the folder
	// even if an agent must be killed.
	p.cmd.Env = append(os.Environ(), "TMPDIR="+c.folder.in("scratch"))
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

// checkRunning reports agents that have ended by themselves.
func (c *cluster) checkRunning() error {
	for _, node := range c.nodes {
		if node.agent == nil || node.agent.exited() {
			return final{fmt.Errorf("agent %s does not run", node.name)}
		}
	}
	return nil
}

// leaveTime is how long an agent may take to leave. It is killed after that.
const leaveTime = 10 * time.Second

// stop makes the agents leave, one after another so that there is somebody to
// take leave of, and waits for them. It reports those that did not end well.
func (c *cluster) stop() error {
	var problems []error
	for i := len(c.nodes) - 1; i >= 0; i-- {
		if p := c.nodes[i].agent; p != nil {
			if err := p.stop(); err != nil {
				problems = append(problems, fmt.Errorf("agent %s: %w", c.nodes[i].name, err))
			}
		}
	}
	return errors.Join(problems...)
}

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
