package handler

import (
	"os"
	"runtime"
	"testing"
)

// Threads that are there already must not use up what a run may start.
func TestThreadsOfThisUserAreCounted(t *testing.T) {
	before, err := threadsOf(uint32(os.Getuid()), 0)
	if err != nil || before == 0 {
		t.Fatalf("got %d, %v: this process alone has some", before, err)
	}
	stop := make(chan struct{})
	started := make(chan struct{})
	const more = 20
	for range more {
		go func() {
			runtime.LockOSThread() // a goroutine that ends locked takes its thread along
			started <- struct{}{}
			<-stop
		}()
	}
	for range more {
		<-started
	}
	defer close(stop)
	after, err := threadsOf(uint32(os.Getuid()), 0)
	if err != nil || after <= before {
		t.Errorf("got %d, %v after %d more threads than the %d before", after, err, more, before)
	}
	if none, err := threadsOf(4_000_000_000, 0); err != nil || none != 0 {
		t.Errorf("a user without processes has %d threads (%v)", none, err)
	}
}
