package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
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

// patience is how long a step may take that takes a fraction of a second on an
// idle machine.
const patience = 30 * time.Second

// await asks check again and again until it has nothing to complain of. It gives
// up after patience, with the last complaint, or at once with one that is final.
func await(ctx context.Context, check func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	var last error
	for {
		err := check(ctx)
		if _, hopeless := errors.AsType[final](err); err == nil || hopeless {
			return err
		}
		// A check that was cut short has nothing of its own to say.
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("still so after %s: %w", patience, last)
		case <-again.C:
		}
	}
}

// final marks a complaint that waiting does not mend.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// fire makes memo fire an event that the handlers of all nodes will see.
func (c *cluster) fire(ctx context.Context, name, payload string) error {
	if _, err := c.ask(ctx, c.memo(), c.nodes[0], "event", name, payload); err != nil {
		return err
	}
	c.fired = append(c.fired, payload)
	return nil
}

// showOutputs waits until every handler has written what it must, and shows what
// the last event added.
func (c *cluster) showOutputs(ctx context.Context, n *narrator) error {
	for _, node := range c.nodes {
		err := await(ctx, func(context.Context) error { return errors.Join(c.checkRunning(), c.checkOutput(node)) })
		if err != nil {
			return err
		}
		n.show("%s", c.expected(node, c.fired[len(c.fired)-1]))
	}
	if err := await(ctx, func(context.Context) error { return c.checkGranted() }); err != nil {
		return err
	}
	lines, err := readLines(c.folder.granted)
	if err != nil {
		return err
	}
	n.say("%s, which handler.sh writes on all three: %s", c.folder.granted, strings.Join(lines, " "))
	return nil
}

// expected is the line that the telling handler writes on a node.
func (c *cluster) expected(node *node, payload string) string {
	return fmt.Sprintf("%s: as uid %d, read %q", node.name, c.folder.handlers.uid, payload)
}

// checkOutput compares a node's output with all that was fired: nothing may be
// missing, and nothing else may have run a handler.
func (c *cluster) checkOutput(node *node) error {
	got, err := readLines(c.folder.output(node.name))
	if err != nil {
		return err
	}
	var want []string
	for _, payload := range c.fired {
		want = append(want, c.expected(node, payload))
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("output of %s's handler: got %q, want %q", node.name, got, want)
	}
	return nil
}

// checkGranted compares the file that handler.sh of three nodes writes to, in
// any order: each adds the payload and then a line of its own, which is \n as
// bash's echo prints it.
func (c *cluster) checkGranted() error {
	got, err := readLines(c.folder.granted)
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
		return fmt.Errorf("%s: got, sorted, %q, want %q", c.folder.granted, got, want)
	}
	return nil
}

func readLines(path string) ([]string, error) {
	content, err := os.ReadFile(path)
	if err != nil || len(content) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(content), "\n"), "\n"), nil
}

// lastLines is how much of each agent's log is shown when the demo fails.
const lastLines = 15

// showLogs shows how each agent's log ends.
func (c *cluster) showLogs(out io.Writer) {
	for _, node := range c.nodes {
		lines, err := readLines(c.folder.log(node.name))
		if err != nil {
			continue // it was never started
		}
		fmt.Fprintf(out, "the log of %s ends:\n", node.name)
		for _, line := range lines[max(0, len(lines)-lastLines):] {
			fmt.Fprintf(out, "  %s\n", line)
		}
	}
}
