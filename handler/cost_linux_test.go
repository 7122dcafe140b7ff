package handler

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stampProgram is what the test binary is called when it is a program that says
// when it began.
const stampProgram = "secgossip-test-stamp"

func beStamp() {
	fmt.Print(int64(monotonic()))
	os.Exit(0)
}

// monotonic is the time of a clock that all processes of the host share.
func monotonic() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // There is always one.
	return time.Duration(now.Nano())
}

// settling is for what a run leaves to be done after it: else the bare start, which
// comes next, would be slowed down by the start of the next spare.
const settling = spareRest + 50*time.Millisecond

// BenchmarkRun compares a run with a bare start of the same program, one after the
// other, so that both meet the same machine: until the program's first line, from
// the event's being dispatched, and until everything is over, process end and
// cleaning up included. A journal that syncs is among it. All are medians.
func BenchmarkRun(b *testing.B) {
	program := filepath.Join(folder(b), stampProgram)
	write(b, program, read(b, "/proc/self/exe"), 0o755)
	results := make(chan Result, 1)
	journal, err := os.Create(filepath.Join(b.TempDir(), "journal"))
	if err != nil {
		b.Fatal(err)
	}
	defer journal.Close()
	r := launch(b, Config{
		Specs: []Spec{everyEvent(program)}, Journal: &syncing{journal}, Private: []string{folder(b)},
		OnResult: func(r Result) { results <- r },
	})
	var bareFirst, bareOver, first, over []time.Duration
	began := func(output string, since time.Duration) time.Duration {
		at, err := strconv.ParseInt(output, 10, 64)
		if err != nil {
			b.Fatalf("the program wrote %q", output)
		}
		return time.Duration(at) - since
	}
	for b.Loop() {
		time.Sleep(settling)
		start := monotonic()
		out, err := exec.Command(program).Output()
		if err != nil {
			b.Fatal(err)
		}
		bareOver = append(bareOver, monotonic()-start)
		bareFirst = append(bareFirst, began(string(out), start))

		start = monotonic()
		r.Dispatch(Event{Kind: KindUser, Name: "x", EventID: strconv.Itoa(len(first))})
		result := receive(b, results)
		if !result.Done() {
			b.Fatal(result.ExitCode, result.Err, result.Stderr)
		}
		over = append(over, monotonic()-start)
		first = append(first, began(result.Stdout.String(), start))
	}
	median := func(list []time.Duration) float64 {
		slices.Sort(list)
		return list[len(list)/2].Seconds() * 1000
	}
	b.ReportMetric(median(bareFirst), "bare-first-ms")
	b.ReportMetric(median(first), "first-ms")
	b.ReportMetric(median(first)-median(bareFirst), "more-first-ms")
	b.ReportMetric(median(bareOver), "bare-over-ms")
	b.ReportMetric(median(over), "over-ms")
	b.ReportMetric(median(over)-median(bareOver), "more-over-ms")
}

// BenchmarkRehearsal is what a handler costs at the agent's start.
func BenchmarkRehearsal(b *testing.B) {
	c := confined(b, Settings{})
	spec := everyEvent(script(b, "exit 0"))
	for b.Loop() {
		if _, err := c.rehearse(spec); err != nil {
			b.Fatal(err)
		}
	}
}

// syncing is a journal that does what the agent's does for each run.
type syncing struct{ file *os.File }

// Accept implements Journal.
func (j *syncing) Accept(key [16]byte, _, _ time.Time) (bool, error) {
	if _, err := j.file.Write(key[:]); err != nil {
		return false, err
	}
	return true, j.file.Sync()
}
