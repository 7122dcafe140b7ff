//go:build goexperiment.runtimesecret

package seal

import (
	"runtime"
	"runtime/secret"
)

// erasing calls f and erases its stack and registers when it returns, and what
// it allocated as soon as that is garbage: keys as crypto/aes expands them.
func erasing(f func()) { secret.Do(f) }

// Sweep erases the keys of an epoch that was removed, or of a peer, now: an agent
// that is idle collects its garbage every two minutes only. It takes some
// milliseconds.
func Sweep() { runtime.GC() }
