package field

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/secgossip/secgossip/internal/lab"
)

// tinyDisk puts a folder of a node's home, its keys and keyring or what it keeps, on a
// file system of 64 KiB, before its start. What it returns fills that up to the last byte,
// or makes room again.
func (f *field) tinyDisk(name, folder string) (fill, empty func()) {
	f.Helper()
	node := filepath.Join(f.In(name), folder)
	f.must(os.MkdirAll(node, 0o700))
	f.must(os.Rename(node, node+".full"))
	f.must(os.Mkdir(node, 0o700))
	if err := syscall.Mount("none", node, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		f.Skipf("mounting a tmpfs: %v", err)
	}
	f.Cleanup(func() { f.check(syscall.Unmount(node, 0)) })
	f.must(os.CopyFS(node, os.DirFS(node+".full")))
	entries, err := os.ReadDir(node)
	f.must(err)
	for _, entry := range entries { // CopyFS adds what others may do
		f.must(os.Chmod(filepath.Join(node, entry.Name()), 0o600))
	}
	filler := filepath.Join(node, "filler")
	fill = func() {
		f.Helper()
		content := make([]byte, 1<<20)
		if err := os.WriteFile(filler, content, 0o600); !errors.Is(err, syscall.ENOSPC) {
			f.Fatalf("filling the disk of %s: got %v, want it full", name, err)
		}
	}
	return fill, func() { f.must(os.Remove(filler)) }
}

// wantWholeFiles checks that nothing half-written lies beside the keyring.
func (f *field) wantWholeFiles(name string) {
	f.Helper()
	left, err := filepath.Glob(filepath.Join(f.In(name), "node", "*.tmp-*"))
	if err != nil || len(left) > 0 {
		f.Errorf("%s left %q (%v)", name, left, err)
	}
}

// awaitSaid waits for one line with all of these words in a host's log.
func (f *field) awaitSaid(h *host, words ...string) {
	f.Helper()
	f.await(lab.Patience, func(context.Context) error {
		if n := f.logged(h, words...); n != 1 {
			return fmt.Errorf("%s has said %q %d times, want once", h.name, words, n)
		}
		return nil
	})
}

// awaitEpoch waits until a host seals with an epoch and holds no other.
func (f *field) awaitEpoch(h *host, number uint64) {
	f.Helper()
	f.await(2*lab.Patience, func(ctx context.Context) error {
		var list struct {
			Epochs []struct {
				Number  uint64
				Primary bool
			}
		}
		if err := f.AskJSON(ctx, &list, keeper, h.Node, "keys", "list"); err != nil {
			return err
		}
		if len(list.Epochs) != 1 || list.Epochs[0].Number != number || !list.Epochs[0].Primary {
			return fmt.Errorf("%s holds %+v, want epoch %d alone", h.name, list.Epochs, number)
		}
		return nil
	})
}

// A member whose disk is full goes on with what it has and says so; with space it
// follows, and what it follows to is on its disk.
func TestMemberWithAFullDiskStaysAndFollows(t *testing.T) {
	f := newField(t, "b", "c")
	fill, empty := f.tinyDisk("b", "node")
	a, b, c := f.add("a", "203.0.113.1/24"), f.add("b", "203.0.113.2/24"), f.add("c", "203.0.113.3/24")
	f.start(a, a.at())
	f.start(b, b.at(), "--join", a.at())
	f.start(c, c.at(), "--join", a.at())
	f.awaitAlive()
	fill()
	for _, step := range []string{"install", "use"} { // each waits for b, 20 s
		_, err := f.Ask(t.Context(), keeper, a.Node, "keys", step)
		if refusal, ok := errors.AsType[*lab.Refusal](err); !ok || refusal.Code != 5 || !strings.Contains(refusal.Stderr, "not reached: b") {
			t.Errorf("keys %s, which b cannot follow, ended with %v, want exit code 5 and its name", step, err)
		}
	}
	f.awaitEpoch(b, 1)
	f.awaitSaid(b, "level=ERROR", "keyring cannot be written: this node goes on with the epochs it has")
	if n := f.logged(b, "level=ERROR"); n != 1 {
		t.Errorf("b wrote %d errors, want one", n)
	}
	f.wantWholeFiles("b")
	f.everybodyHears("while the disk is full")
	empty()
	for _, h := range f.hosts {
		f.awaitEpoch(h, 2)
	}
	f.awaitSaid(b, "level=INFO", "keyring is written again")
	f.wantWholeFiles("b")
	f.everybodyHears("with space")
	f.must(b.Kill())
	f.must(f.Start(t.Context(), b.Node)) // it says so on its banner
	f.awaitEpoch(b, 2)
	f.nobodyFailed()
}

// A keeper whose disk is full refuses to begin, with the reason, and nobody hears of a
// new epoch.
func TestKeeperWithAFullDiskRefusesToRotate(t *testing.T) {
	f := newField(t, "b")
	fill, empty := f.tinyDisk("a", "node")
	a, b := f.add("a", "203.0.113.1/24"), f.add("b", "203.0.113.2/24")
	f.start(a, a.at())
	f.start(b, b.at(), "--join", a.at())
	f.awaitAlive()
	fill()
	_, err := f.Ask(t.Context(), keeper, a.Node, "keys", "rotate")
	refusal, ok := errors.AsType[*lab.Refusal](err)
	if !ok || refusal.Code != 1 || !strings.Contains(refusal.Stderr, "the keyring cannot be written") ||
		!strings.Contains(refusal.Stderr, "no space left on device") {
		t.Errorf("got %v, want exit code 1 and the reason", err)
	}
	f.awaitEpoch(a, 1)
	f.awaitEpoch(b, 1)
	f.wantWholeFiles("a")
	empty()
	_, err = f.Ask(t.Context(), keeper, a.Node, "keys", "rotate")
	f.must(err)
	f.awaitEpoch(a, 2)
	f.awaitEpoch(b, 2)
	f.everybodyHears("with space")
}

// An agent that can keep nothing more changes no tags, lets a revocation hold all the
// same, says what is not on disk, stays a member, and writes it when there is space again.
func TestAgentThatCanKeepNothingMoreSaysSoAndStays(t *testing.T) {
	f := newField(t, "b", "c")
	fill, empty := f.tinyDisk("b", "state")
	a, b := f.add("a", "203.0.113.1/24"), f.add("b", "203.0.113.2/24")
	f.start(a, a.at())
	f.start(b, b.at(), "--join", a.at())
	f.awaitAlive()
	fill()
	_, err := f.Ask(t.Context(), keeper, b.Node, "tags", "--set", "role=web")
	if refusal, ok := errors.AsType[*lab.Refusal](err); !ok || refusal.Code != 1 || !strings.Contains(refusal.Stderr, "no space left on device") {
		t.Errorf("tags: got %v, want exit code 1 and the reason", err)
	}
	_, err = f.Ask(t.Context(), keeper, a.Node, "ban", "c")
	f.must(err)
	f.await(lab.Patience, func(ctx context.Context) error {
		_, err := f.Ask(ctx, keeper, b.Node, "status")
		refusal, ok := errors.AsType[*lab.Refusal](err)
		if !ok || refusal.Code != 1 || !strings.Contains(refusal.Stderr, "the disk of this agent does not take what it keeps: ") || !strings.Contains(refusal.Stderr, "revocations (write ") {
			return fmt.Errorf("status: got %w, want exit code 1 and the file", err)
		}
		return nil
	})
	f.awaitSaid(b, "level=ERROR", "a kept file cannot be written", "file=revocations", "no space left on device")
	f.everybodyHears("while the disk is full") // the journal has room for them in its last page
	empty()
	f.await(lab.Patience, func(ctx context.Context) error {
		_, err := f.Ask(ctx, keeper, b.Node, "status")
		return err
	})
	f.awaitSaid(b, "level=INFO", "a kept file is written again", "file=revocations")
	if _, err := os.Stat(filepath.Join(f.In("b"), "state", "revocations")); err != nil {
		t.Error(err)
	}
	f.nobodyFailed()
}
