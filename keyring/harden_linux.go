package keyring

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Harden closes the ways by which another process could read this one's
// secrets, and makes sure that they can all be locked. Call it once, before the
// first secret is made; it changes the whole process.
//
//   - no core dumps, neither by a file size limit nor by a program of the kernel's;
//   - not dumpable: other processes of the same user may not trace it or read its
//     memory (threat L03);
//   - the limit of locked memory is raised as far as it may be, and must be
//     enough for buffers secrets at a time. The error is ErrLockedMemory and
//     says what to set. memguard would panic at that limit later.
//
// For buffers, count MaxEpochs + 2 for a keyring (the knock secret and one that
// is about to be installed), and 1 for each key and each Locker.
func Harden(buffers int) error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbidding others to trace this process: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbidding core dumps: %w", err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return fmt.Errorf("reading the limit of locked memory: %w", err)
	}
	if limit.Cur < limit.Max {
		limit.Cur = limit.Max
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
			return fmt.Errorf("raising the limit of locked memory: %w", err)
		}
	}
	// Trying tells more than comparing: what is locked already counts, and a
	// privileged process has no limit.
	if err := tryLock(lockedNeed(buffers)); err != nil {
		return memlockError(limit.Max, lockedNeed(buffers))
	}
	return nil
}

// lockedNeed is the memory, in bytes, to lock at worst: a page for each secret
// (its guard pages are not locked), two plaintexts while a file is sealed or
// opened, and the spare of newLocked.
func lockedNeed(buffers int) int {
	return (buffers+sparePages)*os.Getpagesize() + 2*pages(maxPlaintext)
}

func memlockError(limit uint64, need int) error {
	kib := (need + 1023) / 1024
	return fmt.Errorf("%w: %d KiB are allowed and %d KiB needed; set LimitMEMLOCK=%dK in the service's unit, or run: ulimit -l %d",
		ErrLockedMemory, limit/1024, kib, kib, kib)
}

// tryLock locks size bytes of memory and lets go of them.
func tryLock(size int) error {
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	err = unix.Mlock(memory)
	if unmapErr := unix.Munmap(memory); err == nil { // which unlocks, too
		err = unmapErr
	}
	return err
}
