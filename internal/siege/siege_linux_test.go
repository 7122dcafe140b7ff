// Package siege measures what strangers do to real agents: floods of junk and
// thousands of connections, from one host, while members and clients go on with
// their work.
//
// It is benchmarks only, because they take minutes: `make siege` runs them, and
// so does `make bench`. What is claimed and does not depend on how fast the
// machine is, they check: that nobody is called failed, that calls are answered,
// that memory stays. The rest is figures.
package siege

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/lab"
)

// program is the one that all tests start.
var program lab.Binary

func TestMain(m *testing.M) { os.Exit(program.Run(m)) }

// The first node is the keeper, and the operator in its home does what clients do.
const keeper = "web-1"

// cluster is the agents of a benchmark.
type cluster struct {
	*lab.Lab
	b     *testing.B
	nodes []*lab.Node // that have joined, or are about to
}

// newCluster makes homes for a number of nodes, and ends with the benchmark.
func newCluster(b *testing.B, size int) *cluster {
	b.Helper()
	bin, err := program.Path()
	if err != nil {
		b.Fatal(err)
	}
	l, err := lab.New(bin, "siege")
	if err != nil {
		b.Fatal(err)
	}
	c := &cluster{Lab: l, b: b}
	var made []*lab.Node
	b.Cleanup(func() {
		for _, node := range made {
			node.Kill()
		}
		if err := l.Remove(); err != nil {
			b.Error(err)
		}
	})
	c.must(c.Init(b.Context(), "siege", keeper))
	for i := range size {
		node := &lab.Node{Name: fmt.Sprintf("web-%d", i+1), Flags: []string{"--profile", "lan"}}
		made = append(made, node)
		if i > 0 {
			c.must(c.IssueNode(b.Context(), keeper, node.Name))
		}
	}
	c.nodes = made
	return c
}

// must ends the benchmark on an error, with the logs.
func (c *cluster) must(err error) {
	c.b.Helper()
	if err != nil {
		c.b.Fatalf("%v\n%s", err, c.logs())
	}
}

// logs is how each agent's log ends.
func (c *cluster) logs() string {
	var all strings.Builder
	for _, node := range c.nodes {
		fmt.Fprintf(&all, "the log of %s ends:\n  %s\n", node.Name, strings.Join(c.tail(node, 10), "\n  "))
	}
	return all.String()
}

// tail is the last lines of a node's log, none if it was never started.
func (c *cluster) tail(node *lab.Node, most int) []string {
	lines, _ := lab.ReadLines(c.Log(node.Name))
	return lines[max(0, len(lines)-most):]
}

// startAll starts the agents and waits until all see all.
func (c *cluster) startAll() {
	c.b.Helper()
	for i, node := range c.nodes {
		if i > 0 {
			node.Flags = append(node.Flags, "--retry-join", c.nodes[0].Gossip)
		}
		c.must(c.Start(c.b.Context(), node))
	}
	c.must(c.AwaitAlive(c.b.Context(), keeper, c.nodes))
}

// mark is how long the logs were, by node.
type mark map[*lab.Node]int

func (c *cluster) mark() mark {
	m := make(mark)
	for _, node := range c.nodes {
		lines, err := lab.ReadLines(c.Log(node.Name))
		c.must(err)
		m[node] = len(lines)
	}
	return m
}

// since is what a node's agent has logged since a mark. An agent that was started
// since has a new log.
func (c *cluster) since(m mark, node *lab.Node) []string {
	c.b.Helper()
	lines, err := lab.ReadLines(c.Log(node.Name))
	c.must(err)
	return lines[min(m[node], len(lines)):]
}

// failures are the log lines since a mark in which nodes other than gone are
// called failed.
func (c *cluster) failures(m mark, gone *lab.Node) (lines []string) {
	c.b.Helper()
	for _, node := range c.nodes {
		if node == gone {
			continue
		}
		for _, line := range c.since(m, node) {
			if strings.Contains(line, "event=member-failed") && (gone == nil || !strings.Contains(line, "node="+gone.Name+" ")) {
				lines = append(lines, node.Name+": "+line)
			}
		}
	}
	return lines
}

// timeToFind kills a node's agent, waits until every other agent has said that it
// failed, and starts it again. It returns how long the last of them took.
func (c *cluster) timeToFind(victim *lab.Node) time.Duration {
	c.b.Helper()
	m := c.mark()
	killed := time.Now()
	c.must(victim.Kill())
	var last time.Duration
	c.must(lab.AwaitFor(c.b.Context(), 2*time.Minute, func(context.Context) error {
		last = 0
		for _, node := range c.nodes {
			if node == victim {
				continue
			}
			at, found := failedAt(c.since(m, node), victim)
			if !found {
				return fmt.Errorf("%s has not noticed that %s is gone", node.Name, victim.Name)
			}
			last = max(last, at.Sub(killed))
		}
		return nil
	}))
	if wrong := c.failures(m, victim); len(wrong) > 0 {
		c.b.Errorf("while %s was away others were called failed: %q", victim.Name, wrong)
	}
	c.must(c.Start(c.b.Context(), victim))
	c.must(c.AwaitAlive(c.b.Context(), keeper, c.nodes))
	return last
}

// failedAt is when a log first says that a node failed. The log's own time is
// used: reading it may be slow on a busy machine.
func failedAt(lines []string, victim *lab.Node) (time.Time, bool) {
	for _, line := range lines {
		if !strings.Contains(line, "event=member-failed node="+victim.Name+" ") {
			continue
		}
		text, _, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
		if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

// median is the one in the middle.
func median(all []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(all))[len(all)/2]
}
