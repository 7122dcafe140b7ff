//go:build !goexperiment.runtimesecret

package keyring

// erasing calls f. With GOEXPERIMENT=runtimesecret it also erases what f leaves
// on the stack, in registers and in the heap.
func erasing(f func()) { f() }
