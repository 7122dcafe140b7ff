package handler

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Journal remembers runs that were started. A key that Accept has returned true
// for is on disk, and is known until it expires.
type Journal interface {
	Accept(key [16]byte, expires, now time.Time) (fresh bool, err error)
}

// ErrRepeated says that there was no run because one was started before for the
// same event, perhaps before a restart.
var ErrRepeated = errors.New("not run: a run was started for this event before")

// maxRemembered is for events that do not say when they expire. It is the longest
// life that an event may have.
const maxRemembered = time.Hour

// begin puts on disk that a run starts: never twice for one event. What it returns
// undoes nothing; it is called when the run is over.
//
// The steps, and what a kill after each leaves behind:
//
//  1. the event of an idempotent handler is kept: it is run after the restart
//  2. the start is in the journal: the run counts as started and is not repeated,
//     unless the event was kept
//  3. the run, which may be cut short anywhere: the same
//  4. the kept event is removed: the run is over
//
// An event of which there is no copy when the agent starts is not run. That is how
// Serf has it, which keeps what waits in memory.
func (w *worker) begin(e Event) (over func(Result), err error) {
	if w.journal == nil || e.EventID == "" {
		return func(Result) {}, nil
	}
	key := w.runKey(e)
	over = func(Result) {}
	if w.unfinished != "" && w.spec.Settings.Idempotent && !e.again {
		path := filepath.Join(w.unfinished, hex.EncodeToString(key[:])+".json")
		err := keepEvent(path, kept{w.title, e})
		if errors.Is(err, fs.ErrExist) {
			return nil, ErrRepeated // it is being run
		}
		if err != nil {
			return nil, fmt.Errorf("not run: keeping the event: %w", err)
		}
		over = func(r Result) {
			if errors.Is(r.Err, ErrClosed) {
				return // cut short: it is repeated at the next start
			}
			if err := os.Remove(path); err != nil {
				w.logger.Warn("event of a run that is over not removed", "err", err)
			}
		}
	}
	expires := e.Expires
	if expires.IsZero() {
		expires = time.Now().Add(maxRemembered)
	}
	fresh, err := w.journal.Accept(key, expires, time.Now())
	if err != nil {
		over(Result{})
		return nil, fmt.Errorf("not run: %w", err)
	}
	if !fresh && !e.again {
		over(Result{})
		return nil, ErrRepeated
	}
	return over, nil
}

// runKey identifies a run: the handler, who fired the event, and the event.
func (w *worker) runKey(e Event) [16]byte {
	h := sha256.New()
	for _, part := range []string{w.title, e.Principal, e.EventID} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return [16]byte(h.Sum(nil)[:16])
}

// kept is the event of an idempotent handler's run, on disk while it lasts.
type kept struct {
	Handler string
	Event   Event
}

// maxKept bounds what is read of one file, in bytes: 1 MiB of payload in base64,
// tags, and names.
const maxKept = 2 << 20

// keepEvent writes a file of which there is all or nothing after a crash. It is
// fs.ErrExist when there is one.
func keepEvent(path string, k kept) error {
	if _, err := os.Lstat(path); err == nil {
		return fs.ErrExist
	}
	text, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		_ = os.Remove(path + ".new") // nobody reads it
	}
	return err
}

// leftOver names the files of runs that were cut short.
func leftOver(folder string) (names []string, err error) {
	if folder == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, nil
}

// unfinished takes the events of runs that were cut short from their folder. What
// it returns is not on disk any more: it is run once and no more.
func unfinished(folder string, names []string) ([]kept, error) {
	var all []kept
	for _, name := range names {
		path := filepath.Join(folder, name)
		k, readErr := readKept(path)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if readErr == nil {
			k.Event.again = true
			all = append(all, k)
		}
	}
	if len(names) > 0 {
		if err := syncFolder(folder); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(all, func(a, b kept) int { return a.Event.Expires.Compare(b.Event.Expires) })
	return all, nil
}

func readKept(path string) (kept, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return kept{}, err
	}
	if filepath.Ext(path) != ".json" || !info.Mode().IsRegular() || info.Size() > maxKept {
		return kept{}, fmt.Errorf("%q is no kept event", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return kept{}, err
	}
	var k kept
	return k, json.Unmarshal(text, &k)
}

// syncFolder puts on disk which files there are.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
