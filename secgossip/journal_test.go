package secgossip

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var journalNow = time.Unix(1_800_000_000, 0)

func openTestJournal(t *testing.T, path string, now time.Time) *journal {
	t.Helper()
	j, err := openJournal(path, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.close() })
	return j
}

func accept(t *testing.T, j *journal, key byte, want bool) {
	t.Helper()
	got, err := j.accept(journalKey{key}, journalNow.Add(time.Hour), journalNow)
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
	if info, err := os.Stat(path); err != nil || info.Size() != 0 {
		t.Errorf("the file has %v bytes (%v), want 0", info.Size(), err)
	}
}

func TestJournalCutAtEveryByteKeepsWholeEntries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.journal")
	j := openTestJournal(t, path, journalNow)
	for key := range byte(3) {
		accept(t, j, key, true)
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
		if got, want := len(j.seen), n/journalEntrySize; got != want {
			t.Errorf("cut to %d bytes: %d events are remembered, want %d", n, got, want)
		}
		accept(t, j, 9, true)
		if got := openTestJournal(t, path, journalNow); len(got.seen) != n/journalEntrySize+1 {
			t.Errorf("cut to %d bytes: what was accepted afterwards is not remembered", n)
		}
	}
}

func TestDamagedEntryHidesNoOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.journal")
	j := openTestJournal(t, path, journalNow)
	for key := range byte(3) {
		accept(t, j, key, true)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range journalEntrySize * 8 {
		damaged := bytes.Clone(whole)
		damaged[journalEntrySize+bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		j := openTestJournal(t, path, journalNow)
		accept(t, j, 0, false)
		accept(t, j, 2, false)
		if len(j.seen) != 2 {
			t.Errorf("bit %d flipped: %d events are remembered, want 2", bit, len(j.seen))
		}
	}
}

func TestEventIsRefusedWhenTheJournalCannotBeWritten(t *testing.T) {
	j := openTestJournal(t, filepath.Join(t.TempDir(), "events.journal"), journalNow)
	j.file.Close()
	ok, err := j.accept(journalKey{1}, journalNow.Add(time.Hour), journalNow)
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
	if ok, err := j.accept(journalKey{2}, journalNow.Add(time.Hour), journalNow); ok || !errors.Is(err, errJournalFull) {
		t.Errorf("got %t, %v, want errJournalFull", ok, err)
	}
	// Room comes back with time.
	if ok, err := j.accept(journalKey{2}, journalNow.Add(3*time.Hour), journalNow.Add(2*time.Hour)); !ok || err != nil {
		t.Errorf("got %t, %v, want it accepted", ok, err)
	}
}

func TestJournalThatCannotBeOpenedIsAnError(t *testing.T) {
	if j, err := openJournal(filepath.Join(t.TempDir(), "missing", "events.journal"), journalNow); err == nil {
		j.close()
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
