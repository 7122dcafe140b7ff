package siege

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/lab"
)

const mib = 1 << 20

// usage is what a process has used.
type usage struct {
	at       time.Time
	cpu      time.Duration
	resident int64 // bytes
}

// usageOf reads the figures that Linux keeps of a process.
func usageOf(pid int) (u usage, err error) {
	u.at = time.Now()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	// The name of the program stands in parentheses and may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const user, system, pages = 11, 12, 21 // proc_pid_stat(5), without the first two
	var ticks, resident int64
	for _, i := range []int{user, system} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return u, err
		}
		ticks += n
	}
	if resident, err = strconv.ParseInt(fields[pages], 10, 64); err != nil {
		return u, err
	}
	const tick = time.Second / 100 // USER_HZ of every Linux that Go runs on
	u.cpu, u.resident = time.Duration(ticks)*tick, resident*int64(os.Getpagesize())
	return u, nil
}

// watch follows an agent from now on.
type watch struct {
	b       *testing.B
	node    *lab.Node
	lab     *lab.Lab
	before  usage
	highest int64 // resident
	log     int64 // bytes
	lines   int
	stop    chan struct{}
	done    chan struct{}
}

func (c *cluster) watch(node *lab.Node) *watch {
	c.b.Helper()
	w := &watch{b: c.b, node: node, lab: c.Lab, stop: make(chan struct{}), done: make(chan struct{})}
	var err error
	w.before, err = usageOf(node.NetworkPID())
	c.must(err)
	w.highest = w.before.resident
	w.log, w.lines = w.logged()
	go func() {
		defer close(w.done)
		often := time.NewTicker(100 * time.Millisecond)
		defer often.Stop()
		for {
			select {
			case <-w.stop:
				return
			case <-often.C:
				if now, err := usageOf(node.NetworkPID()); err == nil {
					w.highest = max(w.highest, now.resident)
				}
			}
		}
	}()
	return w
}

func (w *watch) logged() (size int64, lines int) {
	content, err := os.ReadFile(w.lab.Log(w.node.Name))
	if err != nil {
		w.b.Error(err)
	}
	return int64(len(content)), bytes.Count(content, []byte("\n"))
}

// cost is what an agent used while it was watched.
type cost struct {
	took     time.Duration
	cores    float64
	grown    int64 // resident bytes, at the most
	logBytes int64
	logLines int
}

// end ends the watch, once.
func (w *watch) end() cost {
	w.b.Helper()
	close(w.stop)
	<-w.done
	now, err := usageOf(w.node.NetworkPID())
	if err != nil {
		w.b.Fatal(err)
	}
	size, lines := w.logged()
	took := now.at.Sub(w.before.at)
	return cost{
		took:     took,
		cores:    (now.cpu - w.before.cpu).Seconds() / took.Seconds(),
		grown:    max(w.highest, now.resident) - w.before.resident,
		logBytes: size - w.log,
		logLines: lines - w.lines,
	}
}

func (c cost) String() string {
	return fmt.Sprintf("%.2f cores, memory +%.1f MiB, %d log lines with %d bytes, in %.0f s",
		c.cores, float64(c.grown)/mib, c.logLines, c.logBytes, c.took.Seconds())
}

// check holds an agent under attack to what it promises whatever the machine.
func (c cost) check(b *testing.B, what string) {
	b.Helper()
	if c.grown >= 32*mib {
		b.Errorf("%s: memory grew by %.1f MiB, want less than 32", what, float64(c.grown)/mib)
	}
	if most := int(10 * c.took.Seconds()); c.logLines > most {
		b.Errorf("%s: %d log lines, want at most 10 a second", what, c.logLines)
	}
}

// socketDrops is how many datagrams the kernel has dropped because the socket at
// a local IPv4 address was full.
func socketDrops(addr string) (uint64, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return 0, err
	}
	table, err := os.ReadFile("/proc/net/udp")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) > 2 && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", at.Port())) {
			return strconv.ParseUint(fields[len(fields)-1], 10, 64)
		}
	}
	return 0, fmt.Errorf("no socket at %s", addr)
}
