package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/secgossip/secgossip/internal/lab"
)

// narrator writes the story. When it cannot be heard any more the demo fails.
type narrator struct {
	out   io.Writer
	fail  context.CancelCauseFunc
	steps int
}

// step begins the next numbered step.
func (n *narrator) step(format string, args ...any) {
	n.steps++
	n.line(fmt.Sprintf("%d. ", n.steps), format, args)
}

// say goes on with a step, or stands alone.
func (n *narrator) say(format string, args ...any) {
	indent := "   "
	if n.steps == 0 {
		indent = ""
	}
	n.line(indent, format, args)
}

// show quotes what was observed.
func (n *narrator) show(format string, args ...any) { n.line("     ", format, args) }

func (n *narrator) line(indent, format string, args []any) {
	if _, err := fmt.Fprintf(n.out, indent+format+"\n", args...); err != nil {
		n.fail(fmt.Errorf("nobody reads on: %w", err))
	}
}

// fire makes memo fire an event that the handlers of all nodes will see.
func (c *cluster) fire(ctx context.Context, name, payload string) error {
	if _, err := c.Ask(ctx, memo, c.nodes[0], "event", "--coalesce=false", name, payload); err != nil {
		return err
	}
	c.fired = append(c.fired, payload)
	return nil
}

// showOutputs waits until every handler has written what it must, and shows what
// the last event added.
func (c *cluster) showOutputs(ctx context.Context, n *narrator) error {
	for _, node := range c.nodes {
		err := lab.Await(ctx, func(context.Context) error { return errors.Join(lab.CheckRunning(c.nodes), c.checkOutput(node)) })
		if err != nil {
			return err
		}
		n.show("%s", c.expected(node, c.fired[len(c.fired)-1]))
	}
	if err := lab.Await(ctx, func(context.Context) error { return c.checkGranted() }); err != nil {
		return err
	}
	lines, err := lab.ReadLines(c.granted)
	if err != nil {
		return err
	}
	n.say("%s, which handler.sh writes on all three: %s", c.granted, strings.Join(lines, " "))
	return nil
}

// expected is the line that the telling handler writes on a node.
func (c *cluster) expected(node *lab.Node, payload string) string {
	return fmt.Sprintf("%s: as uid %d, read %q", node.Name, c.Handlers.UID, payload)
}

// checkOutput compares a node's output with all that was fired: nothing may be
// missing, and nothing else may have run a handler.
func (c *cluster) checkOutput(node *lab.Node) error {
	got, err := lab.ReadLines(c.Output(node.Name))
	if err != nil {
		return err
	}
	var want []string
	for _, payload := range c.fired {
		want = append(want, c.expected(node, payload))
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("output of %s's handler: got %q, want %q", node.Name, got, want)
	}
	return nil
}

// checkGranted compares the file that handler.sh of three nodes writes to, in
// any order: each adds the payload and then a line of its own, which is \n as
// bash's echo prints it.
func (c *cluster) checkGranted() error {
	got, err := lab.ReadLines(c.granted)
	if err != nil {
		return err
	}
	var want []string
	for _, payload := range c.fired {
		for range c.nodes {
			want = append(want, payload, `\n`)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Errorf("%s: got, sorted, %q, want %q", c.granted, got, want)
	}
	return nil
}

// lastLines is how much of each agent's log is shown when the demo fails.
const lastLines = 15

// showLogs shows how each agent's log ends.
func (c *cluster) showLogs(out io.Writer) {
	for _, node := range c.nodes {
		lines, err := lab.ReadLines(c.Log(node.Name))
		if err != nil {
			continue // it was never started
		}
		fmt.Fprintf(out, "the log of %s ends:\n", node.Name)
		for _, line := range lines[max(0, len(lines)-lastLines):] {
			fmt.Fprintf(out, "  %s\n", line)
		}
	}
}
