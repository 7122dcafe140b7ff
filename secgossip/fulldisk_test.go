package secgossip

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// disk is where a host's keyring is, apart from all else, so that it can be full: no
// file can be written there. What was there can still be read by whoever has it open.
type disk struct {
	c      *cluster
	folder string
}

// ownDisk moves a host's keyring to a disk of its own, before its start, and gives the
// host a log.
func (h *host) ownDisk() (*disk, *logBuffer) {
	h.c.t.Helper()
	d := &disk{h.c, filepath.Join(h.state, "disk")}
	moved := filepath.Join(d.folder, filepath.Base(h.keyring))
	for _, err := range []error{os.Mkdir(d.folder, 0o700), os.Rename(h.keyring, moved)} {
		if err != nil {
			h.c.t.Fatal(err)
		}
	}
	h.keyring = moved
	log := new(logBuffer)
	h.settings = func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) }
	return d, log
}

func (d *disk) full()  { d.rename(d.folder, d.folder+".full") }
func (d *disk) space() { d.rename(d.folder+".full", d.folder) }

func (d *disk) rename(from, to string) {
	d.c.t.Helper()
	if err := os.Rename(from, to); err != nil {
		d.c.t.Fatal(err)
	}
}

// A node whose keyring cannot be written stays a member with what it has, through
// rotations, and follows by itself when it can. It says so once an hour: every stream
// brings it what it cannot keep.
func TestNodeWithAFullDiskFollowsWhenThereIsSpace(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.host("a"), c.host("b"), c.host("d")
		disk, log := d.ownDisk()
		a.start()
		b.start().join(a)
		d.start().join(a)
		c.settle()
		disk.full()
		rotation := c.rotate(a)
		if strings.Join(rotation.Missing, " ") != "d" || rotation.Removed {
			t.Errorf("the rotation ended as %+v, want d to be waited for", rotation)
		}
		time.Sleep(5 * time.Minute)
		c.rotate(a)
		time.Sleep(5 * time.Minute)
		if got := d.epochs(); got != "1*" {
			t.Errorf("d holds %q, want %q", got, "1*")
		}
		if got, want := a.statuses(), "a alive, b alive, d alive"; got != want {
			t.Errorf("a sees %q, want %q", got, want)
		}
		if err := c.client("memo", "event:*").fire(a, "deploy", "v1"); err != nil {
			t.Fatal(err)
		}
		c.settle()
		if got := d.seen.names(); len(got) != 1 {
			t.Errorf("d got the events %q, want the one", got)
		}
		if n := len(lines(log, "level=ERROR", "keyring cannot be written", "keyring.age")); n != 1 || len(lines(log, "level=ERROR")) != n {
			t.Errorf("in ten minutes it was said %d times, want once and nothing else:\n%s", n, strings.Join(lines(log, "level=ERROR"), ""))
		}
		disk.space()
		time.Sleep(time.Minute)
		if d.epochs() != a.epochs() || len(lines(log, "keyring is written again")) != 1 {
			t.Errorf("with space d holds %q, and a %q", d.epochs(), a.epochs())
		}
		c.wantOne(a, b, d)
		d.crash()
		a.crash()
		b.crash()
		d.start() // with what is on its disk
		if d.epochs() == "1*" || d.epochs() == "" {
			t.Errorf("d starts with %q, want what it followed to", d.epochs())
		}
	})
}

// A keeper that cannot write begins nothing, says why, and nobody has heard of an
// epoch; it rotates as soon as there is space.
func TestKeeperWithAFullDiskBeginsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.host("a"), c.host("b")
		disk, log := a.ownDisk()
		a.start()
		b.start().join(a)
		c.settle()
		disk.full()
		for name, step := range map[string]func() error{
			"rotate":  func() error { _, err := a.node.Rotate(t.Context(), nothing); return err },
			"install": func() error { _, err := a.node.Install(t.Context(), nothing); return err },
		} {
			if err := step(); !errors.Is(err, ErrUnwritten) || !strings.Contains(err.Error(), a.keyring) || !strings.Contains(err.Error(), "make room") {
				t.Errorf("%s: got %v, want %v with the file and what to do", name, err, ErrUnwritten)
			}
		}
		time.Sleep(DefaultRotateEvery + 10*time.Minute) // a rotation is due by itself, too
		if a.epochs() != "1*" || b.epochs() != "1*" {
			t.Errorf("a holds %q and b %q, want epoch 1 alone", a.epochs(), b.epochs())
		}
		if got := lines(log, "level=ERROR"); len(got) != 2 {
			t.Errorf("in 70 minutes it was said %d times, want twice:\n%s", len(got), strings.Join(got, ""))
		}
		disk.space()
		time.Sleep(time.Minute)
		if a.epochs() != "2*" || b.epochs() != "2*" {
			t.Errorf("with space a holds %q and b %q, want epoch 2 alone", a.epochs(), b.epochs())
		}
		c.wantOne(a, b)
	})
}

// The disk of the keeper fills up after each step of a rotation. It goes on by itself,
// from where it was, also when it was restarted meanwhile.
func TestKeeperWhoseDiskFillsUpInARotationGoesOn(t *testing.T) {
	for _, step := range []Step{StepInstalled, StepUsing} {
		for _, restart := range []bool{false, true} {
			inBubble(t, func(t *testing.T, c *cluster) {
				a, b, d := c.host("a"), c.host("b"), c.host("d")
				disk, _ := a.ownDisk()
				a.start()
				b.start().join(a)
				d.start().join(a)
				c.settle()
				var filled sync.Once
				_, err := a.node.Rotate(t.Context(), func(p Progress) {
					if p.Step == step {
						filled.Do(disk.full)
					}
				})
				if !errors.Is(err, ErrUnwritten) {
					t.Errorf("full after %s: got %v, want %v", step, err, ErrUnwritten)
				}
				time.Sleep(2 * time.Minute)
				if got := primaries(a, b, d); len(got) != 1 {
					t.Errorf("full after %s: they seal with %q, want one epoch", step, got)
				}
				if restart {
					a.crash()
				}
				disk.space()
				if restart {
					a.start()
				}
				time.Sleep(2 * time.Minute)
				for _, h := range []*host{a, b, d} {
					if got := h.epochs(); got != "2*" {
						t.Errorf("full after %s, restarted %v: %s holds %q, want %q", step, restart, h.name, got, "2*")
					}
				}
				c.wantOne(a, b, d)
			})
		}
	}
}

// An image of the disk from ten rotations ago: the node starts with it, and is up to
// date within five seconds, with nobody's help.
func TestNodeFromAnOldImageCatchesUp(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		c.rotate(a)
		time.Sleep(time.Minute) // the records of the others are kept
		if got := d.epochs(); got != "2*" {
			t.Fatalf("the image holds %q, want %q: this is not the story", got, "2*")
		}
		image := make(map[string][]byte)
		for _, entry := range must(os.ReadDir(d.state))(t) {
			image[entry.Name()] = must(os.ReadFile(filepath.Join(d.state, entry.Name())))(t)
		}
		for range 10 {
			time.Sleep(10 * time.Second)
			c.rotate(a)
		}
		d.crash()
		for name, content := range image {
			if err := os.WriteFile(filepath.Join(d.state, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		d.start()
		time.Sleep(5 * time.Second)
		if d.epochs() != a.epochs() {
			t.Errorf("after five seconds d holds %q, and a %q", d.epochs(), a.epochs())
		}
		c.wantOne(a, b, d)
	})
}
