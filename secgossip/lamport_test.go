package secgossip

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
)

// fireAs fires an event of a client whose clock is ahead by so much.
func (c *client) fireAs(at *host, ahead time.Duration, ltime uint64) {
	c.c.t.Helper()
	now := time.Now().Add(ahead)
	raw := must(rpcauth.SignEvent(c.key, c.token, rpcauth.EventRequest{
		Cluster: c.c.root.Trust().Cluster(), Name: "deploy", LTime: ltime,
	}, now))(c.c.t)
	must(at.node.Fire(raw, c.public()))(c.c.t)
}

// Whoever asks a node that has seen an event comes after it, though the clock of that
// event's client was ahead, and though the node has restarted since.
func TestEventThatFollowsAnotherHasALaterTime(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		memo := c.client("memo", "event:*")
		first := uint64(time.Now().Add(time.Minute).UnixMilli())
		memo.fireAs(a, time.Minute, 0)
		c.settle()
		follows := func(h *host, when string) {
			t.Helper()
			if got := rpcauth.LamportTime(time.Now(), h.node.EventTime()); got <= first || got > first+1 {
				t.Errorf("%s: what is fired at %s has the time %d, want the one after %d", when, h.name, got, first)
			}
		}
		follows(a, "at once")
		follows(b, "at once")
		// What a crash leaves behind is what is on disk now.
		body, err := readKept(filepath.Join(b.state, clocksFile), c.root.Trust().Cluster(), maxClocksFile)
		var kept keptClocks
		if err = errors.Join(err, cose.Unmarshal(body, &kept)); err != nil || kept.Event != first+1 {
			t.Errorf("b has kept %d (%v), want %d", kept.Event, err, first+1)
		}
		first = uint64(time.Now().Add(time.Minute).UnixMilli())
		memo.fireAs(a, time.Minute, 0)
		a.stop() // before it is kept by itself
		a.start()
		follows(a, "after a restart")
		if got := a.node.Info()["gossip"]["event_time"]; got != strconv.FormatUint(first+1, 10) {
			t.Errorf("info shows %s, want %d", got, first+1)
		}
	})
}

// Threat C03: a client with a wrong clock and bad intent moves nobody's clock further
// than clocks may be apart.
func TestNoLamportTimeMovesAClockToTheEndOfTimes(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.host("a").start()
		ahead := pki.Tolerance - time.Second
		c.client("memo", "event:*").fireAs(a, ahead, uint64(time.Now().Add(ahead).UnixMilli())+rpcauth.MaxLamportAhead)
		if got, most := a.node.EventTime(), uint64(time.Now().Add(pki.Tolerance).UnixMilli())+1; got != most {
			t.Errorf("the clock of events shows %d, want %d", got, most)
		}
	})
}

func TestMembersAndQueriesMoveTheirClocks(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		for _, p := range a.node.roster.All() {
			if got, _ := strconv.ParseUint(a.node.Info()["gossip"]["member_time"], 10, 64); got <= p.Record.Sequence {
				t.Errorf("the clock of members shows %d, and %s has signed %d", got, p.Name, p.Record.Sequence)
			}
		}
		memo := c.client("memo", "query:*")
		raw, _, err := rpcauth.SignQuery(memo.key, memo.token, rpcauth.QueryRequest{
			Cluster: c.root.Trust().Cluster(), Name: "load", Timeout: time.Second, Origin: "a",
		}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		asked := uint64(time.Now().UnixMilli())
		must(a.node.Ask(raw, memo.public()))(t).Discard()
		c.settle()
		for _, h := range []*host{a, b} {
			if got := h.node.QueryTime(); got != asked+1 {
				t.Errorf("%s: the clock of queries shows %d, want %d", h.name, got, asked+1)
			}
		}
	})
}

func TestKeptClocksOutOfBoundsArePutAsideAndNamed(t *testing.T) {
	for name, kept := range map[string]keptClocks{
		"event time 18446744073709551615: 1 to ": {math.MaxUint64, 1, 1},
		"query time 0: 1 to ":                    {1, 0, 1},
		"member time 9000000000000: 1 to ":       {1, 1, 9_000_000_000_000},
	} {
		inBubble(t, func(t *testing.T, c *cluster) {
			a := c.host("a")
			path := filepath.Join(a.state, clocksFile)
			if err := writeKept(path, c.root.Trust().Cluster(), must(cose.Marshal(kept))(t)); err != nil {
				t.Fatal(err)
			}
			log := new(logBuffer)
			c.logger = slog.New(slog.NewTextHandler(log, nil))
			a.start()
			if got := lines(log, "put aside"); len(got) != 1 || !strings.Contains(got[0], name) {
				t.Errorf("it logs %q, want one line with %q", got, name)
			}
			if _, err := os.Stat(path + ".bad"); err != nil {
				t.Error(err)
			}
			if got := a.node.EventTime(); got != 1 {
				t.Errorf("the clock of events shows %d, want 1", got)
			}
		})
	}
}

func TestClocksOfAnotherClusterStayAsTheyAre(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.host("a").start()
		path := filepath.Join(a.state, clocksFile)
		if err := writeKept(path, pki.ClusterID{1}, must(cose.Marshal(keptClocks{2, 2, 2}))(t)); err != nil {
			t.Fatal(err)
		}
		before := must(os.ReadFile(path))(t)
		if err := a.node.loadClocks(); !errors.Is(err, pki.ErrForeign) {
			t.Errorf("got %v, want %v", err, pki.ErrForeign)
		}
		a.stop()
		if got := must(os.ReadFile(path))(t); !bytes.Equal(got, before) {
			t.Error("they were overwritten")
		}
	})
}
