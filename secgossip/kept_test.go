package secgossip

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

func TestKeptFileThatIsDamagedIsPutAsideAndSaidOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		log := new(logBuffer)
		c.logger = slog.New(slog.NewTextHandler(log, nil))
		a, b, d := c.three()
		must(a.node.UpdateTags(map[string]string{"role": "web"}, nil))(t)
		a.node.saveRecords()
		a.stop()
		damage := map[string]func([]byte) []byte{
			recordsFile: func(raw []byte) []byte { return raw[:len(raw)/2] }, // a full disk of others
			tagsFile:    func(raw []byte) []byte { raw[len(raw)-1] ^= 1; return raw },
		}
		for name, harm := range damage {
			path := filepath.Join(a.state, name)
			if err := os.WriteFile(path, harm(must(os.ReadFile(path))(t)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		a.start()
		if len(a.node.Tags()) != 0 || len(a.node.Members()) != 1 {
			t.Errorf("it took up %v and %v", a.node.Tags(), a.node.Members())
		}
		for name := range damage {
			if _, err := os.Stat(filepath.Join(a.state, name+".bad")); err != nil {
				t.Error(err)
			}
		}
		a.stop()
		a.start()
		if got := log.count("put aside as .bad"); got != len(damage) {
			t.Errorf("it was said %d times, want once for each of %d", got, len(damage))
		}
		a.join(b)
		c.wantBack(a, b, d)
	})
}

func TestKeptFileOfAnotherClusterIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, _, _ := c.three()
		a.node.saveRecords()
		a.stop()
		path := filepath.Join(a.state, recordsFile)
		content := must(readKept(path, a.c.trust().Cluster(), 1<<20))(t)
		if err := writeKept(path, pki.ClusterID{1}, content); err != nil {
			t.Fatal(err)
		}
		before := must(os.ReadFile(path))(t)
		n := &Node{config: Config{Trust: c.trust(), StateDir: a.state}, logger: slog.New(slog.DiscardHandler)}
		if err := n.loadRecords(); !errors.Is(err, pki.ErrForeign) {
			t.Errorf("got %v, want pki.ErrForeign", err)
		}
		if !bytes.Equal(before, must(os.ReadFile(path))(t)) {
			t.Error("the file was touched")
		}
	})
}

func TestEveryHarmToAKeptFileIsSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kept")
	cluster := pki.ClusterID{7}
	if err := writeKept(path, cluster, []byte("content")); err != nil {
		t.Fatal(err)
	}
	raw := must(os.ReadFile(path))(t)
	refused := func(what string, harmed []byte) {
		t.Helper()
		if err := os.WriteFile(path, harmed, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readKept(path, cluster, 7); !errors.Is(err, errDamaged) {
			t.Errorf("%s: got %q, %v", what, got, err)
		}
	}
	for i := range raw {
		refused("truncated", raw[:i])
		flipped := bytes.Clone(raw)
		flipped[i] ^= 1
		refused("flipped", flipped)
	}
	refused("longer", append(bytes.Clone(raw), 0))
}

func TestTagsOfClientsOutliveRestartsAndReloads(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.host("a"), c.host("b")
		a.start("role", "db", "zone", "1")
		b.start().join(a)
		c.settle()
		must(a.node.UpdateTags(map[string]string{"role": "web"}, []string{"zone"}))(t)
		want := map[string]string{"role": "web"}
		told := func() map[string]string { _, tags := b.node.members.get("a"); return tags }
		c.settle()
		if got := told(); !maps.Equal(got, want) {
			t.Errorf("b sees %v, want %v", got, want)
		}
		// A reload brings other settings, under what clients set.
		if err := a.node.SetTags(map[string]string{"role": "db", "zone": "2", "rack": "3"}); err != nil {
			t.Fatal(err)
		}
		want["rack"] = "3"
		c.settle()
		if got := told(); !maps.Equal(got, want) {
			t.Errorf("after a reload b sees %v, want %v", got, want)
		}
		a.crash()
		a.start("role", "db", "zone", "2", "rack", "3")
		c.wantBack(a, b)
		if got := told(); !maps.Equal(got, want) {
			t.Errorf("after a restart b sees %v, want %v", got, want)
		}
		// A tag that was deleted comes back when it is set.
		must(a.node.UpdateTags(map[string]string{"zone": "9"}, []string{"role"}))(t)
		c.settle()
		if got := told(); !maps.Equal(got, map[string]string{"zone": "9", "rack": "3"}) {
			t.Errorf("b sees %v at last", got)
		}
	})
}

func TestTagsOutsideTheirLimitsChangeNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.host("a").start("role", "db")
		long := string(bytes.Repeat([]byte("v"), maxTagValue))
		for name, change := range map[string]tagChanges{
			"both":              {Set: map[string]string{"a": "1"}, Deleted: []string{"a"}},
			"no name":           {Set: map[string]string{"": "1"}},
			"bell":              {Set: map[string]string{"a": "\a"}},
			"too large":         {Set: map[string]string{"a": long, "b": long, "c": long}},
			"no name to delete": {Deleted: []string{""}},
		} {
			if tags, err := a.node.UpdateTags(change.Set, change.Deleted); !errors.Is(err, ErrTags) {
				t.Errorf("%s: got %v, %v", name, tags, err)
			}
		}
		if got := a.node.Tags(); !maps.Equal(got, map[string]string{"role": "db"}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestNodeThatMayRejoinKeepsItsRecordsThroughALeave(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		d.stop()
		d.settings = func(c *Config) { c.Rejoin = true }
		d.start()
		c.wantBack(a, b, d)
		e := c.host("e").start().join(a)
		c.settle()
		if err := d.node.Leave(); err != nil {
			t.Fatal(err)
		}
		d.wantRecords(3) // that of e too, which came since it wrote them last
		c.settle()
		d.stop()
		time.Sleep(time.Minute)
		d.start()
		c.wantBack(a, b, d, e)
	})
}

// A node may be killed long before it would write again what it knows.
func TestWhomANodeHasJoinedIsWrittenAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.host("a").start(), c.host("b").start()
		b.join(a)
		b.wantRecords(1)
	})
}

// wantRecords says how many nodes the file knows.
func (h *host) wantRecords(want int) {
	h.c.t.Helper()
	content, err := readKept(filepath.Join(h.state, recordsFile), h.c.root.Trust().Cluster(), wire.MaxRoster)
	if err != nil {
		h.c.t.Fatal(err)
	}
	if records, err := wire.BatchRoster.Parse(content); err != nil || len(records) != want {
		h.c.t.Errorf("%s keeps %d records, %v, want %d", h.name, len(records), err, want)
	}
}

// The power goes out everywhere. Half of the hosts get another address, among them
// some that the others had as failed, and they start in any order. Fifty nodes with
// -large.
func TestNodesFindEachOtherAfterAPowerCut(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		count := 20
		if *large {
			count = 50
		}
		var all []*host
		for i := range count {
			h := c.host("n" + string(rune('a'+i/10)) + string(rune('0'+i%10))).start()
			if i > 0 {
				h.join(all[0])
			}
			all = append(all, h)
		}
		time.Sleep(2 * saveInterval)
		for _, h := range all[count-count/10:] {
			h.crash() // to the others they have failed
		}
		time.Sleep(saveInterval)
		for _, h := range all[:count-count/10] {
			h.crash()
		}
		time.Sleep(time.Minute)
		for i, h := range all {
			if i%2 == 0 {
				h.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}), 7946)
			}
		}
		begin := time.Now()
		order := rand.New(rand.NewPCG(1, 2)).Perm(count)
		for _, i := range order {
			all[i].start()
			time.Sleep(100 * time.Millisecond)
		}
		together := func() bool {
			for _, h := range all {
				alive := 0
				for _, m := range h.node.Members() {
					if m.Status == StatusAlive {
						alive++
					}
				}
				if alive != count {
					return false
				}
			}
			return true
		}
		for !together() {
			if time.Since(begin) > time.Minute {
				for _, h := range all[:3] {
					t.Errorf("%s sees %s", h.name, h.statuses())
				}
				return
			}
			time.Sleep(time.Second)
		}
		t.Logf("one cluster after %v", time.Since(begin))
		c.wantOne(all[:5]...)
	})
}
