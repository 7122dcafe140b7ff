//go:build !linux

package keyring

// Harden does nothing on this system beyond what locking memory does by itself
// (no core dumps, where the system has a limit for them). Run agents on Linux.
func Harden(buffers int) error { return nil }

// tryLock cannot tell on this system; a refusal is memguard's panic.
func tryLock(size int) error { return nil }
