//go:build !linux

package handler

import (
	"context"
)

// shimName is never a process's name here.
const shimName = "secgossip-handler-shim"

// ShimMain does nothing: there is no shim on this system.
func ShimMain() {}

// Check returns ErrUnsupported.
func Check(path string, agentUID int) error { return ErrUnsupported }

// Layers returns none: this system cannot confine handlers.
func Layers() []Layer { return nil }

type confinement struct{}

func newConfinement(Config) (*confinement, error) { return nil, ErrUnsupported }

func (*confinement) rehearse([]Spec) error { return ErrUnsupported }

func (*confinement) run(context.Context, string, Event) Result {
	return Result{ExitCode: -1, Err: ErrUnsupported}
}
