// Command bench measures agents of secgossip and of Serf beside each other: three
// of each, on this machine, by turns, encrypted both. It prints one table.
//
//	cd bench && go run . -bin ../bin/secgossip
//
// It is a module of its own, so that nothing of Serf but what the product uses is
// in the product's go.sum.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/secgossip/secgossip/internal/lab"
)

// agents is how many of each system there are.
const agents = 3

// system is a running cluster of one of the two.
type system interface {
	// ready starts one more agent, and ends it, and says how long it took until it
	// answered a call.
	ready(ctx context.Context) (time.Duration, error)
	// pid is the process that was started as an agent.
	pid(agent int) int
	// listen returns a channel of the payloads of the events that come to an agent,
	// which ends with ctx.
	listen(ctx context.Context, agent int) (<-chan string, error)
	// fire fires an event at the first agent. errBusy says that it was not taken in.
	fire(ctx context.Context, payload string) error
	// rotate brings a new key into use everywhere and takes the old one away.
	rotate(ctx context.Context) error
	// stop ends all agents.
	stop() error
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	bin := flag.String("bin", "", "the program secgossip, built")
	only := flag.String("only", "", "make this measurement alone, by its name")
	flag.Parse()
	if err := run(ctx, *bin, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin, only string) (err error) {
	if bin == "" {
		return fmt.Errorf("-bin is missing: build secgossip first, with `make build`")
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "secgossip-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	serf := filepath.Join(folder, "serf")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", serf, "github.com/hashicorp/serf/cmd/serf").CombinedOutput(); err != nil {
		return fmt.Errorf("building serf: %w: %s", err, out)
	}
	results := make(map[string][]figure)
	for name, start := range map[string]func(context.Context) (system, error){
		"secgossip": func(ctx context.Context) (system, error) { return startSecgossip(ctx, bin) },
		"serf":      func(ctx context.Context) (system, error) { return startSerf(ctx, serf, filepath.Join(folder, "logs")) },
	} {
		fmt.Fprintf(os.Stderr, "measuring %s\n", name)
		figures, err := measure(ctx, start, only)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		results[name] = figures
	}
	printTable(os.Stdout, results["secgossip"], results["serf"])
	return nil
}

func measure(ctx context.Context, start func(context.Context) (system, error), only string) (figures []figure, err error) {
	s, err := start(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if stopErr := s.stop(); err == nil {
			err = stopErr
		}
	}()
	for _, m := range measurements {
		if only != "" && m.what != only {
			continue
		}
		fmt.Fprintf(os.Stderr, "  %s\n", m.what)
		more, err := m.measure(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.what, err)
		}
		figures = append(figures, more...)
	}
	return figures, nil
}

// eventually waits for something with a deadline of its own.
func eventually(ctx context.Context, check func(context.Context) error) error {
	return lab.AwaitFor(ctx, time.Minute, check)
}
