//go:build unix && !aix && !solaris

package home

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockTime is how long Lock waits for one that is about to be let go.
const lockTime = time.Second

// Lock makes sure that one agent at a time uses this home: two would write over
// each other's keyring and journal. Nothing is written; the lock is on the folder
// itself and ends with the process at the latest. Close the result to end it.
func (h Home) Lock() (*os.File, error) {
	folder, err := os.Open(string(h))
	if err != nil {
		return nil, err
	}
	// A process that an agent was just starting when it was killed has a copy of its
	// lock, until it becomes another program or hears that its parent is gone.
	for deadline := time.Now().Add(lockTime); ; time.Sleep(lockTime / 100) {
		err = syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(deadline) {
			break
		}
	}
	if err == nil {
		return folder, nil
	}
	folder.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, &Problem{
			Err:  fmt.Errorf("another agent is running with %s", h),
			Next: "stop that one first, or name another home by --home",
		}
	}
	return nil, fmt.Errorf("locking %s: %w", h, err)
}
