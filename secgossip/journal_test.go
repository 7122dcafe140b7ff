package secgossip

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/pki"
)

var (
	journalNow     = time.Unix(1_800_000_000, 0)
	journalCluster = pki.ClusterID{1, 2, 3}
)

func openTestJournal(t *testing.T, path string, now time.Time) *Journal {
	t.Helper()
	j, err := OpenJournal(path, journalCluster, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func accept(t *testing.T, j *Journal, key byte, want bool) {
	t.Helper()
	got, err := j.Accept(journalKey{key}, journalNow.Add(time.Hour), journalNow)
	if err != nil || got != want {
		t.Errorf("event %d: got %t, %v, want %t", key, got, err, want)
	}
}

func TestEventIsAcceptedOnceAcrossRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.journal")
	j := openTestJournal(t, path, journalNow)
	accept(t, j, 1, true)
	accept(t, j, 1, false)
	accept(t, j, 2, true)
	// Not closed: the process was killed.
	j = openTestJournal(t, path, journalNow)
	accept(t, j, 1, false)
	accept(t, j, 2, false)
	accept(t, j, 3, true)
}

func TestJournalForgetsExpiredEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.journal")
	accept(t, openTestJournal(t, path, journalNow), 1, true)
	later := openTestJournal(t, path, journalNow.Add(2*time.Hour))
	if len(later.seen) != 0 {
		t.Errorf("%d events are remembered after they expired", len(later.seen))
	}
	if info, err := os.Stat(path); err != nil || info.Size() != journalEntrySize {
		t.Errorf("the file has %v bytes (%v), want whose it is and no more", info.Size(), err)
	}
}

func TestJournalCutAtEveryByteKeepsWholeEntries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.journal")
	j := openTestJournal(t, path, journalNow)
	for key := range byte(3) {
		accept(t, j, key+1, true)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		j := openTestJournal(t, path, journalNow)
		// The first two entries are no events.
		events := max(0, n/journalEntrySize-2)
		if got, want := len(j.seen), events; got != want {
			t.Errorf("cut to %d bytes: %d events are remembered, want %d", n, got, want)
		}
		accept(t, j, 9, true)
		if got := openTestJournal(t, path, journalNow); len(got.seen) != events+1 {
			t.Errorf("cut to %d bytes: what was accepted afterwards is not remembered", n)
		}
	}
}

// What a journal does not know at one start it does not know at the next.
func TestJournalKnowsForAnHourSinceWhenItIsComplete(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "events.journal")
	since := func(now time.Time, want time.Time, claim string) {
		t.Helper()
		if got := openTestJournal(t, path, now).Since(); !got.Equal(want) {
			t.Errorf("%s: complete since %v, want %v", claim, got, want)
		}
	}
	later := journalNow.Add(time.Minute)
	since(journalNow, journalNow, "new")
	since(later, journalNow, "opened again")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[3] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	since(later, later, "damaged")
	since(later.Add(sinceLife-time.Millisecond), later, "while what was before may be valid")
	since(later.Add(sinceLife), time.Time{}, "after that")
}

// A file that is there and does not say whose it is, was emptied: all that it knew is lost.
// One that never was, or was not put in place yet when a crash came, is new.
func TestEmptiedJournalCountsAsLost(t *testing.T) {
	later := journalNow.Add(2 * sinceLife)
	for claim, test := range map[string]struct {
		change  func(path string) error
		since   time.Time // as the next start has it
		damaged bool
	}{
		"untouched": {func(string) error { return nil }, time.Time{}, false},
		"emptied":   {func(path string) error { return os.Truncate(path, 0) }, later, true},
		"cut short": {func(path string) error { return os.Truncate(path, journalEntrySize-1) }, later, true},
		"without its beginning": {func(path string) error {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, content[journalEntrySize:], 0o600)
		}, later, true},
		"gone":             {os.Remove, later, false},
		"not yet in place": {func(path string) error { return os.Rename(path, path+".new") }, later, false},
	} {
		path := filepath.Join(t.TempDir(), "events.journal")
		open := func(now time.Time) *Journal {
			j, err := OpenJournal(path, journalCluster, now)
			if err != nil {
				t.Fatal(err)
			}
			return j
		}
		j := open(journalNow)
		accept(t, j, 1, true)
		j.Close()
		j = open(later.Add(-time.Minute)) // since then nothing is missing in it
		j.Close()
		if err := test.change(path); err != nil {
			t.Fatal(err)
		}
		for start := range 2 { // and the second start does not know more, and does not complain
			j = open(later)
			if !j.Since().Equal(test.since) {
				t.Errorf("%s: complete since %v, want %v", claim, j.Since(), test.since)
			}
			if err := j.Damaged(); (err != nil) != (test.damaged && start == 0) {
				t.Errorf("%s: at start %d: %v", claim, start, err)
			}
			j.Close()
		}
	}
}

func TestDamagedEntryHidesNoOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.journal")
	j := openTestJournal(t, path, journalNow)
	for key := range byte(3) {
		accept(t, j, key+1, true)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range journalEntrySize * 8 {
		damaged := bytes.Clone(whole)
		damaged[3*journalEntrySize+bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		j := openTestJournal(t, path, journalNow)
		accept(t, j, 1, false)
		accept(t, j, 3, false)
		if len(j.seen) != 2 {
			t.Errorf("bit %d flipped: %d events are remembered, want 2", bit, len(j.seen))
		}
	}
}

func TestDamagedJournalIsPutAsideAndSaidOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.journal")
	j := openTestJournal(t, path, journalNow)
	accept(t, j, 1, true)
	if err := j.Damaged(); err != nil {
		t.Errorf("a new one: got %v", err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, content := range [][]byte{bytes.Repeat([]byte("x"), 3*journalEntrySize), append([]byte{^whole[0]}, whole[1:]...)} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := openTestJournal(t, path, journalNow).Damaged(); !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), path) {
			t.Errorf("file %d: got %v, want that it is damaged, by name", i, err)
		}
		if got, err := os.ReadFile(path + ".bad"); err != nil || !bytes.Equal(got, content) {
			t.Errorf("file %d, put aside: got %x, %v, want it as it was", i, got, err)
		}
		if err := openTestJournal(t, path, journalNow).Damaged(); err != nil {
			t.Errorf("file %d, at the start after that: got %v", i, err)
		}
	}
	// The end of an entry that a crash cut short is no damage.
	if err := os.WriteFile(path, whole[:len(whole)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := openTestJournal(t, path, journalNow).Damaged(); err != nil {
		t.Errorf("cut short: got %v", err)
	}
}

func TestEventIsRefusedWhenTheJournalCannotBeWritten(t *testing.T) {
	j := openTestJournal(t, filepath.Join(t.TempDir(), "events.journal"), journalNow)
	j.file.Close()
	ok, err := j.Accept(journalKey{1}, journalNow.Add(time.Hour), journalNow)
	if ok || !errors.Is(err, fs.ErrClosed) {
		t.Errorf("got %t, %v, want a refusal with the cause", ok, err)
	}
	if _, known := j.seen[journalKey{1}]; known {
		t.Error("the refused event counts as seen")
	}
}

func TestJournalIsBounded(t *testing.T) {
	j := openTestJournal(t, "", journalNow)
	for i := range maxJournal {
		j.seen[journalKey{byte(i), byte(i >> 8), byte(i >> 16), 1}] = journalNow.Add(time.Hour)
	}
	if ok, err := j.Accept(journalKey{2}, journalNow.Add(time.Hour), journalNow); ok || !errors.Is(err, errJournalFull) {
		t.Errorf("got %t, %v, want errJournalFull", ok, err)
	}
	// Room comes back with time.
	if ok, err := j.Accept(journalKey{2}, journalNow.Add(3*time.Hour), journalNow.Add(2*time.Hour)); !ok || err != nil {
		t.Errorf("got %t, %v, want it accepted", ok, err)
	}
}

func TestJournalThatCannotBeOpenedIsAnError(t *testing.T) {
	if j, err := OpenJournal(filepath.Join(t.TempDir(), "missing", "events.journal"), journalCluster, journalNow); err == nil {
		j.Close()
		t.Error("a journal in a folder that is not there was opened")
	}
}

// What is read back is what was written, whatever the bytes.
func FuzzJournalEntry(f *testing.F) {
	f.Add(appendEntry(nil, journalKey{1}, journalNow))
	f.Add(make([]byte, journalEntrySize))
	f.Fuzz(func(t *testing.T, b []byte) {
		key, expires, ok := parseEntry(b)
		if ok && !bytes.Equal(appendEntry(nil, key, expires), b) {
			t.Errorf("%x is read and written differently", b)
		}
	})
}

func TestANewEntryBehindManyOldOnesIsNotForgotten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.journal")
	var content []byte
	for i := range maxJournal + 10 {
		content = appendEntry(content, journalKey{byte(i), byte(i >> 8), byte(i >> 16), 1}, journalNow.Add(-time.Second))
	}
	content = appendEntry(content, journalKey{7}, journalNow.Add(time.Hour))
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	j := openTestJournal(t, path, journalNow)
	accept(t, j, 7, false)
	if len(j.seen) != 1 {
		t.Errorf("%d events are remembered, want 1", len(j.seen))
	}
}

func TestTooLargeAJournalKeepsWhatExpiresLast(t *testing.T) {
	j := openTestJournal(t, "", journalNow)
	for i := range byte(5) {
		j.seen[journalKey{i}] = journalNow.Add(time.Duration(i*3%5) * time.Minute)
	}
	j.trim(2)
	for i := range byte(5) {
		if _, kept := j.seen[journalKey{i}]; kept != (i*3%5 >= 3) {
			t.Errorf("event that expires in %d minutes: kept %t", i*3%5, kept)
		}
	}
}

func TestJournalFileShrinksWhileRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.journal")
	content := appendEntry(nil, journalKey(journalCluster[:16]), never)
	for i := range minCompact/journalEntrySize + 1 {
		content = appendEntry(content, journalKey{byte(i), byte(i >> 8), byte(i >> 16), 1}, journalNow.Add(time.Minute))
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	j := openTestJournal(t, path, journalNow)
	j.compact = j.size + journalEntrySize // one event more and it has grown enough
	accept(t, j, 2, true)
	later := journalNow.Add(2 * time.Minute)
	if ok, err := j.Accept(journalKey{3}, later.Add(time.Hour), later); !ok || err != nil {
		t.Fatalf("got %t, %v, want it accepted", ok, err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 3*journalEntrySize {
		t.Errorf("the file has %d bytes (%v), want whose it is and two events", info.Size(), err)
	}
	// What was accepted before and after is in the file that a restart reads.
	j = openTestJournal(t, path, later)
	accept(t, j, 2, false)
	accept(t, j, 3, false)
}

func TestJournalThatCannotBeWrittenAnewGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.journal")
	j := openTestJournal(t, path, journalNow)
	j.compact = 1
	// A folder that is not empty cannot be removed, whoever asks.
	if err := os.MkdirAll(filepath.Join(path+".new", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	accept(t, j, 1, true)
	accept(t, j, 2, true)
	if err := os.RemoveAll(path + ".new"); err != nil {
		t.Fatal(err)
	}
	j = openTestJournal(t, path, journalNow)
	accept(t, j, 1, false)
	accept(t, j, 2, false)
}

func TestFullJournalIsSearchedOnceASecond(t *testing.T) {
	j := openTestJournal(t, "", journalNow)
	now := journalNow
	search := func() bool {
		j.seen[journalKey{1}] = now.Add(-time.Hour)
		j.forgetLocked(now)
		return len(j.seen) == 0
	}
	for _, step := range []struct {
		wait time.Duration
		want bool
	}{{0, true}, {0, false}, {scanInterval - 1, false}, {1, true}, {-time.Hour, true}} {
		now = now.Add(step.wait)
		if got := search(); got != step.want {
			t.Errorf("%v later: searched %t, want %t", step.wait, got, step.want)
		}
	}
}

func TestAFullJournalIsBusy(t *testing.T) {
	if !errors.Is(errJournalFull, ErrBusy) {
		t.Errorf("%v is not %v", errJournalFull, ErrBusy)
	}
}
