package keyring

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"
)

func TestEpochsLiveByInstallUseRemove(t *testing.T) {
	k := New(newTestSecret(t, 0xf0))
	if e := k.Primary(); e.Number != 0 || e.Secret != nil {
		t.Errorf("primary of an empty keyring: got %v, want none", e)
	}
	if _, err := k.Primary().Secret.Derive(nil, nil, 32); !errors.Is(err, ErrDestroyed) {
		t.Errorf("deriving from no primary: got %v, want ErrDestroyed", err)
	}
	for _, step := range []struct {
		name string
		do   func() error
		want string
	}{
		{"install 5", func() error { return k.Install(Epoch{Number: 5, Secret: newTestSecret(t, 5)}) }, "5"},
		{"use 5", func() error { return k.Use(5) }, "5*"},
		{"install 7", func() error { return k.Install(Epoch{Number: 7, Secret: newTestSecret(t, 7)}) }, "5* 7"},
		{"install 6", func() error { return k.Install(Epoch{Number: 6, Secret: newTestSecret(t, 6)}) }, "5* 6 7"},
		{"use 7", func() error { return k.Use(7) }, "5 6 7*"},
		{"use 7 again", func() error { return k.Use(7) }, "5 6 7*"},
		{"remove 5", func() error { return k.Remove(5) }, "6 7*"},
		{"remove 6", func() error { return k.Remove(6) }, "7*"},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := numbers(k); got != step.want {
			t.Errorf("%s: got %q, want %q", step.name, got, step.want)
		}
	}
	if got := k.Primary(); got.Number != 7 || got.Secret.Commitment() != newTestSecret(t, 7).Commitment() {
		t.Errorf("primary: got %v, want 7", got)
	}
}

func TestRefusedChangesChangeNothing(t *testing.T) {
	k := newTestKeyring(t, 3)
	const before = "1 2 3*"
	destroyed := newTestSecret(t, 9)
	destroyed.Destroy()
	for _, test := range []struct {
		name string
		do   func() error
		want error
	}{
		{"the same epoch", func() error { return k.Install(Epoch{Number: 2, Secret: newTestSecret(t, 2)}) }, ErrKnown},
		{"another secret", func() error { return k.Install(Epoch{Number: 2, Secret: newTestSecret(t, 9)}) }, ErrConflict},
		{"another epoch's secret", func() error { return k.Install(Epoch{Number: 4, Secret: newTestSecret(t, 2)}) }, ErrInvalidEpoch},
		{"epoch 0", func() error { return k.Install(Epoch{Secret: newTestSecret(t, 9)}) }, ErrInvalidEpoch},
		{"no secret", func() error { return k.Install(Epoch{Number: 4}) }, ErrInvalidEpoch},
		{"destroyed secret", func() error { return k.Install(Epoch{Number: 4, Secret: destroyed}) }, ErrDestroyed},
		{"created in 1960", func() error {
			return k.Install(Epoch{Number: 4, Secret: newTestSecret(t, 9), Created: time.Unix(-1, 0)})
		}, ErrInvalidEpoch},
		{"created in 1970", func() error {
			return k.Install(Epoch{Number: 4, Secret: newTestSecret(t, 9), Created: time.Unix(0, 0)})
		}, ErrInvalidEpoch},
		{"created in 10000", func() error {
			return k.Install(Epoch{Number: 4, Secret: newTestSecret(t, 9), Created: time.Unix(maxCreated+1, 0)})
		}, ErrInvalidEpoch},
		{"endless statement", func() error {
			return k.Install(Epoch{Number: 4, Secret: newTestSecret(t, 9), Statement: make([]byte, MaxStatement+1)})
		}, ErrSize},
		{"replace by the same secret", func() error { return k.Replace(Epoch{Number: 2, Secret: newTestSecret(t, 2)}) }, ErrKnown},
		{"replace by another epoch's", func() error { return k.Replace(Epoch{Number: 2, Secret: newTestSecret(t, 1)}) }, ErrInvalidEpoch},
		{"replace unknown", func() error { return k.Replace(Epoch{Number: 4, Secret: newTestSecret(t, 9)}) }, ErrUnknownEpoch},
		{"use unknown", func() error { return k.Use(4) }, ErrUnknownEpoch},
		{"use 0", func() error { return k.Use(0) }, ErrUnknownEpoch},
		{"remove unknown", func() error { return k.Remove(4) }, ErrUnknownEpoch},
		{"remove the primary", func() error { return k.Remove(3) }, ErrPrimary},
	} {
		if err := test.do(); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
		if got := numbers(k); got != before {
			t.Fatalf("%s: the keyring became %q, want %q", test.name, got, before)
		}
	}
	if err := k.Install(Epoch{Number: 4, Secret: newTestSecret(t, 4), Statement: make([]byte, MaxStatement)}); err != nil {
		t.Fatal(err)
	}
	fifth := newTestSecret(t, 5)
	if err := k.Install(Epoch{Number: 5, Secret: fifth}); !errors.Is(err, ErrFull) {
		t.Errorf("a fifth epoch: got %v, want ErrFull", err)
	}
	if _, err := fifth.Derive(nil, nil, 1); err != nil {
		t.Errorf("the refused secret is the caller's still: %v", err)
	}
	if _, ok := k.Get(5); ok {
		t.Error("the fifth epoch is held")
	}
}

// Of two epochs of one number the other takes the place: the number stays what it
// was, the secret that was held is gone.
func TestReplacedEpochIsWipedAndStaysThePrimary(t *testing.T) {
	k := newTestKeyring(t, 2)
	held := k.Primary()
	other := newTestSecret(t, 9)
	if err := k.Replace(Epoch{Number: 2, Secret: other}); err != nil {
		t.Fatal(err)
	}
	if got := k.Primary(); numbers(k) != "1 2*" || got.Secret != other {
		t.Errorf("the keyring became %q with %v, want %q with the other secret", numbers(k), got.Secret, "1 2*")
	}
	if _, err := held.Secret.Derive(nil, nil, 32); !errors.Is(err, ErrDestroyed) {
		t.Errorf("the secret that was held: got %v, want ErrDestroyed", err)
	}
}

func TestRemovedEpochIsWipedUnderItsHolders(t *testing.T) {
	k := newTestKeyring(t, 2)
	held, ok := k.Get(1)
	if !ok {
		t.Fatal("epoch 1 is not held")
	}
	if err := k.Remove(1); err != nil {
		t.Fatal(err)
	}
	if _, err := held.Secret.Derive(nil, nil, 32); !errors.Is(err, ErrDestroyed) {
		t.Errorf("got %v, want ErrDestroyed", err)
	}
	if _, ok := k.Get(1); ok {
		t.Error("epoch 1 is held still")
	}
}

func TestDestroyedKeyringHoldsAndTakesNothing(t *testing.T) {
	k := newTestKeyring(t, 2)
	primary := k.Primary()
	k.Destroy()
	k.Destroy()
	if got := numbers(k); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
	for name, s := range map[string]*Secret{"primary": primary.Secret, "knock": k.Knock()} {
		if _, err := s.Derive(nil, nil, 32); !errors.Is(err, ErrDestroyed) {
			t.Errorf("%s: got %v, want ErrDestroyed", name, err)
		}
	}
	for name, err := range map[string]error{
		"install": k.Install(Epoch{Number: 9, Secret: newTestSecret(t, 9)}), "use": k.Use(1), "remove": k.Remove(1),
	} {
		if !errors.Is(err, ErrDestroyed) {
			t.Errorf("%s: got %v, want ErrDestroyed", name, err)
		}
	}
}

func TestStatementsAndTimesAreTheKeyringsOwn(t *testing.T) {
	k := New(newTestSecret(t, 0xf0))
	statement := []byte("signed")
	if err := k.Install(Epoch{Number: 1, Created: testTime, Statement: statement, Secret: newTestSecret(t, 1)}); err != nil {
		t.Fatal(err)
	}
	clear(statement)
	e, _ := k.Get(1)
	clear(e.Statement)
	e, _ = k.Get(1)
	if !bytes.Equal(e.Statement, []byte("signed")) {
		t.Errorf("statement: got %q, want it unchanged", e.Statement)
	}
	// As it will be read from a file: whole seconds, UTC.
	if want := time.Date(2026, 11, 23, 14, 4, 5, 0, time.UTC); e.Created != want {
		t.Errorf("created: got %v, want %v", e.Created, want)
	}
}

// A reader goes on with what it got, whatever happens to the keyring.
func TestSnapshotStaysAsItIs(t *testing.T) {
	k := New(newTestSecret(t, 0xf0))
	for _, n := range []byte{4, 6, 8} {
		if err := k.Install(Epoch{Number: uint64(n), Secret: newTestSecret(t, n)}); err != nil {
			t.Fatal(err)
		}
	}
	s := k.snapshot()
	if err := errors.Join(k.Install(Epoch{Number: 5, Secret: newTestSecret(t, 5)}), k.Remove(4)); err != nil {
		t.Fatal(err)
	}
	if s.epochs[0].Number != 4 || s.epochs[1].Number != 6 || s.epochs[2].Number != 8 {
		t.Errorf("got %v, want 4, 6 and 8", s.epochs)
	}
	if got := numbers(k); got != "5 6 8" {
		t.Errorf("got %q, want %q", got, "5 6 8")
	}
}

// Rotations on one goroutine, uses on others, with the race detector watching.
func TestKeyringIsSafeForConcurrentUse(t *testing.T) {
	k := newTestKeyring(t, 1)
	stop := make(chan struct{})
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				e := k.Primary()
				if _, err := e.Secret.Derive(nil, []byte("x"), 32); err != nil && !errors.Is(err, ErrDestroyed) {
					t.Errorf("got %v, want ErrDestroyed or nothing", err)
				}
				primaries := 0
				for _, info := range k.List() {
					if info.Primary {
						primaries++
					}
				}
				if primaries != 1 {
					t.Errorf("got %d primaries, want 1", primaries)
				}
				k.Get(e.Number)
			}
		})
	}
	for n := uint64(2); n < 30; n++ {
		if err := errors.Join(k.Install(Epoch{Number: n, Secret: must(NewSecret())(t)}), k.Use(n), k.Remove(n-1)); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	group.Wait()
}
