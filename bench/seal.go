package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// measureSealing runs the benchmarks of packets, which measure both in one run and by
// turns. What memberlist opens it has found out to be a message before; so both of ours
// are held against what it seals.
func measureSealing(ctx context.Context, ours, theirs *[]figure) error {
	bench := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "(Seal|Open)AgainstOthers/memberlist", "-cpu", "1", "./secgossip/internal/seal")
	bench.Dir = ".."
	out, err := bench.CombinedOutput()
	if err != nil {
		return fmt.Errorf("benchmarks of packets: %w: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		for i, unit := range fields {
			value := 0.0
			if i > 0 {
				value, _ = strconv.ParseFloat(fields[i-1], 64)
			}
			switch {
			case unit == "ns/seal":
				*ours = append(*ours, figure{"to seal a packet of 1,182 bytes", "ns", value})
			case unit == "ns/open":
				*ours = append(*ours, figure{"to open one; memberlist: to seal", "ns", value})
			case unit == "ns/memberlist" && strings.Contains(line, "BenchmarkSeal"):
				*theirs = append(*theirs, figure{"to seal a packet of 1,182 bytes", "ns", value})
			case unit == "ns/memberlist":
				*theirs = append(*theirs, figure{"to open one; memberlist: to seal", "ns", value})
			}
		}
	}
	return nil
}
