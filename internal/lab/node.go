package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Node is one agent, started or not.
type Node struct {
	Name string // of the node and of its home
	// Gossip and RPC are where it listens, HOST:PORT. Start chooses free ports of
	// loopback if they are empty.
	Gossip, RPC string
	Flags       []string // of the command agent, beside those for its addresses
	// Prefix is what starts the program, for the agent and for whoever asks it:
	// nothing, or such as [Namespace.Prefix]. It must become the program, as
	// `ip netns exec` does, and not wait for it.
	Prefix []string

	agent *process
}

// Start starts a node's agent and waits until it runs. Its log is a new one.
func (l *Lab) Start(ctx context.Context, n *Node) error {
	if n.Running() {
		return fmt.Errorf("agent %s runs already", n.Name)
	}
	if n.Gossip != "" && n.RPC != "" {
		return l.startAt(ctx, n, n.Gossip, n.RPC)
	}
	// Between choosing ports and listening there somebody else may take one.
	const attempts = 5
	for attempt := 1; ; attempt++ {
		gossip, rpc, err := freePorts()
		if err != nil {
			return err
		}
		err = l.startAt(ctx, n, gossip, rpc)
		if !errors.Is(err, errPortTaken) || attempt == attempts {
			return err
		}
	}
}

func (l *Lab) startAt(ctx context.Context, n *Node, gossip, rpc string) (err error) {
	argv := slices.Concat(n.Prefix, []string{
		l.Bin, "--home", l.In(n.Name), "--rpc-addr", rpc, "agent", "--bind", gossip,
	}, n.Flags)
	log := l.Log(n.Name)
	if n.agent, err = l.launch(log, argv...); err != nil {
		return err
	}
	err = Await(ctx, func(context.Context) error {
		exited := n.agent.exited()
		content, err := os.ReadFile(log)
		switch {
		case err != nil:
			return err
		case exited && strings.Contains(string(content), "already in use"):
			return Final{errPortTaken}
		case exited:
			return Final{fmt.Errorf("agent %s ended", n.Name)}
		case !strings.Contains(string(content), "agent running!"):
			return fmt.Errorf("agent %s has not said that it runs", n.Name)
		}
		return nil
	})
	if !errors.Is(err, errPortTaken) {
		n.Gossip, n.RPC = gossip, rpc
	}
	return err
}

var errPortTaken = errors.New("somebody else took the port")

// freePorts finds two addresses on loopback that nobody listens on.
func freePorts() (gossip, rpc string, err error) {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer first.Close()
	second, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer second.Close()
	// If one is taken for UDP, the agent will not start and says so.
	return first.Addr().String(), second.Addr().String(), nil
}

// Running is whether the agent was started and has not ended.
func (n *Node) Running() bool { return n.agent != nil && !n.agent.exited() }

// PID is the process id of the agent's runner; the agent must have been started.
func (n *Node) PID() int { return n.agent.cmd.Process.Pid }

// NetworkPID is the process id of the agent's network process, 0 if it has none.
func (n *Node) NetworkPID() int {
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", n.PID()))
	for _, task := range tasks {
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", n.PID(), task.Name()))
		for _, child := range strings.Fields(string(children)) {
			argv, _ := os.ReadFile("/proc/" + child + "/cmdline")
			if pid, err := strconv.Atoi(child); err == nil && string(argv) == "secgossip-network\x00" {
				return pid
			}
		}
	}
	return 0
}

// Gone reports whether a process has ended. One that nobody has waited for has.
func Gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	return err != nil || strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

// Stop makes the agent leave the cluster, waits for its end and kills it if that
// does not come. An agent that was never started, or was killed here, is stopped;
// one that ended by itself is an error.
func (n *Node) Stop() error {
	if n.agent == nil {
		return nil
	}
	p := n.agent
	n.agent = nil
	if err := p.stop(); err != nil {
		return fmt.Errorf("agent %s: %w", n.Name, err)
	}
	return nil
}

// Kill ends the agent at once, as a power cut would, and waits for its end.
func (n *Node) Kill() error {
	if n.agent == nil {
		return nil
	}
	p := n.agent
	n.agent = nil
	return p.kill()
}

// StopAll stops nodes one after another from the last, so that there is somebody
// to take leave of. It reports those that did not end well.
func StopAll(nodes []*Node) error {
	var problems []error
	for _, node := range slices.Backward(nodes) {
		problems = append(problems, node.Stop())
	}
	return errors.Join(problems...)
}

// CheckRunning reports agents that have ended by themselves.
func CheckRunning(nodes []*Node) error {
	for _, node := range nodes {
		if !node.Running() {
			return Final{fmt.Errorf("agent %s does not run", node.Name)}
		}
	}
	return nil
}
