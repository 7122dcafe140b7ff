package secgossip

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/memnet"
)

// inMemory makes a host keep its epochs in memory from its next start on.
func (h *host) inMemory() *logBuffer {
	log := new(logBuffer)
	h.settings = func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(log, nil))
		if err := c.Keyring.MemoryOnly(); err != nil {
			h.c.t.Fatal(err)
		}
	}
	return log
}

// secretsOf are the epochs' secrets that hosts hold now.
func secretsOf(t *testing.T, hosts ...*host) (all [][]byte) {
	t.Helper()
	for _, h := range hosts {
		for _, info := range h.file.Keyring().List() {
			epoch, _ := h.file.Keyring().Get(info.Number)
			var out bytes.Buffer
			must(epoch.Secret.WriteTo(&out))(t)
			all = append(all, out.Bytes())
		}
	}
	return all
}

// wantNoEpochOnDisk looks for secrets in every file of the host, as they are and as
// the host itself can open them.
func (h *host) wantNoEpochOnDisk(secrets [][]byte) {
	t := h.c.t
	t.Helper()
	opened := 0
	err := filepath.WalkDir(filepath.Dir(h.keyring), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if plaintext, err := h.locker.Open(bytes.NewReader(content)); err == nil {
			content = append(content, plaintext.Bytes()...)
			plaintext.Destroy()
			opened++
		}
		for i, secret := range secrets {
			if bytes.Contains(content, secret) {
				t.Errorf("%s holds secret %d of %d", entry.Name(), i+1, len(secrets))
			}
		}
		return nil
	})
	if err != nil || opened != 2 || len(secrets) == 0 {
		t.Errorf("looked into %d sealed files, for %d secrets (%v): want two files", opened, len(secrets), err)
	}
}

// A cluster of one keeper on disk and two nodes that keep their epochs in memory.
func (c *cluster) mixed() (a, b, d *host) {
	c.t.Helper()
	a, b, d = c.host("a"), c.host("b"), c.host("d")
	a.start()
	b.inMemory()
	d.inMemory()
	b.start().join(a)
	d.start().join(a)
	c.settle()
	return a, b, d
}

// The epochs of its home are used at its first start, and leave the disk then.
func TestNodeInMemoryLeavesNoEpochOnDisk(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.mixed()
		c.wantOne(a, b, d)
		secrets := secretsOf(t, b)
		b.wantNoEpochOnDisk(secrets)
		for range 3 {
			if _, err := a.node.Install(t.Context(), nothing); err != nil {
				t.Fatal(err)
			}
			secrets = append(secrets, secretsOf(t, b)...)
			c.rotate(a)
			secrets = append(secrets, secretsOf(t, b)...)
			b.wantNoEpochOnDisk(secrets)
		}
		if got := b.epochs(); got != "4*" {
			t.Errorf("b holds %q, want %q", got, "4*")
		}
		if got := b.node.Info()["keys"]["kept"]; got != "in memory" {
			t.Errorf("its epochs are kept %s, as b says", got)
		}
		c.wantOne(a, b, d)
	})
}

// It starts with nothing and is a member within five seconds, by itself.
func TestNodeInMemoryFetchesItsEpochAtBoot(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.mixed()
		time.Sleep(time.Minute) // the records of the others are kept
		b.crash()
		c.rotate(a)
		time.Sleep(time.Minute)
		log := b.inMemory()
		b.start()
		// The fetch may already be done: that b started without an epoch, its log says.
		if log.count("no epoch yet: waiting for a member") != 1 {
			t.Fatalf("b did not say that it waits, once:\n%s", log.out.String())
		}
		time.Sleep(5 * time.Second)
		if got := b.epochs(); got != "2*" {
			t.Errorf("after five seconds b holds %q, want %q", got, "2*")
		}
		c.wantOne(a, b, d)
		if n := len(lines(log, "level=ERROR")) + len(lines(log, "level=WARN")); n > 0 {
			t.Errorf("b complained about what is normal:\n%s", log.out.String())
		}
	})
}

// The whole cluster was off. Those in memory have no epoch; they wait, find each other
// and send no datagram. When the keeper is back, it has what all need.
func TestClusterInMemoryComesBackWithItsKeeper(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.mixed()
		time.Sleep(time.Minute)
		for _, h := range []*host{a, b, d} {
			h.crash()
		}
		time.Sleep(time.Hour)
		var mu sync.Mutex
		sent := make(map[netip.Addr]int)
		c.net.Tap(func(g memnet.Datagram) {
			mu.Lock()
			defer mu.Unlock()
			sent[g.From.Addr()]++
		})
		b.start()
		d.start()
		time.Sleep(5 * time.Minute)
		for _, h := range []*host{b, d} {
			mu.Lock()
			if n := sent[h.addr.Addr()]; n > 0 {
				t.Errorf("%s sent %d datagrams without an epoch", h.name, n)
			}
			mu.Unlock()
			if info := h.node.Info()["keys"]; info["primary"] != "0" || info["age"] != "no epoch yet" {
				t.Errorf("%s says of its epochs %v", h.name, info)
			}
		}
		if got, want := b.statuses(), "a failed, b alive, d alive"; !strings.Contains(got, "d alive") {
			t.Errorf("b sees %q, want %q: they meet by stream", got, want)
		}
		a.start()
		time.Sleep(time.Minute)
		if a.epochs() == "" {
			t.Error("the keeper has no epoch")
		}
		c.wantOne(a, b, d)
	})
}

// Without the setting the epochs are written again, at the next change.
func TestNodeThatWasInMemoryIsOnDiskAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.mixed()
		b.stop()
		b.settings = nil
		b.start().join(a)
		c.settle()
		c.rotate(a)
		for _, h := range []*host{a, b, d} {
			h.crash()
		}
		b.start() // nobody is there to fetch it from
		if got := b.epochs(); got != "2*" {
			t.Errorf("b starts with %q, want %q from its disk", got, "2*")
		}
	})
}

// A keeper that has lost its epochs makes no new first one beside that of the cluster:
// it meets a member first.
func TestKeeperWithoutAnEpochBeginsNone(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.host("a"), c.host("b", pki.RoleKeeper)
		knock := must(keyring.OpenFile(b.keyring, b.locker))(t)
		if err := knock.MemoryOnly(); err != nil {
			t.Fatal(err)
		}
		knock.Keyring().Destroy()
		log := new(logBuffer)
		b.settings = func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) }
		a.start()
		b.start()
		time.Sleep(2 * DefaultRotateEvery)
		if complaints := append(lines(log, "level=ERROR"), lines(log, "level=WARN")...); len(complaints) > 0 {
			t.Errorf("b complains while it waits:\n%s", strings.Join(complaints, ""))
		}
		if got := b.epochs(); got != "" {
			t.Errorf("b made %q by itself", got)
		}
		for name, step := range map[string]func() error{
			"rotate":  func() error { _, err := b.node.Rotate(t.Context(), nothing); return err },
			"install": func() error { _, err := b.node.Install(t.Context(), nothing); return err },
			"use":     func() error { _, err := b.node.Use(t.Context(), 0, nothing); return err },
			"dry run": func() error { _, err := b.node.Rehearse(t.Context()); return err },
		} {
			if err := step(); !errors.Is(err, ErrNoEpoch) || !strings.Contains(err.Error(), "first member it meets") {
				t.Errorf("%s: got %v, want %v", name, err, ErrNoEpoch)
			}
		}
		b.join(a)
		c.settle()
		c.wantOne(a, b)
		c.rotate(b)
		c.wantOne(a, b)
	})
}
