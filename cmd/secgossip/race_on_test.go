//go:build unix && race

package main

// raceDetector makes every program need several times the memory.
const raceDetector = true
