package secgossip

import (
	"log/slog"
	"sync"
	"time"
)

// unwritten knows which files of this node the disk did not take the last time. What
// they hold is in memory and counts; an operator must make room before the next start.
type unwritten struct {
	logger *slog.Logger

	mu    sync.Mutex
	files map[string]*refusedFile
}

type refusedFile struct {
	err  error
	said time.Time // zero: never
}

// writeAgain is how soon a file is tried again that the disk did not take.
const writeAgain = 5 * time.Second

func newUnwritten(logger *slog.Logger) *unwritten {
	return &unwritten{logger: logger, files: make(map[string]*refusedFile)}
}

// mark notes how writing a file went.
func (u *unwritten) mark(file string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.markLocked(file, err)
}

func (u *unwritten) markLocked(file string, err error) *refusedFile {
	if err == nil {
		delete(u.files, file)
		return nil
	}
	if u.files[file] == nil {
		u.files[file] = new(refusedFile)
	}
	u.files[file].err = err
	return u.files[file]
}

// note is mark, and says so: once an hour that it cannot be written, and the end of it.
func (u *unwritten) note(file string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	before := u.files[file]
	f := u.markLocked(file, err)
	switch now := time.Now(); {
	case f == nil && before != nil:
		u.logger.Info("a kept file is written again", slog.String("file", file))
	case f != nil && (f.said.IsZero() || now.Sub(f.said) >= warnEvery):
		f.said = now
		u.logger.Error("a kept file cannot be written: what was in it stays, and it is tried again", slog.String("file", file), slog.Any("error", err))
	}
}

// has reports whether the disk did not take a file.
func (u *unwritten) has(file string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.files[file] != nil
}

func (u *unwritten) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.files)
}

// list says of each file why.
func (u *unwritten) list() map[string]string {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := make(map[string]string)
	for file, f := range u.files {
		all[file] = f.err.Error()
	}
	return all
}

// writeUnwritten tries again what the disk did not take. The keyring has its own ways.
func (n *Node) writeUnwritten() {
	if n.unwritten.has(recordsFile) {
		n.saveRecords()
	}
	if n.unwritten.has(revocationsFile) {
		n.revocations.writeAgain()
	}
	if n.unwritten.has(clocksFile) {
		wake(n.lamport.moved)
	}
	if n.unwritten.has(journalFile) {
		n.unwritten.mark(journalFile, n.journal.probe())
	}
}
