//go:build race

package handler

// raceDetector says that this is a test binary with the race detector, whose
// shadow memory alone is larger than any limit: the shim could not take another
// step under one.
const raceDetector = true
