//go:build unix

package agent

import (
	"fmt"
	"syscall"

	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/internal/metrics"
	"github.com/secgossip/secgossip/internal/rpc"
	"github.com/secgossip/secgossip/secgossip"
)

// The descriptors an agent may hold, so that no number of strangers makes it run
// out: 582 of the node, 193 of the RPC, 10 of the metrics, 17 for each handler, and 32 for the rest,
// which are stdin, stdout, stderr, the lock of the home, what the runtime has, and
// files while they are read or written. That is 817, and with 8 handlers 953 of
// the 1,024 that systems allow by default.
const (
	// A run has what its shim is told, the program and its interpreter, the lock of
	// its scratch, its cgroup, both ends of three pipes and of the hatch until it has
	// started and one end after, three that starting takes and, as a spare, the list
	// of mounts. What is checked on the way to some of them is closed by then.
	descriptorsPerHandler = 17
	otherDescriptors      = 32
)

// descriptorsNeeded is how many an agent with so many handlers may hold.
func descriptorsNeeded(handlers int) uint64 {
	return uint64(secgossip.Descriptors + rpc.Descriptors + metrics.Descriptors + descriptorsPerHandler*handlers + otherDescriptors)
}

// checkDescriptors refuses to start what could run out of descriptors later. The
// soft limit is the hard one by now, for Go raises it when a program starts, and
// gives handlers the one there was.
func checkDescriptors(handlers int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("reading the limit of open files: %w", err)
	}
	return enoughDescriptors(uint64(limit.Cur), handlers)
}

func enoughDescriptors(limit uint64, handlers int) error {
	need := descriptorsNeeded(handlers)
	if limit >= need {
		return nil
	}
	return &home.Problem{
		Err:  fmt.Errorf("the limit of open files is %d, and an agent with %d handlers needs %d", limit, handlers, need),
		Next: fmt.Sprintf("raise the hard limit: LimitNOFILE=%d in the unit of systemd, or `ulimit -n %d` as root in the shell that starts it", max(1024, need), max(1024, need)),
	}
}
