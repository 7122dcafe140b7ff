package agent

import (
	"sync"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip"
)

// runJournal is the journal of the runs that were started. It is opened when the agent
// runs: one that does not get to start leaves nothing behind.
type runJournal struct {
	path    string
	cluster pki.ClusterID

	mu      sync.Mutex
	journal *secgossip.Journal
}

// open opens it, unless it is open.
func (j *runJournal) open(now time.Time) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.openLocked(now)
}

func (j *runJournal) openLocked(now time.Time) error {
	if j.journal != nil {
		return nil
	}
	journal, err := secgossip.OpenJournal(j.path, j.cluster, now)
	if err == nil {
		j.journal = journal
	}
	return err
}

// damaged says what was wrong with it when it was opened.
func (j *runJournal) damaged() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.journal == nil {
		return nil
	}
	return j.journal.Damaged()
}

// since returns the time from which on all runs are known. While the journal cannot be
// opened, nothing is.
func (j *runJournal) since() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	if now := time.Now(); j.openLocked(now) != nil {
		return now
	}
	return j.journal.Since()
}

// Accept implements handler.Journal. While the journal cannot be opened no run is
// accepted, and each tries again.
func (j *runJournal) Accept(key [16]byte, expires, now time.Time) (bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(now); err != nil {
		return false, err
	}
	return j.journal.Accept(key, expires, now)
}

func (j *runJournal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.journal == nil {
		return nil
	}
	return j.journal.Close()
}
