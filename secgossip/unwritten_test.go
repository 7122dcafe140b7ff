package secgossip

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/secgossip/secgossip/pki"
)

// Wherever replacing a file is cut short by a full disk, the one of before is whole, and
// nothing lies beside it that another attempt could not do without.
func TestFullDiskLeavesTheFileOfBefore(t *testing.T) {
	full := func(path string) error { return &os.PathError{Op: "write", Path: path, Err: syscall.ENOSPC} }
	for name, spoil := range map[string]func(*replaceSteps){
		"write": func(s *replaceSteps) {
			s.write = func(f *os.File, b []byte) error { f.Write(b[:len(b)/2]); return full(f.Name()) }
		},
		"sync":   func(s *replaceSteps) { s.sync = func(f *os.File) error { return full(f.Name()) } },
		"rename": func(s *replaceSteps) { s.rename = func(from, _ string) error { return full(from) } },
	} {
		path := filepath.Join(t.TempDir(), "kept")
		if err := writeFile(path, []byte("before")); err != nil {
			t.Fatal(err)
		}
		steps := diskSteps
		spoil(&steps)
		if file, err := replaceBy(steps, path, []byte("afterwards")); file != nil || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: got %v, %v, want %v", name, file, err, syscall.ENOSPC)
		}
		if got := must(os.ReadFile(path))(t); string(got) != "before" {
			t.Errorf("%s: the file holds %q", name, got)
		}
		if left := must(os.ReadDir(filepath.Dir(path)))(t); len(left) != 1 {
			t.Errorf("%s: %q are left", name, left)
		}
		if err := writeFile(path, []byte("afterwards")); err != nil {
			t.Errorf("%s: with space: %v", name, err)
		}
	}
}

// blocked makes it impossible to replace a file of the state folder, as a full disk does,
// and possible again.
func (h *host) blocked(name string) (unblock func()) {
	h.c.t.Helper()
	// A folder that is not empty cannot be removed, whoever asks.
	inTheWay := filepath.Join(h.state, name+".new")
	if err := os.MkdirAll(filepath.Join(inTheWay, "x"), 0o700); err != nil {
		h.c.t.Fatal(err)
	}
	return func() {
		if err := os.RemoveAll(inTheWay); err != nil {
			h.c.t.Fatal(err)
		}
	}
}

// What a node knows counts although its disk does not take it, and is written as soon as
// it does. It is said once, and everybody who asks is told.
func TestWhatTheDiskDoesNotTakeCountsAndIsWrittenLater(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.host("a"), c.host("b"), c.host("d")
		log := new(logBuffer)
		b.settings = func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) }
		a.start()
		b.start().join(a)
		d.start().join(a)
		time.Sleep(2 * saveInterval)
		before := make(map[string][]byte)
		var unblock []func()
		for _, name := range []string{recordsFile, revocationsFile, tagsFile, clocksFile} {
			before[name], _ = os.ReadFile(filepath.Join(b.state, name)) // none of two of them
			unblock = append(unblock, b.blocked(name))
		}
		a.revoke(VerbEvict, "d")
		e := c.host("e").start().join(a)
		d.stop()
		time.Sleep(10 * time.Minute)
		if got := len(b.node.Revocations()); got != 1 {
			t.Errorf("b holds %d revocations, want 1 although it cannot be written", got)
		}
		if got := b.statuses(); !strings.Contains(got, "e alive") || !strings.Contains(got, "a alive") {
			t.Errorf("b sees %q", got)
		}
		if _, err := b.node.UpdateTags(map[string]string{"role": "web"}, nil); err == nil || !strings.Contains(err.Error(), tagsFile) || len(b.node.Tags()) != 0 {
			t.Errorf("tags that are not on disk are in force: %v, %v", b.node.Tags(), err)
		}
		for name, want := range before {
			if got, _ := os.ReadFile(filepath.Join(b.state, name)); !bytes.Equal(got, want) {
				t.Errorf("%s is not what it was", name)
			}
		}
		disk := b.node.Info()["disk"]
		if len(disk) != 3 || disk[recordsFile] == "" || disk[revocationsFile] == "" || disk[clocksFile] == "" || b.node.Figures().Unwritten != 3 {
			t.Errorf("it says of its disk %q and %d", disk, b.node.Figures().Unwritten)
		}
		for _, f := range unblock {
			f()
		}
		time.Sleep(2 * writeAgain)
		if disk := b.node.Info()["disk"]; len(disk) != 0 {
			t.Errorf("with space it says of its disk %q", disk)
		}
		if said, ended := len(lines(log, "level=ERROR", "cannot be written")), len(lines(log, "is written again")); said != 3 || ended != 3 {
			t.Errorf("it was said %d times, and the end of it %d times, want 3 and 3", said, ended)
		}
		b.crash()
		a.stop()
		e.stop()
		b.start() // with what is on its disk
		if got := len(b.node.Revocations()); got != 1 || len(b.node.roster.All()) < 3 {
			t.Errorf("after a restart it knows %d revocations and %d records", got, len(b.node.roster.All()))
		}
	})
}

func TestJournalIsTriedAgainUntilTheDiskTakesIt(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.host("a").start()
		client := c.client("memo", "event:*")
		file := a.node.journal.file
		file.Close() // nothing can be written to it
		if err := client.fire(a, "deploy", "v1"); err == nil {
			t.Error("an event is accepted that is not on disk")
		}
		time.Sleep(2 * writeAgain)
		if got := a.node.Info()["disk"][journalFile]; got == "" {
			t.Errorf("it says nothing of its journal: %q", a.node.Info()["disk"])
		}
		opened := must(os.OpenFile(a.node.journal.path, os.O_RDWR, 0o600))(t)
		a.node.journal.mu.Lock()
		a.node.journal.file = opened
		a.node.journal.mu.Unlock()
		time.Sleep(2 * writeAgain)
		if got := a.node.Info()["disk"]; len(got) != 0 {
			t.Errorf("with space it says %q", got)
		}
		// What was tried is no event, and in the way of none.
		if err := client.fire(a, "deploy", "v2"); err != nil {
			t.Error(err)
		}
		entries := len(must(os.ReadFile(a.node.journal.path))(t)) / journalEntrySize
		a.crash()
		a.start()
		if got := len(a.node.journal.seen); got != 1 || entries != 3 {
			t.Errorf("after a restart %d events are known, of %d entries, want one of 3", got, entries)
		}
	})
}

// Somebody has copied the state of another cluster here. Each file of it says so.
func TestEveryKeptFileOfAnotherClusterIsRefusedByName(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		a.revoke(VerbEvict, "d")
		must(a.node.UpdateTags(map[string]string{"role": "web"}, nil))(t)
		if err := c.client("memo", "event:*").fire(a, "deploy", "v1"); err != nil {
			t.Fatal(err)
		}
		c.settle()
		a.node.saveRecords()
		a.stop()
		b.stop()
		other := pki.ClusterID{1}
		for _, name := range []string{recordsFile, tagsFile, revocationsFile, clocksFile} {
			path := filepath.Join(a.state, name)
			own := must(os.ReadFile(path))(t)
			if err := writeKept(path, other, own[keptHeader:]); err != nil {
				t.Fatal(err)
			}
			foreign := must(os.ReadFile(path))(t)
			if n, err := New(a.config()); !errors.Is(err, pki.ErrForeign) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "move the file away") {
				t.Errorf("%s: got %v, want %v with its name and what to do", name, err, pki.ErrForeign)
				if n != nil {
					n.Close()
				}
			}
			if got := must(os.ReadFile(path))(t); !bytes.Equal(got, foreign) {
				t.Errorf("%s was touched", name)
			}
			if err := os.WriteFile(path, own, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(t.TempDir(), journalFile)
		j := openTestJournal(t, path, journalNow)
		accept(t, j, 1, true)
		j.Close()
		before := must(os.ReadFile(path))(t)
		if _, err := OpenJournal(path, other, journalNow); !errors.Is(err, pki.ErrForeign) || !strings.Contains(err.Error(), path) {
			t.Errorf("a journal: got %v, want %v with its name", err, pki.ErrForeign)
		}
		if got := must(os.ReadFile(path))(t); !bytes.Equal(got, before) {
			t.Error("the journal was touched")
		}
		a.start()
	})
}
