package home

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/rpcauth"
)

func background() context.Context { return context.Background() }

var errFill = errors.New("filling failed")

// fillSome writes a few files, in a folder too, and returns err.
func fillSome(err error) func(Home) error {
	return func(draft Home) error {
		return errors.Join(
			draft.writeFile(fileBundle, []byte("bundle"), 0o644),
			draft.writeFile(fileClientKey, []byte("key"), 0o600),
			err,
		)
	}
}

func TestAHomeThatFailsHalfWayLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	for name, target := range map[string]string{
		"absent":        "home",
		"folders above": filepath.Join("a", "b", "home"),
		"empty folder":  "empty",
	} {
		t.Run(name, func(t *testing.T) {
			if name == "empty folder" {
				if err := os.Mkdir(filepath.Join(dir, target), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			before := tree(t, dir)
			err := Home(filepath.Join(dir, target)).build(t.Context(), fillSome(errFill))
			if !errors.Is(err, errFill) {
				t.Errorf("got %v, want %v", err, errFill)
			}
			mustBe(t, dir, before)
		})
	}
}

func TestAnInterruptedHomeLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	before := tree(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	err := Home(filepath.Join(dir, "a", "home")).build(ctx, func(draft Home) error {
		cancel() // as a signal in the middle does
		return fillSome(nil)(draft)
	})
	if !errors.Is(err, ErrInterrupted) {
		t.Errorf("got %v, want %v", err, ErrInterrupted)
	}
	mustBe(t, dir, before)
}

func TestAHomeAppearsAllAtOnce(t *testing.T) {
	target := filepath.Join(t.TempDir(), "home")
	err := Home(target).build(t.Context(), func(draft Home) error {
		if string(draft) == target {
			t.Error("it is filled in place")
		}
		if err := fillSome(nil)(draft); err != nil {
			return err
		}
		if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("before it is done, its folder is there (%v)", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(target); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("got %v (%v), want a folder with mode 0700", info, err)
	}
}

// Somebody else may be faster; what they have made stays.
func TestAHomeThatAppearsMeanwhileIsNotReplaced(t *testing.T) {
	for name, appear := range map[string]func(path string) error{
		"a file":            func(path string) error { return os.WriteFile(path, []byte("mine"), 0o600) },
		"a folder of files": func(path string) error { return os.MkdirAll(filepath.Join(path, "mine"), 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			target := filepath.Join(dir, "home")
			var before map[string]string
			err := Home(target).build(t.Context(), func(draft Home) error {
				if err := appear(target); err != nil {
					t.Fatal(err)
				}
				before = tree(t, target)
				return fillSome(nil)(draft)
			})
			if err == nil {
				t.Error("it was replaced")
			}
			mustBe(t, target, before)
			if _, err := os.Lstat(draftOf(target)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the draft is left (%v)", err)
			}
		})
	}
}

func TestWhatAKilledCommandLeftIsNotTakenForAHome(t *testing.T) {
	dir := t.TempDir()
	target := Home(filepath.Join(dir, "home"))
	if err := fillSome(nil)(Home(draftOf(string(target)))); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	err := target.Init(t.Context(), request("demo", "web-1"), time.Now())
	if err == nil || !strings.Contains(hintOf(err), "rm -r "+draftOf(string(target))) {
		t.Errorf("got %v with the hint %q, want to be told what to remove", err, hintOf(err))
	}
	mustBe(t, dir, before)
}

func TestNothingIsMadeWhereSomethingIs(t *testing.T) {
	for _, name := range []string{fileBundle, fileConfig, fileUnlock, fileRootKey, fileClientToken, "anything"} {
		t.Run(name, func(t *testing.T) {
			h := Home(t.TempDir())
			if err := h.writeFile(name, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			before := tree(t, string(h))
			now := time.Now()
			for what, err := range map[string]error{
				"check":  h.CheckVacant(),
				"init":   h.Init(t.Context(), request("demo", "web-1"), now),
				"node":   homes(t).keeper.IssueNode(t.Context(), h, NodeOrder{Name: "web-3"}, refuseToAsk, now),
				"client": homes(t).keeper.IssueClient(t.Context(), h, ClientOrder{Name: "bob", Grants: []rpcauth.Grant{"admin"}}, refuseToAsk, now),
			} {
				t.Run(what, func(t *testing.T) { wantHint(t, err, ErrExists, "nothing was changed") })
			}
			mustBe(t, string(h), before)
		})
	}
}

func TestTheFolderWeAreInIsNotReplaced(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := Home(".").CheckVacant(); err == nil || !strings.Contains(err.Error(), "the folder you are in") {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestALinkLeadsToTheHomeAndStays(t *testing.T) {
	dir := t.TempDir()
	link, real := filepath.Join(dir, "link"), filepath.Join(dir, "real")
	if err := errors.Join(os.Mkdir(real, 0o755), os.Symlink("real", link)); err != nil {
		t.Fatal(err)
	}
	if err := Home(link).build(t.Context(), fillSome(nil)); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(link); err != nil || to != "real" {
		t.Errorf("the link leads to %q (%v), want real", to, err)
	}
	if !exists(filepath.Join(real, fileBundle)) {
		t.Error("the home is not where the link leads")
	}
}

// Each of these fails later than the one before, in the real thing.
func TestWhatCannotBeMadeLeavesNothing(t *testing.T) {
	f, now := homes(t), time.Now()
	weak, short, nameless := request("demo", "web-1"), request("demo", "web-1"), request("demo", "")
	weak.WorkFactor, short.Passphrase = 14, []byte("seven77")
	tests := map[string]func(target Home) error{
		"no cluster name":  func(h Home) error { return h.Init(t.Context(), request("", "web-1"), now) },
		"weak work factor": func(h Home) error { return h.Init(t.Context(), weak, now) },
		"short passphrase": func(h Home) error { return h.Init(t.Context(), short, now) },
		"no node name":     func(h Home) error { return h.Init(t.Context(), nameless, now) },
		"life of a second": func(h Home) error {
			return f.keeper.IssueNode(t.Context(), h, NodeOrder{Name: "a", Life: time.Second}, refuseToAsk, now)
		},
		"no passphrase": func(h Home) error {
			return f.keeper.IssueNode(t.Context(), h, NodeOrder{Name: "a", Keeper: true}, refuseToAsk, now)
		},
		"not from a node": func(h Home) error {
			return f.node.IssueNode(t.Context(), h, NodeOrder{Name: "a"}, ask(passphrase), now)
		},
		"not from a client": func(h Home) error {
			return f.client.IssueNode(t.Context(), h, NodeOrder{Name: "a"}, ask(passphrase), now)
		},
		"no grants": func(h Home) error {
			return f.keeper.IssueClient(t.Context(), h, ClientOrder{Name: "a"}, refuseToAsk, now)
		},
		"interrupted at once": func(h Home) error {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return f.keeper.IssueNode(ctx, h, NodeOrder{Name: "a"}, refuseToAsk, now)
		},
		"long after": func(h Home) error {
			return f.keeper.IssueNode(t.Context(), h, NodeOrder{Name: "a"}, refuseToAsk, now.AddDate(2, 0, 0))
		},
	}
	for name, try := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			before := tree(t, dir)
			if err := try(Home(filepath.Join(dir, "a", "home"))); err == nil {
				t.Error("got no error")
			}
			mustBe(t, dir, before)
		})
	}
}

func TestTheRootOpensWithItsPassphraseOnly(t *testing.T) {
	f := homes(t)
	target := Home(filepath.Join(t.TempDir(), "home"))
	order := NodeOrder{Name: "web-4", Keeper: true}
	err := f.keeper.IssueNode(t.Context(), target, order, ask("incorrect horse battery"), time.Now())
	wantHint(t, err, keyring.ErrWrongKey, "the passphrase that `secgossip init` was given")
	if err := f.keeper.IssueNode(t.Context(), target, order, ask(passphrase), time.Now()); err != nil {
		t.Fatal(err)
	}
	if !target.HasIssuer() || target.HasRoot() {
		t.Errorf("the new keeper has an issuer: %t, the root: %t; want true, false", target.HasIssuer(), target.HasRoot())
	}
}
