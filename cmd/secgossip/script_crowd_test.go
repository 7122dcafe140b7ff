//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// crowd is strangers that hold connections until the script ends.
type crowd struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func (c *crowd) end() {
	c.cancel()
	c.running.Wait()
}

// crowdSize is how many connections a crowd wants to each address. It has fewer
// where we may not open so many.
const crowdSize = 5000

// said is what strangers begin with: nothing, the half of something, and what
// claims that 20 MB follow.
var said = []string{
	"",
	"half a knock....",
	"\x16\x03\x01\x02\x00\x01\x00\x01",
	"\x16\x03\x01\x40\x00\x01\xff\xff\xff",
	"\x06\x01\x31\x2d\x00",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n",
}

func cmdCrowd(ts *testscript.TestScript, args []string) {
	usage(ts, len(args) > 0, "crowd ADDRESS...")
	var limit syscall.Rlimit
	ts.Check(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	size := min(crowdSize, (int(min(limit.Cur, 1<<20))-500)/len(args))
	ts.Logf("%d strangers at each of %d addresses", size, len(args))
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{cancel: cancel}
	worldOf(ts).crowds = append(worldOf(ts).crowds, c)
	var come sync.WaitGroup
	dialling := make(chan struct{}, 64)
	for _, address := range args {
		for i := range size {
			come.Add(1)
			c.running.Go(func() {
				dialling <- struct{}{}
				conn := crowdDial(ctx, i, address)
				<-dialling
				come.Done()
				for { // whoever is closed comes back
					if conn != nil {
						stop := context.AfterFunc(ctx, func() { conn.Close() })
						_, _ = io.Copy(io.Discard, conn)
						stop()
						conn.Close()
					}
					select {
					case <-ctx.Done():
						return
					case <-time.After(10 * time.Second):
						conn = crowdDial(ctx, i, address)
					}
				}
			})
		}
	}
	come.Wait()
}

// crowdDial connects as the stranger with this number: one in ten from the address
// that everybody else in the script has.
func crowdDial(ctx context.Context, i int, address string) net.Conn {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	if i%10 != 0 {
		dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+i/200), byte(1+i%200))}
	}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil
	}
	_, _ = io.WriteString(conn, said[i%len(said)])
	return conn
}

func cmdFiles(ts *testscript.TestScript, args []string) {
	usage(ts, len(args) == 2, "files NAME LIMIT")
	for _, pid := range processesOf(ts, worldOf(ts).daemon(ts, args[0])) {
		cmd := exec.Command("prlimit", "--pid", strconv.Itoa(pid), "--nofile="+args[1]+":"+args[1])
		if os.Geteuid() == 0 { // whom it belongs to may do it without any capability
			user := uint32(numberOf(ts, pid, "Uid"))
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			ts.Fatalf("prlimit: %v: %s", err, out)
		}
	}
}

// processesOf are a daemon's own process and its network process.
func processesOf(ts *testscript.TestScript, d *daemon) []int {
	own := d.cmd.Process.Pid
	all := []int{own}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", own))
	ts.Check(err)
	for _, task := range tasks {
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", own, task.Name()))
		for _, child := range strings.Fields(string(children)) {
			args, _ := os.ReadFile("/proc/" + child + "/cmdline")
			if pid, err := strconv.Atoi(child); err == nil && string(args) == "secgossip-network\x00" {
				all = append(all, pid)
			}
		}
	}
	if len(all) != 2 {
		ts.Fatalf("the processes of the daemon are %d, want two", all)
	}
	return all
}

func cmdMemory(ts *testscript.TestScript, args []string) {
	usage(ts, len(args) == 1 || len(args) == 2, "memory NAME [MIB]")
	w := worldOf(ts)
	d := w.daemon(ts, args[0])
	now, most := memoryOf(ts, d, "VmRSS"), memoryOf(ts, d, "VmHWM")
	if len(args) == 1 {
		d.memory = now
		return
	}
	limit, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Logf("%s had %d KiB, has %d KiB and had %d KiB at most; %s of processor time", args[0], d.memory, now, most, cpuOf(ts, d))
	if grown := most - d.memory; grown >= limit<<10 && !raceDetector {
		ts.Fatalf("%s grew by %d KiB, want less than %d MiB", args[0], grown, limit)
	}
}

// memoryOf is that of both processes.
func memoryOf(ts *testscript.TestScript, d *daemon, what string) (sum int) {
	for _, pid := range processesOf(ts, d) {
		sum += numberOf(ts, pid, what)
	}
	return sum
}

// numberOf is the first number in a line of a process's status.
func numberOf(ts *testscript.TestScript, pid int, what string) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	ts.Check(err)
	found := regexp.MustCompile(what + `:\s+(\d+)`).FindSubmatch(status)
	if found == nil {
		ts.Fatalf("no %s in %s", what, status)
	}
	number, err := strconv.Atoi(string(found[1]))
	ts.Check(err)
	return number
}

// cpuOf is the processor time that a daemon had until now, for the log.
func cpuOf(ts *testscript.TestScript, d *daemon) (sum time.Duration) {
	for _, pid := range processesOf(ts, d) {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		found := regexp.MustCompile(`\) \S(?: \S+){10} (\d+) (\d+)`).FindSubmatch(stat)
		if found == nil {
			continue
		}
		user, _ := strconv.Atoi(string(found[1]))
		system, _ := strconv.Atoi(string(found[2]))
		sum += time.Duration(user+system) * 10 * time.Millisecond
	}
	return sum
}
