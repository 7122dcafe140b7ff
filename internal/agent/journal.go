package agent

import (
	"sync"
	"time"

	"github.com/secgossip/secgossip/secgossip"
)

// runJournal is the journal of the runs that were started. It is opened by the first
// of them: an agent that does not get to start leaves nothing behind.
type runJournal struct {
	path string

	mu      sync.Mutex
	journal *secgossip.Journal
}

// Accept implements handler.Journal. While the journal cannot be opened no run is
// accepted, and each tries again.
func (j *runJournal) Accept(key [16]byte, expires, now time.Time) (bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.journal == nil {
		journal, err := secgossip.OpenJournal(j.path, now)
		if err != nil {
			return false, err
		}
		j.journal = journal
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
