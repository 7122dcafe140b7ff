package handler

import (
	"testing"

	"golang.org/x/sys/unix"
)

// An agent's memory holds keys and is not readable, which makes files of its children
// in /proc root's. It gets the namespaces all the same, if its user may make them.
func TestUnreadableAgentGivesNamespaces(t *testing.T) {
	needOrdinaryUser(t)
	c := confined(t, Settings{})
	if rehearsed(t, c); !c.canIsolate {
		t.Skipf("this user gets no namespaces: %v", c.unshared)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) }) // Later tests look at themselves.
	c = confined(t, Settings{})
	if rehearsed(t, c); !c.canIsolate {
		t.Errorf("it gives none: %v", c.unshared)
	}
}
