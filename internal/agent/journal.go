package agent

import (
	"time"

	"github.com/secgossip/secgossip/secgossip"
)

// runJournal is the journal of the runs that were started. It is opened when it is
// sure that the agent starts.
type runJournal struct{ journal *secgossip.Journal }

func (j *runJournal) open(path string) (err error) {
	j.journal, err = secgossip.OpenJournal(path, time.Now())
	return err
}

// Accept implements handler.Journal.
func (j *runJournal) Accept(key [16]byte, expires, now time.Time) (bool, error) {
	return j.journal.Accept(key, expires, now)
}

func (j *runJournal) close() error {
	if j.journal == nil {
		return nil
	}
	return j.journal.Close()
}
