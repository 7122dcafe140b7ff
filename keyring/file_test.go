package keyring

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// newTestFile is a saved keyring with epochs 1 to n.
func newTestFile(t testing.TB, n byte) (path string, l *Locker, f *File) {
	t.Helper()
	path, l = filepath.Join(t.TempDir(), "keyring.age"), newTestMachine(t)
	return path, l, must(CreateFile(path, l, newTestKeyring(t, n)))(t)
}

// reopened reads the file as a new process would, and says which epochs it holds.
func reopened(t testing.TB, path string, l *Locker) string {
	t.Helper()
	f, err := OpenFile(path, l)
	if err != nil {
		return err.Error()
	}
	defer f.Keyring().Destroy()
	if f.Recovered() {
		return "recovered " + numbers(f.Keyring())
	}
	return numbers(f.Keyring())
}

func install(n byte, t testing.TB) func(*Keyring) error {
	return func(draft *Keyring) error {
		return draft.Install(Epoch{Number: uint64(n), Secret: newTestSecret(t, n)})
	}
}

func TestKeyringComesBackFromItsFile(t *testing.T) {
	path, l, f := newTestFile(t, 3)
	wantFiles(t, path, "keyring.age")
	again := must(OpenFile(path, l))(t)
	k := again.Keyring()
	defer k.Destroy()
	if again.Recovered() || numbers(k) != "1 2 3*" {
		t.Errorf("got %q, recovered %v", numbers(k), again.Recovered())
	}
	if k.Knock().Commitment() != f.Keyring().Knock().Commitment() {
		t.Error("another knock secret came back")
	}
	for _, info := range f.Keyring().List() {
		want, _ := f.Keyring().Get(info.Number)
		got, _ := k.Get(info.Number)
		if got.Created != want.Created || !bytes.Equal(got.Statement, want.Statement) || got.Secret.Commitment() != want.Secret.Commitment() {
			t.Errorf("epoch %d: got %+v, want %+v", info.Number, got, want)
		}
	}

	if err := again.Update(install(4, t)); err != nil {
		t.Fatal(err)
	}
	if err := k.Use(4); err != nil {
		t.Fatal(err)
	}
	if got, want := reopened(t, path, l), "1 2 3* 4"; got != want {
		t.Errorf("before Save: got %q, want %q", got, want)
	}
	if err := again.Save(); err != nil {
		t.Fatal(err)
	}
	if got, want := reopened(t, path, l), "1 2 3 4*"; got != want {
		t.Errorf("after Save: got %q, want %q", got, want)
	}
	wantFiles(t, path, "keyring.age", "keyring.age.prev")
	for _, name := range []string{path, path + ".prev"} {
		if err := CheckSecretFile(name); err != nil {
			t.Error(err)
		}
	}
}

func TestEmptyKeyringComesBack(t *testing.T) {
	path, l, _ := newTestFile(t, 0)
	if got := reopened(t, path, l); got != "" {
		t.Errorf("got %q, want no epoch", got)
	}
}

// Everything that can have happened to a file, with and without a good previous
// version beside it.
func TestDamagedFileFallsBackToItsPreviousVersion(t *testing.T) {
	path, l, f := newTestFile(t, 1)
	if err := f.Update(install(2, t)); err != nil {
		t.Fatal(err)
	}
	good, previous := must(os.ReadFile(path))(t), must(os.ReadFile(path+".prev"))(t)
	stranger := newTestMachine(t)

	damages := map[string][]byte{
		"empty":                 {},
		"garbage":               []byte("garbage"),
		"zeros":                 make([]byte, len(good)),
		"appended to":           append(bytes.Clone(good), 0),
		"for another machine":   sealed(t, stranger, []byte("x")),
		"for a passphrase":      sealed(t, newTestPassphrase(t, "correct horse"), []byte("x")),
		"not a keyring":         sealed(t, l, []byte("not a keyring")),
		"a truncated keyring":   sealed(t, l, encoded(t, testImage())[:100]),
		"a plaintext keyring":   encoded(t, testImage()),
		"a keyring of nonsense": sealed(t, l, encoded(t, image{knock: plainOf(1), primary: 9})),
	}
	for n := 0; n < len(good); n += 64 {
		damages["truncated to "+string(rune('0'+n/64))] = good[:n]
	}
	for i := 0; i < len(good); i += 61 {
		flipped := bytes.Clone(good)
		flipped[i] ^= 0x10
		damages["flipped at "+string(rune('0'+i/61))] = flipped
	}
	for name, damaged := range damages {
		write(t, path, damaged)
		write(t, path+".prev", previous)
		if got, want := reopened(t, path, l), "recovered 1*"; got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
		if !bytes.Equal(must(os.ReadFile(path))(t), damaged) {
			t.Errorf("%s: reading changed the file", name)
		}

		write(t, path+".prev", damaged)
		if _, err := OpenFile(path, l); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "nor does its previous version read") {
			t.Errorf("%s, both: got %v, want an error with the path", name, err)
		}
		os.Remove(path + ".prev")
		_, err := OpenFile(path, l)
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrWrongKey) && !errors.Is(err, ErrForeign) {
			t.Errorf("%s, alone: got %v, want a sentinel", name, err)
		} else if !strings.Contains(err.Error(), "there is no previous version") || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s, alone: got %v", name, err)
		}
	}
	if _, err := OpenFile(path, stranger); !errors.Is(err, ErrWrongKey) && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrForeign) {
		t.Errorf("another machine: got %v", err)
	}

	os.Remove(path)
	if _, err := OpenFile(path, l); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("nothing there: got %v, want fs.ErrNotExist and the path", err)
	}
	write(t, path+".prev", previous)
	if got, want := reopened(t, path, l), "recovered 1*"; got != want {
		t.Errorf("file missing: got %q, want %q", got, want)
	}
}

func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, content, 0o600), os.Chmod(path, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// A file that was made unsafe or by a newer version calls for a person.
func TestUnsafeOrNewerFileDoesNotFallBack(t *testing.T) {
	path, l, f := newTestFile(t, 1)
	if err := f.Save(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := OpenFile(path, l); !errors.Is(err, ErrPermissions) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by others: got %v, %v, want ErrPermissions and the fix", got, err)
	}
	newer := bytes.Replace(encoded(t, testImage()), []byte("keyring\x01"), []byte("keyring\x02"), 1)
	write(t, path, sealed(t, l, newer))
	if got, err := OpenFile(path, l); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), path) {
		t.Errorf("newer: got %v, %v, want ErrNewer and the path", got, err)
	}
	os.Remove(path)
	if err := os.Symlink(path+".prev", path); err != nil {
		t.Fatal(err)
	}
	if got, err := OpenFile(path, l); !errors.Is(err, ErrPermissions) {
		t.Errorf("symbolic link: got %v, %v, want ErrPermissions", got, err)
	}
	os.Remove(path)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := OpenFile(path, l); !errors.Is(err, ErrPermissions) {
		t.Errorf("directory: got %v, %v, want ErrPermissions", got, err)
	}
	os.Remove(path)
	if err := os.Chmod(path+".prev", 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := OpenFile(path, l); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("only an unsafe previous version: got %v, %v, want the fix", got, err)
	}
}

func TestRecoveredFileIsPutRightBySave(t *testing.T) {
	path, l, f := newTestFile(t, 1)
	if err := f.Update(install(2, t)); err != nil {
		t.Fatal(err)
	}
	write(t, path, []byte("garbage"))
	f = must(OpenFile(path, l))(t)
	defer f.Keyring().Destroy()
	if err := f.Update(install(3, t)); err != nil {
		t.Fatal(err)
	}
	if got, want := reopened(t, path, l), "1* 3"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// The garbage must not have become the previous version.
	os.Remove(path)
	if got, want := reopened(t, path, l), "recovered 1*"; got != want {
		t.Errorf("previous version: got %q, want %q", got, want)
	}
}

// Also when the file decayed while the agent was running.
func TestPreviousVersionIsAlwaysOneThatReads(t *testing.T) {
	path, l, f := newTestFile(t, 1)
	write(t, path, []byte("decayed"))
	if err := f.Update(install(2, t)); err != nil {
		t.Fatal(err)
	}
	write(t, path, []byte("decayed again"))
	if got, want := reopened(t, path, l), "recovered 1*"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A process can be killed between any two steps of a save.
func TestFileReadsAfterAKillAtAnyStep(t *testing.T) {
	path, l, f := newTestFile(t, 1)
	for _, change := range []struct {
		name       string
		do         func(*Keyring) error
		old, after string
	}{
		{"install", install(2, t), "1*", "1* 2"},
		{"use", func(draft *Keyring) error { return draft.Use(2) }, "1* 2", "1 2*"},
		{"remove", func(draft *Keyring) error { return draft.Remove(1) }, "1 2*", "2*"},
	} {
		contentBefore, previousBefore := must(os.ReadFile(path))(t), f.sealed
		if err := f.Update(change.do); err != nil {
			t.Fatal(err)
		}
		content, previous := must(os.ReadFile(path))(t), must(os.ReadFile(path+".prev"))(t)

		// Back to before, and through the steps of replaceBoth one by one.
		write(t, path, contentBefore)
		write(t, path+".prev", previousBefore)
		wantRead := func(step, want string) {
			t.Helper()
			if got := reopened(t, path, l); got != want {
				t.Errorf("%s, killed after %s: got %q, want %q", change.name, step, got, want)
			}
			file := must(os.ReadFile(path))(t)
			os.Remove(path)
			if got := reopened(t, path, l); !strings.HasPrefix(got, "recovered ") {
				t.Errorf("%s, killed after %s, and the file lost: got %q", change.name, step, got)
			}
			write(t, path, file)
		}
		write(t, path+".prev.tmp-1", previous[:len(previous)/2])
		wantRead("half of the first", change.old)
		newPrevious := must(stage(path+".prev", previous))(t)
		newContent := must(stage(path, content))(t)
		wantRead("staging", change.old)
		if err := newPrevious.replace(); err != nil {
			t.Fatal(err)
		}
		wantRead("the first rename", change.old)
		if err := newContent.replace(); err != nil {
			t.Fatal(err)
		}
		wantRead("the second rename", change.after)
		os.Remove(path + ".prev.tmp-1")
		wantFiles(t, path, "keyring.age", "keyring.age.prev")
	}
}

// Threat L09: a retired secret is not kept one more round.
func TestRetiredEpochLeavesBothVersions(t *testing.T) {
	for name, retire := range map[string]func(f *File) error{
		"by Update": func(f *File) error { return f.Update(func(draft *Keyring) error { return draft.Remove(1) }) },
		"by Save":   func(f *File) error { return errors.Join(f.Keyring().Remove(1), f.Save()) },
	} {
		path, l, f := newTestFile(t, 2)
		held, _ := f.Keyring().Get(1)
		if err := retire(f); err != nil {
			t.Fatal(err)
		}
		if _, err := held.Secret.Derive(nil, nil, 1); !errors.Is(err, ErrDestroyed) {
			t.Errorf("%s: in memory: got %v, want ErrDestroyed", name, err)
		}
		if got := reopened(t, path, l); got != "2*" {
			t.Errorf("%s: file: got %q, want %q", name, got, "2*")
		}
		os.Remove(path)
		if got := reopened(t, path, l); got != "recovered 2*" {
			t.Errorf("%s: previous version: got %q, want %q", name, got, "recovered 2*")
		}
	}
}

// The same when another secret of its number takes its place.
func TestReplacedEpochLeavesBothVersions(t *testing.T) {
	path, l, f := newTestFile(t, 2)
	held := f.Keyring().Primary()
	other := newTestSecret(t, 9)
	if err := f.Update(func(draft *Keyring) error { return draft.Replace(Epoch{Number: 2, Secret: other}) }); err != nil {
		t.Fatal(err)
	}
	if _, err := held.Secret.Derive(nil, nil, 1); !errors.Is(err, ErrDestroyed) {
		t.Errorf("in memory: got %v, want ErrDestroyed", err)
	}
	for range 2 { // the file, then its previous version
		again, err := OpenFile(path, l)
		if err != nil {
			t.Fatal(err)
		}
		if got := again.Keyring().Primary(); got.Number != 2 || got.Secret.Commitment() != other.Commitment() {
			t.Errorf("%s: epoch %d with %s, want 2 with %s", path, got.Number, got.Secret, other)
		}
		again.Keyring().Destroy()
		os.Remove(path)
	}
}

// Were the file renamed first, a kill in between would leave the retired secret
// in the previous version. Here the second rename fails.
func TestRetiredEpochLeavesThePreviousVersionFirst(t *testing.T) {
	path, l, f := newTestFile(t, 2)
	if err := errors.Join(f.Save(), os.Remove(path), os.MkdirAll(path+"/full", 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := f.Update(func(draft *Keyring) error { return draft.Remove(1) }); err == nil {
		t.Fatal("saved over a directory")
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if got := reopened(t, path, l); got != "recovered 2*" {
		t.Errorf("got %q, want %q", got, "recovered 2*")
	}
}

func TestPreviousVersionIsTheOneBefore(t *testing.T) {
	path, l, f := newTestFile(t, 1)
	for n, want := range []string{"recovered 1*", "recovered 1* 2", "recovered 1* 2 3"} {
		if err := f.Update(install(byte(n+2), t)); err != nil {
			t.Fatal(err)
		}
		content := must(os.ReadFile(path))(t)
		os.Remove(path)
		if got := reopened(t, path, l); got != want {
			t.Errorf("after epoch %d: got %q, want %q", n+2, got, want)
		}
		write(t, path, content)
	}
}

// In each case something on disk stands in the way.
func TestFailedSaveChangesNothing(t *testing.T) {
	for name, obstruct := range map[string]func(path string) error{
		"previous version is a directory": func(path string) error {
			return errors.Join(os.Remove(path+".prev"), os.MkdirAll(path+".prev/full", 0o700))
		},
		"file is a directory": func(path string) error {
			return errors.Join(os.Remove(path), os.MkdirAll(path+"/full", 0o700))
		},
		"directory is gone": func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
	} {
		path, _, f := newTestFile(t, 2)
		if err := f.Save(); err != nil {
			t.Fatal(err)
		}
		first, _ := f.Keyring().Get(1)
		if err := obstruct(path); err != nil {
			t.Fatal(err)
		}
		third := newTestSecret(t, 3)
		err := f.Update(func(draft *Keyring) error {
			return errors.Join(draft.Install(Epoch{Number: 3, Secret: third}), draft.Use(3), draft.Remove(1))
		})
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), ".tmp-") {
			t.Errorf("%s: got %v, want an error with the path", name, err)
		}
		if got, want := numbers(f.Keyring()), "1 2*"; got != want {
			t.Errorf("%s: the keyring became %q, want %q", name, got, want)
		}
		for what, s := range map[string]*Secret{"installed": third, "removed": first.Secret} {
			if _, err := s.Derive(nil, nil, 1); err != nil {
				t.Errorf("%s: the secret that was to be %s: %v", name, what, err)
			}
		}
		if err := f.Save(); err == nil {
			t.Errorf("%s: Save works", name)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*.tmp-*")); len(left) != 0 {
			t.Errorf("%s: left behind: %q", name, left)
		}
	}
}

func TestRefusedUpdateChangesNothing(t *testing.T) {
	path, l, f := newTestFile(t, 2)
	before := must(os.ReadFile(path))(t)
	third, refused := newTestSecret(t, 3), errors.New("refused")
	var kept *Keyring
	for name, test := range map[string]struct {
		change func(draft *Keyring) error
		want   error
	}{
		"its own error": {func(draft *Keyring) error {
			kept = draft
			return errors.Join(draft.Install(Epoch{Number: 3, Secret: third}), draft.Use(3), draft.Remove(1), refused)
		}, refused},
		"unknown epoch":     {func(draft *Keyring) error { return draft.Use(9) }, ErrUnknownEpoch},
		"destroys its work": {func(draft *Keyring) error { draft.Destroy(); return nil }, ErrDestroyed},
	} {
		if err := f.Update(test.change); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		if got := numbers(f.Keyring()); got != "1 2*" {
			t.Errorf("%s: the keyring became %q", name, got)
		}
	}
	if !bytes.Equal(must(os.ReadFile(path))(t), before) || reopened(t, path, l) != "1 2*" {
		t.Error("the file changed")
	}
	wantFiles(t, path, "keyring.age")
	if _, err := third.Derive(nil, nil, 1); err != nil {
		t.Errorf("the caller's secret: %v", err)
	}
	if err := kept.Use(1); !errors.Is(err, ErrDestroyed) {
		t.Errorf("a draft that was kept: got %v, want ErrDestroyed", err)
	}
	if _, err := f.Keyring().Primary().Secret.Derive(nil, nil, 1); err != nil {
		t.Errorf("the keyring's secrets: %v", err)
	}
}

func TestDestroyedKeyringIsNotSaved(t *testing.T) {
	path, l, f := newTestFile(t, 2)
	f.Keyring().Destroy()
	if err := f.Save(); !errors.Is(err, ErrDestroyed) || !strings.Contains(err.Error(), path) {
		t.Errorf("Save: got %v, want ErrDestroyed", err)
	}
	if err := f.Update(func(*Keyring) error { return nil }); !errors.Is(err, ErrDestroyed) {
		t.Errorf("Update: got %v, want ErrDestroyed", err)
	}
	if got := reopened(t, path, l); got != "1 2*" {
		t.Errorf("the file: got %q, want it unchanged", got)
	}
}

func TestPreviousVersionAloneIsNotOverwritten(t *testing.T) {
	path, l, _ := newTestFile(t, 1)
	if err := os.Rename(path, path+".prev"); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateFile(path, l, newTestKeyring(t, 2)); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), ".prev") {
		t.Errorf("got %v, want ErrExists and the name", err)
	}
	wantFiles(t, path, "keyring.age.prev")
}

// Saves, updates and direct changes at once: every one of them counts, and the
// last version on disk is what is in memory.
func TestChangesAtOnceAreAllSaved(t *testing.T) {
	path, l, f := newTestFile(t, 1)
	var group sync.WaitGroup
	for n := byte(2); n <= MaxEpochs; n++ {
		group.Go(func() {
			if err := f.Update(install(n, t)); err != nil {
				t.Error(err)
			}
			if err := f.Save(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Go(func() {
		for range 100 {
			f.Keyring().Primary().Secret.Derive(nil, nil, 32)
		}
	})
	group.Wait()
	if got, want := reopened(t, path, l), "1* 2 3 4"; got != want || numbers(f.Keyring()) != want {
		t.Errorf("got %q on disk and %q in memory, want %q", got, numbers(f.Keyring()), want)
	}
	wantFiles(t, path, "keyring.age", "keyring.age.prev")
}

// Both versions hold the knock secret and nothing else from then on, whatever changes.
func TestKeyringInMemoryLeavesNothingOnDisk(t *testing.T) {
	path, l, f := newTestFile(t, 2)
	if err := f.Save(); err != nil {
		t.Fatal(err)
	}
	wantEmpty := func(what string) {
		t.Helper()
		for _, name := range []string{path, path + ".prev"} {
			got := must(load(path, name, l))(t)
			if numbers(got.ring) != "" || got.ring.Knock().Commitment() != f.Keyring().Knock().Commitment() {
				t.Errorf("%s: %s holds epochs %q, want the knock secret alone", what, filepath.Base(name), numbers(got.ring))
			}
			got.ring.Destroy()
		}
		wantFiles(t, path, "keyring.age", "keyring.age.prev")
	}
	if f.InMemory() {
		t.Error("in memory before anybody said so")
	}
	if err := f.MemoryOnly(); err != nil || !f.InMemory() {
		t.Fatal(err)
	}
	wantEmpty("at once")
	if err := f.Update(install(3, t)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Update(func(draft *Keyring) error { return errors.Join(draft.Use(3), draft.Remove(1)) }), f.Save()); err != nil {
		t.Fatal(err)
	}
	wantEmpty("after changes")
	if got, want := numbers(f.Keyring()), "2 3*"; got != want {
		t.Errorf("in memory: got %q, want %q", got, want)
	}
}

// A power cut may have kept the newer file and the older previous version.
func TestKeyringInMemoryRemovesEpochsOfEitherVersion(t *testing.T) {
	for name, prepare := range map[string]func(path string, full, empty []byte){
		"only in the previous version": func(path string, full, empty []byte) { write(t, path, empty); write(t, path+".prev", full) },
		"only in the file":             func(path string, full, empty []byte) { write(t, path, full); write(t, path+".prev", empty) },
		"file damaged":                 func(path string, full, _ []byte) { write(t, path, []byte("x")); write(t, path+".prev", full) },
		"previous version damaged":     func(path string, full, empty []byte) { write(t, path, empty); write(t, path+".prev", full[:100]) },
		"no previous version":          func(path string, full, _ []byte) { write(t, path, full); os.Remove(path + ".prev") },
	} {
		path, l, f := newTestFile(t, 2)
		full := must(os.ReadFile(path))(t)
		if err := f.MemoryOnly(); err != nil {
			t.Fatal(err)
		}
		prepare(path, full, must(os.ReadFile(path))(t))
		again := must(OpenFile(path, l))(t)
		if err := again.MemoryOnly(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		again.Keyring().Destroy()
		for _, version := range []string{path, path + ".prev"} {
			got := must(load(path, version, l))(t)
			if numbers(got.ring) != "" {
				t.Errorf("%s: %s holds %q", name, filepath.Base(version), numbers(got.ring))
			}
			got.ring.Destroy()
		}
	}
}

// Epochs that cannot be removed are an error; where there are none, a full disk is none.
func TestKeyringInMemoryThatCannotBeWritten(t *testing.T) {
	path, _, f := newTestFile(t, 2)
	away := filepath.Dir(path) + ".away"
	if err := os.Rename(filepath.Dir(path), away); err != nil {
		t.Fatal(err)
	}
	if err := f.MemoryOnly(); err == nil || f.InMemory() || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, in memory %v, want an error with the path", err, f.InMemory())
	}
	if err := errors.Join(os.Rename(away, filepath.Dir(path)), f.MemoryOnly()); err != nil {
		t.Fatal(err)
	}
	before := must(os.ReadFile(path))(t)
	if err := f.MemoryOnly(); err != nil || !bytes.Equal(must(os.ReadFile(path))(t), before) {
		t.Errorf("got %v, want nothing to be written when there is nothing to remove", err)
	}
}

func TestFileUnderAPassphrase(t *testing.T) {
	path, l := filepath.Join(t.TempDir(), "keyring.age"), newTestPassphrase(t, "correct horse")
	must(CreateFile(path, l, newTestKeyring(t, 1)))(t)
	if got := reopened(t, path, l); got != "1*" {
		t.Errorf("got %q", got)
	}
	if _, err := OpenFile(path, newTestPassphrase(t, "wrong horse")); !errors.Is(err, ErrWrongKey) || !strings.Contains(err.Error(), path) {
		t.Errorf("wrong passphrase: got %v, want ErrWrongKey and the path", err)
	}
}
