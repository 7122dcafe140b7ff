package keyring

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHardenShutsTheProcess(t *testing.T) {
	if !inChild(t) {
		return
	}
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &before); err != nil {
		t.Fatal(err)
	}
	soft := before
	soft.Cur = min(soft.Max, uint64(os.Getpagesize()))
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &soft); err != nil {
		t.Fatal(err)
	}
	if err := Harden(4); errors.Is(err, ErrLockedMemory) {
		t.Skip("this machine allows too little: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	if got := must(unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0))(t); got != 0 {
		t.Errorf("dumpable: got %d, want 0", got)
	}
	var core, memlock unix.Rlimit
	if err := errors.Join(unix.Getrlimit(unix.RLIMIT_CORE, &core), unix.Getrlimit(unix.RLIMIT_MEMLOCK, &memlock)); err != nil {
		t.Fatal(err)
	}
	if core != (unix.Rlimit{}) {
		t.Errorf("core size: got %v, want 0", core)
	}
	if memlock.Cur != before.Max || memlock.Max != before.Max {
		t.Errorf("locked memory: got %v, want the soft limit raised to %d", memlock, before.Max)
	}
}

// At the limit memguard would panic, after destroying every other secret.
func TestLimitOfLockedMemoryIsAnErrorNotAPanic(t *testing.T) {
	if !inChild(t) {
		return
	}
	runtime.LockOSThread() // capabilities belong to a thread
	dropLockCapability(t)
	limit := uint64(12 * os.Getpagesize())
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		t.Fatal(err)
	}
	err := Harden(1)
	if !errors.Is(err, ErrLockedMemory) || !strings.Contains(err.Error(), "LimitMEMLOCK=") {
		t.Errorf("Harden: got %v, want ErrLockedMemory and what to set", err)
	}
	first := must(NewSecret())(t)
	var made int
	for ; made < 100; made++ {
		if _, err = NewSecret(); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrLockedMemory) || made < 3 || made > 12 {
		t.Errorf("after %d secrets: got %v, want ErrLockedMemory after 3 to 12", made, err)
	}
	_, signingErr := NewSigningKey()
	_, agreementErr := NewAgreementKey()
	_, lockerErr := PassphraseLocker([]byte("correct horse"), 0)
	if err := errors.Join(signingErr, agreementErr, lockerErr); strings.Count(err.Error(), ErrLockedMemory.Error()) != 3 {
		t.Errorf("others: got %v, want ErrLockedMemory three times", err)
	}
	if _, err := first.Derive(nil, nil, 32); err != nil {
		t.Errorf("a secret made before: %v", err)
	}
	first.Destroy()
	if s, err := NewSecret(); err != nil {
		t.Errorf("after one was given back: %v", err)
	} else {
		s.Destroy()
	}
}

// dropLockCapability makes root obey the limit like everybody else.
func dropLockCapability(t *testing.T) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
	sets[0].Effective &^= 1 << unix.CAP_IPC_LOCK
	sets[0].Permitted &^= 1 << unix.CAP_IPC_LOCK
	sets[0].Inheritable &^= 1 << unix.CAP_IPC_LOCK
	if err := unix.Capset(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
}

func TestMemlockErrorSaysWhatToSet(t *testing.T) {
	err := memlockError(64<<10, 200<<10+1)
	for _, want := range []string{"64 KiB are allowed", "201 KiB needed", "LimitMEMLOCK=201K", "ulimit -l 201"} {
		if !errors.Is(err, ErrLockedMemory) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want %q in it", err, want)
		}
	}
	page := os.Getpagesize()
	if got, want := lockedNeed(10)-lockedNeed(0), 10*page; got != want {
		t.Errorf("ten buffers need %d bytes, want %d", got, want)
	}
	if got := pages(1) + pages(page) + pages(page+1); got != 4*page {
		t.Errorf("pages: got %d bytes, want %d", got, 4*page)
	}
}
