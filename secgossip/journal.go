package secgossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// journal remembers which events were accepted, so that none is accepted twice:
// not from another peer, not by replay, not after a restart. An event is on disk
// before anything is run for it (design: at most once).
//
// The file is a sequence of 28-byte entries:
//
//	key 16 | expires 8, unix milliseconds, big-endian | CRC-32 (IEEE) of these 24, 4
//
// An entry cut short by a crash is cut off at the next start: its event was not
// run. Entries of expired events are left out when the file is opened; an
// expired event is refused anyway.
type journal struct {
	mu   sync.Mutex
	seen map[journalKey]time.Time
	file *os.File // nil: memory only
	size int64    // bytes of whole entries in file
}

type journalKey [16]byte

const journalEntrySize = 28

// maxJournal bounds the journal: one hour, the longest life of an event, at 50
// events a second is 180,000. At 28 bytes that is a 7 MiB file.
const maxJournal = 262_144

// errJournalFull means that events come faster than they expire.
var errJournalFull = errors.New("event journal is full")

// openJournal reads the journal at path, drops what has expired and rewrites it.
// An empty path keeps it in memory.
func openJournal(path string, now time.Time) (*journal, error) {
	j := &journal{seen: make(map[journalKey]time.Time)}
	if path == "" {
		return j, nil
	}
	if err := j.load(path, now); err != nil {
		return nil, fmt.Errorf("event journal: %w", err)
	}
	if err := j.rewrite(path); err != nil {
		return nil, fmt.Errorf("event journal: %w", err)
	}
	return j, nil
}

// accept records the event and reports whether it was new. When it returns
// true, the entry is on disk.
func (j *journal) accept(key journalKey, expires, now time.Time) (bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, known := j.seen[key]; known {
		return false, nil
	}
	if len(j.seen) >= maxJournal {
		j.forgetLocked(now)
		if len(j.seen) >= maxJournal {
			return false, errJournalFull
		}
	}
	if j.file != nil {
		// Written at the end of the last whole entry: what a full disk cut
		// short is overwritten by the next one.
		if _, err := j.file.WriteAt(appendEntry(nil, key, expires), j.size); err != nil {
			return false, fmt.Errorf("event journal: %w", err)
		}
		if err := j.file.Sync(); err != nil {
			return false, fmt.Errorf("event journal: %w", err)
		}
		j.size += journalEntrySize
	}
	j.seen[key] = expires
	return true, nil
}

// forgetLocked drops expired events from memory. The file shrinks at the next
// start.
func (j *journal) forgetLocked(now time.Time) {
	for key, expires := range j.seen {
		if now.After(expires) {
			delete(j.seen, key)
		}
	}
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}

func (j *journal) load(path string, now time.Time) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	var entry [journalEntrySize]byte
	for range maxJournal {
		if _, err := io.ReadFull(file, entry[:]); err != nil {
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return nil
			}
			return err
		}
		key, expires, ok := parseEntry(entry[:])
		// A damaged entry is passed over: what it named may run once more, and
		// everything else is still protected.
		if ok && expires.After(now) {
			j.seen[key] = expires
		}
	}
	return nil
}

// rewrite replaces the file by one with the live entries and leaves it open for
// appending.
func (j *journal) rewrite(path string) error {
	next, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	var content []byte
	for key, expires := range j.seen {
		content = appendEntry(content, key, expires)
	}
	_, err = next.Write(content)
	if err == nil {
		err = next.Sync()
	}
	if err == nil {
		err = os.Rename(next.Name(), path)
	}
	if err != nil {
		next.Close()
		os.Remove(next.Name())
		return err
	}
	j.file, j.size = next, int64(len(content))
	return nil
}

func appendEntry(b []byte, key journalKey, expires time.Time) []byte {
	start := len(b)
	b = append(b, key[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(expires.UnixMilli()))
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[start:]))
}

func parseEntry(b []byte) (key journalKey, expires time.Time, ok bool) {
	if len(b) != journalEntrySize || crc32.ChecksumIEEE(b[:24]) != binary.BigEndian.Uint32(b[24:]) {
		return key, expires, false
	}
	return journalKey(b[:16]), time.UnixMilli(int64(binary.BigEndian.Uint64(b[16:24]))), true
}
