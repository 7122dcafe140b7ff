//go:build !race

package memnet

// OneProcessor does nothing without the race detector.
func OneProcessor() {}
