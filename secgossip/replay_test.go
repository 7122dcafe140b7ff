package secgossip

import (
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/secgossip/secgossip/secgossip/internal/memnet"
)

// tape is a recording of everything on the wire.
type tape struct {
	mu        sync.Mutex
	stopped   bool
	datagrams []memnet.Datagram
}

func (t *tape) record(d memnet.Datagram) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.stopped {
		t.datagrams = append(t.datagrams, d)
	}
}

func (t *tape) length() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.datagrams)
}

func (t *tape) stop() []memnet.Datagram {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	return t.datagrams
}

// logged counts log lines of every level.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(line))
	return len(line), nil
}

func (l *logged) since(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines[n:])
}

// state is everything of a node that a datagram could change.
type state struct {
	Members        []Member // with endpoints, statuses and epochs
	Figures        map[string]string
	Records        [32]byte
	Kept           int // in the journal
	Events         []string
	MemberEvents   []string
	EpochsHeld     string
	RecordSequence string
}

// stateOf is a node's state, and how many datagrams it has dropped.
func stateOf(h *host) (s state, dropped uint64) {
	s = state{
		Members:        h.node.Members(),
		Figures:        h.node.Info()["gossip"],
		Records:        h.node.roster.Digest(),
		Events:         h.seen.names(),
		MemberEvents:   h.seen.memberEvents(),
		EpochsHeld:     h.epochs(),
		RecordSequence: fmt.Sprintf("%x", h.node.self.current()),
	}
	h.node.journal.mu.Lock()
	s.Kept = len(h.node.journal.seen)
	h.node.journal.mu.Unlock()
	maps.DeleteFunc(s.Figures, func(name, _ string) bool { return strings.HasPrefix(name, "drop_") })
	for name, n := range h.node.transport.Counters() {
		if strings.HasPrefix(name, "drop_") {
			dropped += n
		}
	}
	return s, dropped
}

var sameEndpoint = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

// assertDropped replays datagrams in random order, each from its own address and
// from another one, and holds every node to its state. The clock stands still
// meanwhile, so there is no other traffic.
func (c *cluster) assertDropped(when string, recorded []memnet.Datagram, log *logged) {
	c.t.Helper()
	random := rand.New(rand.NewPCG(2, 0))
	again := slices.Clone(recorded)
	for _, d := range recorded {
		d.From = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(random.Uint32())}), uint16(1+random.IntN(65535)))
		again = append(again, d)
	}
	random.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })

	synctest.Wait()
	begun, lines := time.Now(), len(log.since(0))
	before, droppedBefore := make(map[string]state), uint64(0)
	for name, h := range c.hosts {
		s, dropped := stateOf(h)
		before[name], droppedBefore = s, droppedBefore+dropped
	}
	for i, d := range again {
		if !c.net.Inject(d) {
			c.t.Fatalf("%s: no socket took a datagram for %s", when, d.To)
		}
		if i%200 == 199 { // a socket's queue holds 256
			synctest.Wait()
		}
	}
	synctest.Wait()
	droppedNow := uint64(0)
	for name, h := range c.hosts {
		now, dropped := stateOf(h)
		droppedNow += dropped
		if diff := cmp.Diff(before[name], now, sameEndpoint); diff != "" {
			c.t.Errorf("%s: the replay changed %s (-before +after):\n%s", when, name, diff)
		}
	}
	if got, want := droppedNow-droppedBefore, uint64(len(again)); got != want {
		c.t.Errorf("%s: %d datagrams were dropped, want all %d", when, got, want)
	}
	if said := log.since(lines); len(said) > 0 {
		c.t.Errorf("%s: the replay made nodes log %q", when, said)
	}
	if !time.Now().Equal(begun) {
		c.t.Errorf("%s: the clock moved, and with it genuine traffic", when)
	}
}

// Threats N02, N03, N04: everything that three nodes say to each other in a
// quarter of an hour, with events among it, is recorded and replayed while they run, after
// restarts and a rotation, and to a cluster of the same name with nodes of the
// same names at the same addresses.
func TestTenThousandReplayedDatagramsChangeNothing(t *testing.T) {
	const enough = 10_000
	inBubble(t, func(t *testing.T, c *cluster) {
		log := new(logged)
		c.logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		a, b, d := c.three()
		// Only now: until all know each other, what one cannot open yet could be
		// opened when it comes later.
		recorder := new(tape)
		c.net.Tap(recorder.record)
		client := c.client("memo", "event:*")
		var fired []string
		begun := time.Now()
		for i := 0; recorder.length() < enough; i++ {
			from := []*host{a, b, d}[i%3]
			payload := fmt.Sprintf("v%d", i)
			if err := client.fire(from, "deploy", payload); err != nil {
				t.Fatal(err)
			}
			fired = append(fired, "deploy:"+payload)
			time.Sleep(5 * time.Second)
			if i > enough {
				t.Fatalf("only %d datagrams after %d events", recorder.length(), i)
			}
		}
		synctest.Wait()
		recorded := recorder.stop()
		t.Logf("%d datagrams, %d events, %s", len(recorded), len(fired), time.Since(begun))

		c.assertDropped("live", recorded, log)
		time.Sleep(10 * time.Second)
		b.crash()
		b.start().join(a)
		c.settle()
		c.assertDropped("one restarted, as receiver and as sender", recorded, log)
		for _, h := range []*host{a, d} {
			h.crash()
			h.start().join(b)
			c.settle()
		}
		c.assertDropped("all restarted", recorded, log)
		c.rotate(a)
		c.settle()
		c.assertDropped("after a rotation", recorded, log)

		// And nothing comes of it later.
		time.Sleep(time.Minute)
		for _, h := range []*host{a, b, d} {
			if got := slices.Sorted(slices.Values(h.seen.names())); !slices.Equal(got, slices.Sorted(slices.Values(fired))) {
				t.Errorf("%s got %d events %q, want each of %d once", h.name, len(got), got, len(fired))
			}
			if got, want := h.statuses(), "a alive, b alive, d alive"; got != want {
				t.Errorf("%s sees %q, want %q", h.name, got, want)
			}
		}

		twin := newCluster(t, "demo")
		defer twin.close()
		twinLog := new(logged)
		twin.logger = slog.New(slog.NewTextHandler(twinLog, &slog.HandlerOptions{Level: slog.LevelDebug}))
		twin.three()
		twin.assertDropped("to another cluster of the same name", recorded, twinLog)
	})
}
