package handler

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// The limits of every process of a handler beside those that settings give. They
// are per process, except that on processes, which the kernel counts per user.
const (
	// maxOpenFiles is 0 to 2 and what a script and its children open.
	maxOpenFiles = 64
	// maxAddressSpace bounds shared memory too, which the limit on memory
	// (RLIMIT_DATA) does not count. It cannot be as low: Go programs and Java
	// reserve more than a GiB of addresses that they never use.
	maxAddressSpace = 4 << 30
	// maxScratch bounds a scratch in memory: beside the memory of a process it is little.
	maxScratch = 64 << 20
)

// setEarlyLimits sets what the shim itself can live with. cpuSeconds is the
// time limit of a run: one process that computes all the time never reaches
// it, but one that left its process group, and so outlives the run, does.
func setEarlyLimits(cpuSeconds, fileSize uint64) error {
	for _, limit := range []struct {
		name     string
		resource int
		most     uint64
	}{
		{"core", unix.RLIMIT_CORE, 0},
		{"file size", unix.RLIMIT_FSIZE, fileSize},
		{"cpu", unix.RLIMIT_CPU, cpuSeconds},
	} {
		if err := lower(limit.resource, limit.most); err != nil {
			return fmt.Errorf("limit on %s: %w", limit.name, err)
		}
	}
	return nil
}

// setLastLimits sets what could kill the shim: the Go runtime maps memory and
// starts threads as it likes, and whatever was left open before the agent takes
// up descriptors until the program is executed. Nothing but that may follow.
//
// The kernel counts processes for all of a user, so those that are there already
// come on top: on a host where others run as nobody too, a handler could start
// nothing. When the agent's own user runs the handlers there is no limit: its
// other processes come and go.
func setLastLimits(job *job) error {
	if err := lower(unix.RLIMIT_NOFILE, maxOpenFiles); err != nil {
		return fmt.Errorf("limit on open files: %w", err)
	}
	if job.Switched || job.CountOwn {
		own, err := os.ReadDir("/proc/self/task") // Those of process 1 are counted too.
		if err != nil {
			return fmt.Errorf("counting processes: %w", err)
		}
		if err := lower(unix.RLIMIT_NPROC, job.Others+uint64(len(own))+job.Permissions.Processes); err != nil {
			return fmt.Errorf("limit on processes: %w", err)
		}
	}
	if raceDetector {
		return nil
	}
	if err := lower(unix.RLIMIT_DATA, job.Permissions.Memory); err != nil {
		return fmt.Errorf("limit on memory: %w", err)
	}
	if err := lower(unix.RLIMIT_AS, max(maxAddressSpace, 2*job.Permissions.Memory)); err != nil {
		return fmt.Errorf("limit on addresses: %w", err)
	}
	return nil
}

// othersOf counts what is held against the limit on processes before the program
// starts, without the shim. It is the agent that counts: a run sees its own alone.
func (c *confinement) othersOf(shim int) (uint64, error) {
	if !c.account.switched {
		return 0, nil
	}
	return threadsOf(uint32(c.account.uid), shim)
}

// threadsOf counts the threads of a user, which is what RLIMIT_NPROC limits, but for
// those of one process. One that ends meanwhile is no error.
func threadsOf(uid uint32, except int) (uint64, error) {
	// By its descriptor, and most by one part of a name: a host may have a great many.
	proc, err := os.Open("/proc")
	if err != nil {
		return 0, err
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return 0, err
	}
	var count uint64
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err != nil || pid == except {
			continue
		}
		var stat unix.Stat_t
		if unix.Fstatat(int(proc.Fd()), name, &stat, 0) != nil || stat.Uid != uid {
			continue
		}
		if unix.Fstatat(int(proc.Fd()), name+"/task", &stat, 0) != nil {
			continue
		}
		count += max(uint64(stat.Nlink), 3) - 2 // a folder for each thread, and two links of its own
	}
	return count, nil
}

// lower sets a limit, soft and hard, unless a stricter one holds already.
func lower(resource int, most uint64) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(resource, &now); err != nil {
		return err
	}
	most = min(most, now.Max)
	return unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most})
}
