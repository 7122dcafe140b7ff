//go:build linux && !amd64 && !arm64

package handler

// There is no filter for this architecture: handlers are refused unless the
// settings say reduced.
const (
	nativeArch       = 0
	firstForeignCall = 0
)

var neverCalledHere []uintptr
