package secgossip

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/secgossip/secgossip/pki"
)

// Journal remembers which events were accepted, so that none is accepted twice:
// not from another peer, not by replay, not after a restart. An event is on disk
// before anything is run for it (design: at most once). The agent has a second
// one, of the runs that it has started.
//
// The file is a sequence of 28-byte entries:
//
//	key 16 | expires 8, unix milliseconds, big-endian | CRC-32 (IEEE) of these 24, 4
//
// The first entry says whose journal it is: its key is the beginning of the cluster id,
// and it never expires. A file is put in place with it, so one without was emptied since,
// and counts as damaged. The entry of key zero, which no hash is, says instead from when
// on everything that was accepted is there: a journal that was new or damaged at its
// start does not know what was before, and still does not at the start after that.
//
// An entry cut short by a crash is cut off at the next start: its event was not
// run. A file that is damaged otherwise is put aside as .bad, and what reads of it is
// used all the same. Entries of expired events are left out whenever the file is written
// anew, at the start and when it has grown; an expired event is refused anyway.
type Journal struct {
	path    string // empty: memory only
	cluster pki.ClusterID

	mu      sync.Mutex
	seen    map[journalKey]time.Time
	scanned time.Time // when expired events were last dropped from seen
	file    *os.File  // nil: memory only
	size    int64     // bytes of whole entries in file
	compact int64     // size from which the file is written anew
	since   time.Time // what was accepted before it may be missing; zero: nothing is

	damaged error // what OpenJournal found wrong; nil: nothing
}

type journalKey = [16]byte

const journalEntrySize = 28

// sinceKey marks the entry that says from when on a journal is complete.
var sinceKey journalKey

// sinceLife is how long it matters what was accepted before: no event of that time is
// valid for longer.
const sinceLife = originLife + pki.Tolerance

// journalFile is the journal of events in the state folder.
const journalFile = "events.journal"

// never is when the entry expires that says whose a journal is. No event's does.
var never = time.UnixMilli(math.MaxInt64)

// maxJournal bounds the journal: one hour, the longest life of an event, at 50
// events a second is 180,000. At 28 bytes that is a 7 MiB file.
const maxJournal = 262_144

// minCompact is the least size at which the file is written anew, in bytes.
// Beyond it the file may become twice as large as what was live in it the last
// time, 14 MiB at most.
const minCompact = 1 << 20

// scanInterval is how often a journal that is full is searched for expired
// events. A search looks at all of them.
const scanInterval = time.Second

// errJournalFull means that events come faster than they expire. It is ErrBusy.
var errJournalFull = fmt.Errorf("%w: event journal is full", ErrBusy)

// OpenJournal reads a cluster's journal at path, drops what has expired and rewrites it.
// An empty path keeps it in memory. What another cluster's events were says nothing of
// ours, so a journal of another is pki.ErrForeign, and stays as it is.
func OpenJournal(path string, cluster pki.ClusterID, now time.Time) (*Journal, error) {
	j := &Journal{path: path, cluster: cluster, seen: make(map[journalKey]time.Time)}
	if path == "" {
		j.since = now
		return j, nil
	}
	damaged, err := j.load(now)
	if err != nil {
		return nil, fmt.Errorf("event journal: %w", err)
	}
	if damaged > 0 {
		j.damaged = fmt.Errorf("%s: %w: %d entries do not read or are missing", path, errDamaged, damaged)
		// The file is replaced below. Its second name keeps it, for whoever wants to know
		// why; where no such name can be made, the journal is no worse for it.
		bad := path + ".bad"
		if err := os.Remove(bad); err == nil || errors.Is(err, fs.ErrNotExist) {
			j.damaged = errors.Join(j.damaged, os.Link(path, bad))
		}
	}
	if err := j.rewriteLocked(); err != nil {
		j.Close()
		return nil, fmt.Errorf("event journal: %w", err)
	}
	return j, nil
}

// Damaged says what OpenJournal found wrong in the file, if it did. Nothing that may have
// been accepted before is accepted again.
func (j *Journal) Damaged() error { return j.damaged }

// Accept records the event and reports whether it was new. When it returns
// true, the entry is on disk.
func (j *Journal) Accept(key journalKey, expires, now time.Time) (bool, error) {
	fresh, err := j.acceptAll([]journalEntry{{key, expires}}, now)
	return err == nil && fresh[0], err
}

// journalEntry is an event as the journal knows it.
type journalEntry struct {
	key     journalKey
	expires time.Time
}

// acceptAll is Accept for several events that wait together: they share one write and
// one sync. It takes all of them in or none.
func (j *Journal) acceptAll(entries []journalEntry, now time.Time) ([]bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fresh := make([]bool, len(entries))
	batch := make(map[journalKey]time.Time, len(entries))
	var content []byte
	for i, e := range entries {
		_, known := j.seen[e.key]
		_, twice := batch[e.key]
		if known || twice {
			continue
		}
		fresh[i], batch[e.key] = true, e.expires
		content = appendEntry(content, e.key, e.expires)
	}
	if len(batch) == 0 {
		return fresh, nil
	}
	if len(j.seen)+len(batch) > maxJournal {
		j.forgetLocked(now)
		if len(j.seen)+len(batch) > maxJournal {
			return nil, errJournalFull
		}
	}
	if j.file != nil {
		if j.size >= j.compact {
			j.forgetLocked(now)
			if err := j.rewriteLocked(); err != nil {
				return nil, fmt.Errorf("event journal: %w", err)
			}
		}
		// Written at the end of the last whole entry: what a full disk cut
		// short is overwritten by the next one.
		if _, err := j.file.WriteAt(content, j.size); err != nil {
			return nil, fmt.Errorf("event journal: %w", err)
		}
		if err := j.file.Sync(); err != nil {
			return nil, fmt.Errorf("event journal: %w", err)
		}
		j.size += int64(len(content))
	}
	maps.Copy(j.seen, batch)
	return fresh, nil
}

// has reports whether the event was accepted before.
func (j *Journal) has(key journalKey) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, known := j.seen[key]
	return known
}

// forgetLocked drops expired events from memory, at most once in scanInterval.
// The file shrinks when it is next written anew.
func (j *Journal) forgetLocked(now time.Time) {
	if since := now.Sub(j.scanned); since >= 0 && since < scanInterval {
		return
	}
	j.scanned = now
	for key, expires := range j.seen {
		if now.After(expires) {
			delete(j.seen, key)
		}
	}
}

// Close closes the file. What is accepted afterwards is in memory only.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}

// load reads the whole file, keeps what is live and counts the entries that are damaged.
func (j *Journal) load(now time.Time) (damaged int, err error) {
	file, err := os.Open(j.path)
	if errors.Is(err, os.ErrNotExist) {
		j.since = now
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	in := bufio.NewReaderSize(file, 64<<10)
	var entry [journalEntrySize]byte
	owned := false
	for {
		_, err := io.ReadFull(in, entry[:])
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			if !owned {
				j.since = now
				damaged++
			}
			j.trim(maxJournal)
			return damaged, nil
		}
		if err != nil {
			return 0, err
		}
		key, expires, ok := parseEntry(entry[:])
		switch {
		case !ok:
			// A damaged entry is passed over. Nobody knows what it named, and so what
			// was issued before this start is not taken: see Node.isStale.
			j.since = now
			damaged++
		case expires.Equal(never):
			if key != j.ownerKey() {
				return 0, fmt.Errorf("%s: %w: of cluster %x..., and this is %s; move the file away, or use the home that it belongs to",
					j.path, pki.ErrForeign, key[:8], j.cluster)
			}
			owned = true
		case key == sinceKey:
			if expires.After(now) { // the clock was ahead then
				expires = now
			}
			if expires.After(j.since) && expires.Add(sinceLife).After(now) {
				j.since = expires
			}
		case expires.After(now):
			j.seen[key] = expires
		}
		if len(j.seen) >= 2*maxJournal { // no file of ours is like this
			j.trim(maxJournal)
		}
	}
}

// trim keeps the most events that expire last: the others are the sooner
// harmless.
func (j *Journal) trim(most int) {
	if len(j.seen) <= most {
		return
	}
	keys := slices.SortedFunc(maps.Keys(j.seen), func(a, b journalKey) int { return j.seen[a].Compare(j.seen[b]) })
	for _, key := range keys[:len(keys)-most] {
		delete(j.seen, key)
	}
}

// rewriteLocked replaces the file by one with the live entries and leaves it open
// for appending. When that cannot be done, a running journal goes on with the
// file it has, which is whole, and tries again a little later. It is an error
// when the new file might lose its name in a power cut: what is then appended
// might be lost, so no event is accepted until a rewrite succeeds.
func (j *Journal) rewriteLocked() error {
	content := make([]byte, 0, (len(j.seen)+3)*journalEntrySize)
	content = appendEntry(content, j.ownerKey(), never)
	if !j.since.IsZero() {
		content = appendEntry(content, sinceKey, j.since)
	}
	for key, expires := range j.seen {
		content = appendEntry(content, key, expires)
	}
	next, err := replaceFile(j.path, content)
	if next == nil {
		if j.compact == 0 {
			return err
		}
		j.compact = j.size + minCompact
		return nil
	}
	if j.file != nil {
		j.file.Close() // all its live entries are in the new one
	}
	j.file, j.size = next, int64(len(content))
	if err != nil {
		j.compact = 0
		return err
	}
	j.compact = max(minCompact, 2*j.size)
	return nil
}

// ownerKey is the key of the entry that says whose the journal is.
func (j *Journal) ownerKey() journalKey { return journalKey(j.cluster[:16]) }

// probe reports whether the disk would take an entry. It leaves one behind the last
// that has expired long ago, for the next to be written over.
func (j *Journal) probe() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	if _, err := j.file.WriteAt(appendEntry(nil, j.ownerKey(), time.UnixMilli(0)), j.size); err != nil {
		return err
	}
	return j.file.Sync()
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
