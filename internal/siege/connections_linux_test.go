package siege

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/lab"
)

// BenchmarkConnections holds thousands of connections to an agent that may have
// 1,024 files, and connects again whenever one is closed. Meanwhile a client's
// calls, a join and an event with a handler must work.
func BenchmarkConnections(b *testing.B) {
	for range b.N {
		holdConnections(b)
	}
}

const (
	agentFiles      = 1024
	connectionsEach = 5000 // to the gossip port, and as many to the RPC port
	holdTime        = 20 * time.Second
	// reconnectAfter is how long a connection that was closed stays away. Without
	// it the benchmark would be about how fast this host opens connections.
	reconnectAfter = time.Second
	strangers      = 250 // addresses of loopback that the connections come from
	// tellScript is the handler: it writes what it was sent.
	tellScript = "#!/bin/sh\ncat >> %s\necho >> %[1]s\n"
)

func holdConnections(b *testing.B) {
	each := min(connectionsEach, (mayOpen(b)-500)/2)
	if each < connectionsEach {
		b.Logf("this process may not open enough files: %d connections to each port, not %d", each, connectionsEach)
	}
	c := newCluster(b, 3)
	others, newcomer := c.nodes[:2], c.nodes[2]
	c.nodes = others
	target := others[0]
	target.Prefix = []string{"sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$@"`, agentFiles), "sh"}
	output := c.Output(target.Name)
	c.must(c.Handlers.Create(output))
	c.must(c.WriteProgram("tell.sh", fmt.Sprintf(tellScript, output)))
	target.Flags = append(target.Flags, "--event-handler", "user="+c.Program("tell.sh"), "--handler-writable", output)
	c.startAll()
	newcomer.Flags = append(newcomer.Flags, "--join", target.Gossip)

	honest := honestWork{c: c, target: target, newcomer: newcomer, output: output}
	b.Logf("quiet: %s", honest.call(b, "quiet"))

	w := c.watch(target)
	s := startStrangers(b, each, target)
	time.Sleep(3 * time.Second) // the attack, before anybody honest comes
	files := openFiles(target.NetworkPID())
	report := honest.all(b)
	select {
	case <-time.After(holdTime - time.Since(w.before.at)):
	case <-b.Context().Done():
	}
	files = max(files, openFiles(target.NetworkPID()))
	costs := w.end()
	s.end()
	b.Logf("%d connections to each port, %.0f/s opened, %.0f/s failed to open, %d open at most; the agent had %d files open; %s",
		each, float64(s.opened.Load())/costs.took.Seconds(), float64(s.unopened.Load())/costs.took.Seconds(), s.highest.Load(), files, costs)
	b.Logf("attacked: %s", report)
	costs.check(b, "attacked")
	b.ReportMetric(costs.cores, "cores")
	b.ReportMetric(float64(costs.grown)/mib, "MiB-grown")
	b.ReportMetric(float64(costs.logLines), "log-lines")
	b.ReportMetric(float64(files), "files")
	b.ReportMetric(float64(s.opened.Load())/costs.took.Seconds(), "opened/s")
}

// mayOpen is how many files this process may open: Go has raised the limit as far
// as it goes when the process began. What it starts has the limit of before.
func mayOpen(b *testing.B) int {
	b.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		b.Fatal(err)
	}
	return int(min(limit.Cur, 1<<20))
}

// openFiles is how many files a process has open, 0 if that cannot be seen: an
// agent shows it to root only.
func openFiles(pid int) int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0
	}
	return len(entries)
}

// honestWork is what must work under attack. What does not is an error of the
// benchmark, and it goes on.
type honestWork struct {
	c        *cluster
	target   *lab.Node
	newcomer *lab.Node
	output   string
}

// all does all of it and says how long it took.
func (h honestWork) all(b *testing.B) string {
	return strings.Join([]string{h.call(b, "attacked"), h.join(b), h.event(b)}, "; ")
}

// call asks the target for its members, some times.
func (h honestWork) call(b *testing.B, when string) string {
	const calls = 5
	var took []time.Duration
	failed := 0
	for range calls {
		begun := time.Now()
		if _, err := h.c.Members(b.Context(), keeper, h.target); err != nil {
			failed++
			b.Errorf("%s: an honest client's call: %v", when, err)
			continue
		}
		took = append(took, time.Since(begun))
	}
	if len(took) > 0 {
		b.ReportMetric(float64(median(took).Milliseconds()), when+"-ms-call")
	}
	return fmt.Sprintf("%d of %d calls answered, after %s", calls-failed, calls, rounded(took))
}

func rounded(all []time.Duration) string {
	var texts []string
	for _, d := range all {
		texts = append(texts, d.Round(time.Millisecond).String())
	}
	return strings.Join(texts, ", ")
}

// join starts an agent that joins by the target and sees it alive.
func (h honestWork) join(b *testing.B) string {
	begun := time.Now()
	err := h.c.Start(b.Context(), h.newcomer)
	if err == nil {
		err = lab.Await(b.Context(), func(ctx context.Context) error {
			if err := lab.CheckRunning([]*lab.Node{h.newcomer}); err != nil {
				return err
			}
			members, err := h.c.Members(ctx, keeper, h.newcomer)
			if err == nil && !slices.Contains(members, lab.Member{Name: h.target.Name, Status: "alive"}) {
				err = fmt.Errorf("%s does not see %s alive: %v", h.newcomer.Name, h.target.Name, members)
			}
			return err
		})
	}
	if err != nil {
		b.Errorf("a join: %v; its log ends: %q", err, h.c.tail(h.newcomer, 2))
		return "no join"
	}
	took := time.Since(begun)
	b.ReportMetric(took.Seconds(), "s-join")
	return fmt.Sprintf("joined after %s", took.Round(time.Millisecond))
}

// event fires an event at another agent; the target must run its handler. It is
// not fired at the target, so that it shows whether gossip goes on even if no
// call is answered.
func (h honestWork) event(b *testing.B) string {
	payload := rand.Text()
	begun := time.Now()
	_, err := h.c.Ask(b.Context(), keeper, h.c.nodes[1], "event", "--coalesce=false", "deploy", payload)
	if err == nil {
		err = lab.Await(b.Context(), func(context.Context) error {
			lines, err := lab.ReadLines(h.output)
			if err == nil && !slices.Contains(lines, payload) {
				err = fmt.Errorf("the handler has written %q, want %q", lines, payload)
			}
			return err
		})
	}
	if err != nil {
		b.Errorf("a handler run: %v; the log of the target ends: %q", err, h.c.tail(h.target, 3))
		return "no handler run"
	}
	took := time.Since(begun)
	b.ReportMetric(float64(took.Milliseconds()), "ms-handler")
	return fmt.Sprintf("handler run done after %s", took.Round(time.Millisecond))
}

// crowd is strangers that hold connections.
type crowd struct {
	opened, unopened atomic.Int64
	open, highest    atomic.Int64
	stop             context.CancelFunc
	running          sync.WaitGroup
}

// startStrangers connects to both ports of an agent, a number of times to each.
func startStrangers(b *testing.B, each int, target *lab.Node) *crowd {
	ctx, stop := context.WithCancel(b.Context())
	s := &crowd{stop: stop}
	for i := range each {
		// Whoever asks honestly is 127.0.0.1; these are 127.1.0.1 and on.
		from := net.IPv4(127, 1, 0, byte(1+i%strangers))
		s.running.Go(func() { s.hold(ctx, from, target.Gossip, gossipWords[i%len(gossipWords)]()) })
		s.running.Go(func() { s.hold(ctx, from, target.RPC, rpcWords[i%len(rpcWords)]()) })
	}
	b.Cleanup(s.end)
	return s
}

// end lets go of all connections.
func (s *crowd) end() {
	s.stop()
	s.running.Wait()
}

// hold opens a connection, says something and waits for the other side to close
// it, again and again.
func (s *crowd) hold(ctx context.Context, from net.IP, to string, words []byte) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Timeout: 5 * time.Second}
	for ctx.Err() == nil {
		conn, err := dialer.DialContext(ctx, "tcp", to)
		if err != nil {
			s.unopened.Add(1)
		} else {
			s.opened.Add(1)
			if now := s.open.Add(1); now > s.highest.Load() {
				s.highest.Store(now) // roughly: it is a figure
			}
			// Closed at once, or later: what is said may not arrive any more.
			_, _ = conn.Write(words)
			closed := context.AfterFunc(ctx, func() { conn.Close() })
			_, _ = conn.Read(make([]byte, 1))
			closed()
			conn.Close()
			s.open.Add(-1)
		}
		select {
		case <-time.After(reconnectAfter):
		case <-ctx.Done():
		}
	}
}

// claimed is how much the liars claim to have to say.
const claimed = 20_000_000

// What strangers say: nothing, a half, a lie.
var (
	gossipWords = []func() []byte{
		func() []byte { return nil },
		func() []byte { return random(16) }, // half a knock
		func() []byte { return append(random(32), frame(1, claimed)...) },
	}
	rpcWords = []func() []byte{
		func() []byte { return nil },
		func() []byte { return hello(200)[:100] },
		func() []byte { return hello(1<<24 - 1)[:300] },
	}
)

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// frame is the header of a frame: a type and a length.
func frame(kind byte, length uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, length)
}

// hello is the begin of a TLS handshake: a record of 16,000 bytes, the most that
// one may nearly have, in which a ClientHello claims a length of its own, for
// which TLS has three bytes.
func hello(length int) []byte {
	head := []byte{22, 3, 1, 16_000 >> 8, 16_000 & 0xff, 1, byte(length >> 16), byte(length >> 8), byte(length)}
	return append(head, random(1000)...)
}
