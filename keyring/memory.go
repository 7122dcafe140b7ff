package keyring

import (
	"fmt"
	"os"

	"github.com/awnumar/memguard"
)

// locked is a piece of locked memory with a lifetime.
type locked struct{ buffer *memguard.LockedBuffer }

// newLocked returns size bytes of locked, writable memory.
//
// memguard panics when the operating system refuses to lock, and destroys every
// other buffer of the process before that. So a few pages more than are needed
// are locked and let go first: the refusal is met there, where it is an error.
// Harden makes sure at the start that it is never met at all.
func newLocked(size int) (locked, error) {
	if size < 1 {
		return locked{}, fmt.Errorf("locking %d bytes: %w", size, ErrSize)
	}
	if err := tryLock(pages(size) + sparePages*os.Getpagesize()); err != nil {
		return locked{}, fmt.Errorf("locking %d bytes: %w", size, ErrLockedMemory)
	}
	return locked{memguard.NewBuffer(size)}, nil
}

// sparePages is how many other goroutines may be locking a page at the same
// moment before one of them meets memguard's panic.
const sparePages = 4

// pages rounds size up to whole pages, which is what locking it takes.
func pages(size int) int {
	page := os.Getpagesize()
	return (size + page - 1) / page * page
}

// use calls f with the bytes, or returns ErrDestroyed. Touching a destroyed
// buffer would kill the process, so the buffer's own lock is held meanwhile:
// destroy and memguard.Purge, on whatever goroutine, wait for f.
//
// f must not lock memory, call use or block: a waiting destroy would hold it up
// for good. It must not keep the bytes.
func (m locked) use(f func(raw []byte) error) error {
	if m.buffer == nil {
		return ErrDestroyed
	}
	m.buffer.RLock()
	defer m.buffer.RUnlock()
	raw := m.buffer.Bytes()
	if len(raw) == 0 {
		return ErrDestroyed
	}
	defer scrub()
	return f(raw)
}

// fill is use for the one who made the memory: it makes it read-only afterwards.
// On an error the memory is gone.
func (m locked) fill(f func(raw []byte) error) error {
	if err := m.use(f); err != nil {
		m.destroy()
		return err
	}
	m.buffer.Freeze()
	return nil
}

// destroy wipes the bytes and gives the memory back. Doing it twice is harmless.
func (m locked) destroy() {
	if m.buffer != nil {
		m.buffer.Destroy()
	}
}

// wipe overwrites bytes that are about to be dropped.
func wipe(raw []byte) {
	memguard.WipeBytes(raw)
	scrub()
}

// scrub overwrites the registers in which copying leaves what was copied. At the
// next signal, such as those by which the Go runtime interrupts itself, the kernel
// saves all registers on a stack, and a secret would stay there until the signal
// after that. An outside scan of an agent has found one.
func scrub() {
	var zeros, nowhere [256]byte // as many bytes as all registers of amd64 hold that copying uses
	move(nowhere[:], zeros[:])
}

// move is copy for a length that the compiler does not know, so that it is the
// runtime's, with its registers.
//
//go:noinline
func move(to, from []byte) { copy(to, from) }
