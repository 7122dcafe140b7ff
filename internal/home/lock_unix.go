//go:build unix && !aix && !solaris

package home

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Lock makes sure that one agent at a time uses this home: two would write over
// each other's keyring and journal. Nothing is written; the lock is on the folder
// itself and ends with the process at the latest. Close the result to end it.
func (h Home) Lock() (*os.File, error) {
	folder, err := os.Open(string(h))
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
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
