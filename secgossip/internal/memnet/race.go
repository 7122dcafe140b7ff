//go:build race

package memnet

import "runtime"

// OneProcessor has the tests of a package run on one processor under the race
// detector, and does nothing without it. Call it from TestMain where bubbles have
// many tickers: in Go 1.26, timers of one bubble that fire on two processors at the
// same time share one state of the detector, and it ends the process. Races are
// found all the same: what counts is what happens before what.
func OneProcessor() { runtime.GOMAXPROCS(1) }
