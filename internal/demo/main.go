// Command demo shows on one host what secgossip does: three agents in one
// cluster, a client's event that runs a handler on each of them, everybody who
// is refused, and a rotation of the gossip key.
//
// It uses the secgossip program from the outside, as an operator would, and
// checks whatever it says: if anything is otherwise it exits with 1. It takes
// away all it made, also when it fails or is stopped.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/secgossip/secgossip/internal/lab"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// longest is when a demo has hung: it takes less than ten seconds on an idle
// machine.
const longest = 3 * time.Minute

// run runs the demo and returns its exit code: 2 for usage, 1 if anything was
// not as the demo says.
func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	bin := flags.String("bin", "bin/secgossip", "the secgossip `program` to show")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil || flags.NArg() > 0 {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// Without this a reader that goes away, such as head(1), would end the demo
	// before it has tidied up. With it the write fails.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, cancel := context.WithTimeoutCause(ctx, longest, fmt.Errorf("not done after %s", longest))
	defer cancel()

	if err := show(ctx, *bin, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "demo: %v\n", err)
		return 1
	}
	return 0
}

// show makes the place, tells the story in it and tidies up.
func show(ctx context.Context, bin string, stdout, stderr io.Writer) (err error) {
	begun := time.Now()
	if bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	if _, err := os.Stat(bin); err != nil {
		return fmt.Errorf("%w (`make demo` builds it)", err)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	n := &narrator{out: stdout, fail: fail}
	f, err := newFolder(bin, grantedFile)
	if err != nil {
		return err
	}
	c := newCluster(f)
	err = tell(ctx, n, c)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // and not what came of it
	} else if err != nil {
		c.showLogs(stderr)
	}
	err = errors.Join(err, lab.StopAll(c.nodes), f.remove())
	if err != nil {
		return err
	}
	n.say("The three agents left one after another; the folder and %s are gone. %.1f seconds.", f.granted, time.Since(begun).Seconds())
	return context.Cause(ctx)
}

// tell is the story. Each step asserts what it says.
func tell(ctx context.Context, n *narrator, c *cluster) error {
	n.say("Three agents on this host, with all they have in %s.", c.Path)
	steps := []func(context.Context, *narrator, *cluster) error{
		raise, fireFirst, knockFromOutside, callWithoutRights, fireUngranted, rotate, fireAgain,
	}
	for _, step := range steps {
		if err := step(ctx, n, c); err != nil {
			return err
		}
	}
	return nil
}

// raise makes the homes and starts the agents.
func raise(ctx context.Context, n *narrator, c *cluster) error {
	if err := c.makeHomes(ctx); err != nil {
		return err
	}
	if err := c.start(ctx); err != nil {
		return err
	}
	if err := c.AwaitAlive(ctx, memo, c.nodes); err != nil {
		return err
	}
	n.step("One cluster. `init` made web-1, its keeper; `pki issue` made web-2, web-3 and the client memo,")
	n.say("who is no node and may fire memresponse and list members. All three agents see all three alive:")
	for _, node := range c.nodes {
		n.show("%s  gossip %s  rpc %s", node.Name, node.Gossip, node.RPC)
	}
	return nil
}

func fireFirst(ctx context.Context, n *narrator, c *cluster) error {
	n.step("memo fires an event: secgossip event memresponse xcxx. What the handler of each node says:")
	if err := c.fire(ctx, "memresponse", "xcxx"); err != nil {
		return err
	}
	return c.showOutputs(ctx, n)
}

func fireAgain(ctx context.Context, n *narrator, c *cluster) error {
	n.step("memo fires again, now sealed in epoch 2: secgossip event memresponse still-here")
	if err := c.fire(ctx, "memresponse", "still-here"); err != nil {
		return err
	}
	return c.showOutputs(ctx, n)
}

// epochs is what keys list says.
type epochs struct {
	Epochs []epoch `json:"epochs"`
}

type epoch struct {
	Number  uint64 `json:"number"`
	Primary bool   `json:"primary"`
	HeldBy  int    `json:"held_by"`
}

// rotate replaces epoch 1 by epoch 2.
func rotate(ctx context.Context, n *narrator, c *cluster) error {
	if err := c.awaitEpoch(ctx, epoch{Number: 1, Primary: true, HeldBy: len(c.nodes)}); err != nil {
		return err
	}
	n.step("The operator rotates the gossip key: secgossip keys rotate")
	var done struct {
		Epoch, Previous uint64
		Using           int
		Missing         []string
		Removed         bool
		Took            int64 `json:"duration_ms"`
	}
	if err := c.AskJSON(ctx, &done, keeper, c.nodes[0], "keys", "rotate"); err != nil {
		return err
	}
	if done.Epoch != 2 || done.Previous != 1 || done.Using != len(c.nodes) || len(done.Missing) > 0 || !done.Removed {
		return fmt.Errorf("rotation: got %+v, want epoch 2 after 1, in use on %d nodes, and 1 removed", done, len(c.nodes))
	}
	if err := c.awaitEpoch(ctx, epoch{Number: 2, Primary: true, HeldBy: len(c.nodes)}); err != nil {
		return err
	}
	n.show("after %d ms all %d nodes use epoch 2 and none has epoch 1; keys list shows numbers, never keys", done.Took, done.Using)
	return nil
}
