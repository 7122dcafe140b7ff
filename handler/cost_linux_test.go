package handler

import (
	"os/exec"
	"slices"
	"testing"
	"time"
)

// BenchmarkRun compares a run with a bare start of the same program, one after
// the other, so that both meet the same machine. What both take is the median,
// process end and cleaning up included.
func BenchmarkRun(b *testing.B) {
	const program = "/bin/true"
	c := confined(b, Settings{})
	event := Event{Kind: KindUser, Name: "x"}
	var runs, bare []time.Duration
	for b.Loop() {
		start := time.Now()
		if err := exec.Command(program).Run(); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		if r := c.run(b.Context(), program, event); !r.Done() {
			b.Fatal(r.Err)
		}
		bare, runs = append(bare, middle.Sub(start)), append(runs, time.Since(middle))
	}
	median := func(list []time.Duration) float64 {
		slices.Sort(list)
		return list[len(list)/2].Seconds() * 1000
	}
	b.ReportMetric(median(runs), "run-ms")
	b.ReportMetric(median(bare), "bare-ms")
	b.ReportMetric(median(runs)-median(bare), "more-ms")
	b.ReportMetric(median(runs)/median(bare), "ratio")
}
