//go:build goexperiment.runtimesecret

package keyring

import "runtime/secret"

// erasing calls f and erases its stack and registers when it returns, and what
// it allocated as soon as that is garbage.
func erasing(f func()) { secret.Do(f) }
