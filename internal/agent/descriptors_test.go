//go:build unix

package agent

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/secgossip/secgossip/internal/home"
)

func TestEightHandlersFitInTheDefaultLimit(t *testing.T) {
	if got := descriptorsNeeded(8); got > 1024-64 {
		t.Errorf("8 handlers need %d of 1024 descriptors, with less than 64 to spare", got)
	}
}

func TestTooFewDescriptorsAreRefusedWithWhatToDo(t *testing.T) {
	need := descriptorsNeeded(3)
	if err := enoughDescriptors(need, 3); err != nil {
		t.Error(err)
	}
	err := enoughDescriptors(need-1, 3)
	var problem *home.Problem
	if !errors.As(err, &problem) || !strings.Contains(problem.Hint(), "LimitNOFILE=1024") || !strings.Contains(problem.Hint(), "ulimit -n 1024") {
		t.Errorf("got %v, want a problem with what to do", err)
	}
}

// checkDescriptors relies on it.
func TestSoftLimitIsTheHardOne(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur != limit.Max {
		t.Errorf("the soft limit is %d and the hard one %d", limit.Cur, limit.Max)
	}
}
