// Command bench measures agents of secgossip and of Serf beside each other, on this
// machine, by turns, encrypted both. It prints one table.
//
//	cd bench && go run . -bin ../bin/secgossip
//	cd bench && go run . -bin ../bin/secgossip -parts kills,seal
//
// It is a module of its own, so that nothing of Serf but what the product uses is
// in the product's go.sum.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/secgossip/secgossip/internal/lab"
)

// system is a running cluster of one of the two.
type system interface {
	// size is how many agents there are.
	size() int
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
	// alive counts the members that an agent does not take for failed or gone.
	alive(ctx context.Context, agent int) (int, error)
	// kill ends an agent as a power cut does, and revive starts it again.
	kill(agent int) error
	revive(ctx context.Context, agent int) error
	// notes is where the handler of an agent writes payloads, a line each.
	notes(agent int) string
	// stop ends all agents.
	stop() error
}

// setup is a cluster to be started.
type setup struct {
	agents   int
	handlers bool // each agent has a handler for the events that fire fires
}

// noteScript is the handler: it reads a payload and writes it down. It is what both
// systems run, and the shell does it without a second program.
func noteScript(to string) string {
	return "#!/bin/sh\nread -r payload\necho \"$payload\" >>" + to + "\n"
}

// A part can be run alone: -parts.
type part struct {
	name     string
	clusters []cluster
}

// A cluster is started of one system and then of the other, for what is measured there
// one after another.
type cluster struct {
	setup
	measurements []measurement
}

var parts = []part{
	{"basics", []cluster{{setup{agents: 3}, basics}}},
	{"handlers", []cluster{
		{setup{3, true}, []measurement{{"events to handlers", measureHandlers}}},
		{setup{30, true}, []measurement{{"events to handlers", measureHandlers}}},
	}},
	{"kills", []cluster{{setup{agents: 10}, []measurement{{"kill -9", measureKills}}}}},
	{"seal", nil}, // no agents: see measureSealing
}

func partNames() (names []string) {
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	bin := flag.String("bin", "", "the program secgossip, built")
	chosen := flag.String("parts", strings.Join(partNames(), ","), "what is measured")
	flag.Parse()
	if err := run(ctx, *bin, strings.Split(*chosen, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, chosen []string) (err error) {
	if bin == "" {
		return errors.New("-bin is missing: build secgossip first, with `make build`")
	}
	for _, name := range chosen {
		if !slices.Contains(partNames(), name) {
			return fmt.Errorf("-parts: there is no %q; there are %s", name, strings.Join(partNames(), ", "))
		}
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
	before := load()
	var ours, theirs []figure
	for _, p := range parts {
		if !slices.Contains(chosen, p.name) {
			continue
		}
		for i, c := range p.clusters {
			for name, side := range map[string]struct {
				figures *[]figure
				start   func() (system, error)
			}{
				"secgossip": {&ours, func() (system, error) { return startSecgossip(ctx, bin, c.setup) }},
				"serf": {&theirs, func() (system, error) {
					return startSerf(ctx, serf, filepath.Join(folder, fmt.Sprintf("%s-%d", p.name, i)), c.setup)
				}},
			} {
				fmt.Fprintf(os.Stderr, "measuring %d agents of %s\n", c.agents, name)
				figures, err := measure(ctx, side.start, c.measurements)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				*side.figures = append(*side.figures, figures...)
			}
		}
		if p.name == "seal" {
			fmt.Fprintln(os.Stderr, "measuring sealing")
			if err := measureSealing(ctx, &ours, &theirs); err != nil {
				return err
			}
		}
	}
	printTable(os.Stdout, ours, theirs)
	fmt.Printf("load before %s, after %s\n", before, load())
	return nil
}

// load is what else this machine does: its load over the last 1, 5 and 15 minutes.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if fields := strings.Fields(string(text)); err == nil && len(fields) >= 3 {
		return strings.Join(fields[:3], " ")
	}
	return "unknown"
}

func measure(ctx context.Context, start func() (system, error), measurements []measurement) (figures []figure, err error) {
	s, err := start()
	if err != nil {
		return nil, err
	}
	defer func() {
		if stopErr := s.stop(); err == nil {
			err = stopErr
		}
	}()
	if err := awaitAll(ctx, s); err != nil {
		return nil, err
	}
	for _, m := range measurements {
		fmt.Fprintf(os.Stderr, "  %s\n", m.what)
		more, err := m.measure(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.what, err)
		}
		figures = append(figures, more...)
	}
	return figures, nil
}

// awaitAll waits until every agent sees all of them.
func awaitAll(ctx context.Context, s system) error {
	return eventually(ctx, func(ctx context.Context) error {
		for agent := range s.size() {
			if n, err := s.alive(ctx, agent); err != nil || n != s.size() {
				return fmt.Errorf("agent %d sees %d of %d (%w)", agent, n, s.size(), err)
			}
		}
		return nil
	})
}

// eventually waits for something with a deadline of its own.
func eventually(ctx context.Context, check func(context.Context) error) error {
	return lab.AwaitFor(ctx, time.Minute, check)
}
