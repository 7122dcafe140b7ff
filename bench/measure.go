package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// figure is one number of one system.
type figure struct {
	what  string
	unit  string
	value float64
}

type measurement struct {
	what    string
	measure func(context.Context, system) ([]figure, error)
}

// basics are made one after another, of one system and then of the other.
var basics = []measurement{
	{"idle", measureIdle},
	{"start", measureStart},
	{"latency of an event", measureLatency},
	{"1,000 events at 100/s", func(ctx context.Context, s system) ([]figure, error) {
		return measureLoss(ctx, s, "1,000 of 64 B at 100/s", 1000, 64, 10*time.Millisecond)
	}},
	{"470 B at 100/s", func(ctx context.Context, s system) ([]figure, error) {
		return measureLoss(ctx, s, "1,000 of 470 B at 100/s", 1000, 470, 10*time.Millisecond)
	}},
	{"rotation", measureRotation},
	{"flood", func(ctx context.Context, s system) ([]figure, error) {
		return measureLoss(ctx, s, "20,000 of 64 B, one client", 20_000, 64, 0)
	}},
}

// errBusy says that an event was refused because there are too many.
var errBusy = errors.New("busy")

// idleTime is how long agents are left alone for their memory and their use of
// processors.
const idleTime = 15 * time.Second

func measureIdle(ctx context.Context, s system) ([]figure, error) {
	if err := wait(ctx, idleTime/3); err != nil {
		return nil, err
	}
	before, _, _, err := usage(s)
	if err != nil {
		return nil, err
	}
	if err := wait(ctx, idleTime); err != nil {
		return nil, err
	}
	after, memory, share, err := usage(s)
	if err != nil {
		return nil, err
	}
	return []figure{
		{"resident memory of an idle agent", "MiB", memory / float64(s.size()) / (1 << 20)},
		{"its share of it (Pss)", "MiB", share / float64(s.size()) / (1 << 20)},
		{"processor of an idle agent", "ms/s", float64((after - before).Milliseconds()) / float64(s.size()) / idleTime.Seconds()},
	}, nil
}

// starts is how often a start is measured.
const starts = 5

func measureStart(ctx context.Context, s system) ([]figure, error) {
	var took []time.Duration
	for range starts {
		d, err := s.ready(ctx)
		if err != nil {
			return nil, err
		}
		took = append(took, d)
	}
	return []figure{{"start until a call is answered, median", "ms", milliseconds(percentile(took, 50))}}, nil
}

// shots is how many events are fired one by one.
const shots = 100

func measureLatency(ctx context.Context, s system) ([]figure, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ears, err := listenAll(ctx, s)
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	for i := range shots {
		payload := fmt.Sprintf("latency-%d", i)
		begun := time.Now()
		if err := s.fire(ctx, payload); err != nil {
			return nil, err
		}
		for agent, ear := range ears {
			if err := hear(ctx, ear, payload); err != nil {
				return nil, fmt.Errorf("event %d at agent %d: %w", i, agent, err)
			}
		}
		took = append(took, time.Since(begun))
	}
	return []figure{
		{"one event at all agents, median", "ms", milliseconds(percentile(took, 50))},
		{"one event at all agents, p99", "ms", milliseconds(percentile(took, 99))},
	}, nil
}

// hear waits for one payload. Others may come in between: late ones.
func hear(ctx context.Context, ear <-chan string, payload string) error {
	deadline := time.After(30 * time.Second)
	for {
		select {
		case got, ok := <-ear:
			if !ok {
				return errors.New("the stream ended")
			}
			if got == payload {
				return nil
			}
		case <-deadline:
			return errors.New("it has not come within 30 s")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// quiet is how long nothing more has to come before what is missing counts as
// lost: longer than one exchange of all that Serf has between two of its members.
const quiet = 35 * time.Second

// measureLoss fires count events of a size, one each interval or as fast as one
// client can, and counts what the other agents get of those that were taken in.
func measureLoss(ctx context.Context, s system, what string, count, size int, interval time.Duration) ([]figure, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ears, err := listenAll(ctx, s)
	if err != nil {
		return nil, err
	}
	fired := make(map[string]bool)
	begun := time.Now()
	next := begun
	for i := range count {
		payload := fmt.Sprintf("%s-%d-", what, i)
		payload += strings.Repeat("x", max(0, size-len(payload)))
		switch err := s.fire(ctx, payload); {
		case err == nil:
			fired[payload] = true
		case !errors.Is(err, errBusy):
			return nil, err
		}
		next = next.Add(interval)
		if err := wait(ctx, time.Until(next)); err != nil {
			return nil, err
		}
	}
	took := time.Since(begun)
	var lost, doubled int
	for _, ear := range ears[1:] {
		l, d, err := missing(ctx, ear, fired)
		if err != nil {
			return nil, err
		}
		lost, doubled = lost+l, doubled+d
	}
	others := float64(len(fired) * (s.size() - 1))
	figures := []figure{{what + ": lost on the other agents", "%", 100 * float64(lost) / others}}
	if doubled > 0 {
		figures = append(figures, figure{what + ": come twice", "%", 100 * float64(doubled) / others})
	}
	if interval == 0 {
		figures = append(figures, figure{what + ": taken in", "/s", float64(len(fired)) / took.Seconds()})
	}
	return figures, nil
}

// missing counts which of fired did not come, and which more than once.
func missing(ctx context.Context, ear <-chan string, fired map[string]bool) (lost, doubled int, err error) {
	heard := make(map[string]bool)
	for len(heard) < len(fired) {
		select {
		case payload, ok := <-ear:
			switch {
			case !ok:
				return 0, 0, errors.New("the stream ended")
			case heard[payload]:
				doubled++
			case fired[payload]:
				heard[payload] = true
			}
		case <-time.After(quiet):
			return len(fired) - len(heard), doubled, nil
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
	}
	return 0, doubled, nil
}

// rotations is how often keys are rotated.
const rotations = 5

func measureRotation(ctx context.Context, s system) ([]figure, error) {
	var took []time.Duration
	for range rotations {
		begun := time.Now()
		if err := s.rotate(ctx); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begun))
	}
	return []figure{{"rotation of the key: new, in use, old one gone, median", "ms", milliseconds(percentile(took, 50))}}, nil
}

func listenAll(ctx context.Context, s system) (ears []<-chan string, err error) {
	for agent := range s.size() {
		ear, err := s.listen(ctx, agent)
		if err != nil {
			return nil, fmt.Errorf("listening at agent %d: %w", agent, err)
		}
		ears = append(ears, ear)
	}
	return ears, nil
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func percentile(all []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[(len(sorted)-1)*p/100]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// usage is the processor time and the resident memory of all agents, each with the
// processes that it has started, and their share of that memory: a page that several
// processes have, such as one of the program, is divided among them.
func usage(s system) (busy time.Duration, memory, share float64, err error) {
	for agent := range s.size() {
		for _, pid := range family(s.pid(agent)) {
			b, m, err := usageOf(pid)
			if err != nil {
				return 0, 0, 0, err
			}
			p, err := shareOf(pid)
			if err != nil {
				return 0, 0, 0, err
			}
			busy, memory, share = busy+b, memory+m, share+p
		}
	}
	return busy, memory, share, nil
}

// shareOf is the Pss of a process, in bytes. Of one that is closed to its own user, as
// ours that listens is, the kernel tells root alone.
func shareOf(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, fmt.Errorf("%w; run this as root", err)
	}
	for line := range strings.Lines(string(text)) {
		if number, ok := strings.CutPrefix(line, "Pss:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(number)[0], 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("the kernel does not tell the share of process %d", pid)
}

// ticks is how many of the kernel's units of processor time a second has: 100 on
// every architecture that Go knows.
const ticks = 100

func usageOf(pid int) (busy time.Duration, memory float64, err error) {
	fields, err := statOf(pid)
	if err != nil {
		return 0, 0, err
	}
	var numbers [3]float64
	for i, field := range []int{11, 12, 21} { // user, system, resident pages; see proc_pid_stat(5)
		if numbers[i], err = strconv.ParseFloat(fields[field], 64); err != nil {
			return 0, 0, err
		}
	}
	busy = time.Duration((numbers[0] + numbers[1]) / ticks * float64(time.Second))
	return busy, numbers[2] * float64(os.Getpagesize()), nil
}

// statOf returns what follows the name in /proc/PID/stat.
func statOf(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:])), nil
}

// family is a process and those it has started.
func family(pid int) []int {
	all := []int{pid}
	folders, _ := filepath.Glob("/proc/[0-9]*")
	for _, folder := range folders {
		child, _ := strconv.Atoi(filepath.Base(folder))
		if fields, err := statOf(child); err == nil && fields[1] == strconv.Itoa(pid) {
			all = append(all, family(child)...)
		}
	}
	return all
}

// printTable shows both systems and their ratios.
func printTable(w io.Writer, ours, theirs []figure) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\tsecgossip\tSerf\tratio")
	for _, f := range ours {
		i := slices.IndexFunc(theirs, func(g figure) bool { return g.what == f.what })
		if i < 0 {
			fmt.Fprintf(table, "%s\t%.4g %s\t\t\n", f.what, f.value, f.unit)
			continue
		}
		ratio := "-"
		if theirs[i].value != 0 {
			ratio = fmt.Sprintf("%.2f", f.value/theirs[i].value)
		}
		fmt.Fprintf(table, "%s\t%.4g %s\t%.4g %s\t%s\n", f.what, f.value, f.unit, theirs[i].value, f.unit, ratio)
	}
	for _, f := range theirs {
		if !slices.ContainsFunc(ours, func(g figure) bool { return g.what == f.what }) {
			fmt.Fprintf(table, "%s\t\t%.4g %s\t\n", f.what, f.value, f.unit)
		}
	}
	table.Flush()
}
