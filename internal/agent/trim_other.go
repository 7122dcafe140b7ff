//go:build !linux

package agent

// trimSoon does nothing: what this system keeps in memory is its own to know.
func trimSoon() (stop func() bool) { return func() bool { return true } }
