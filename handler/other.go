//go:build !linux

package handler

import (
	"context"
	"time"
)

// shimName is never a process's name here.
const shimName = "secgossip-handler-shim"

// ShimMain does nothing: there is no shim on this system.
func ShimMain() {}

// Check returns ErrUnsupported.
func Check(path string, agentUID int) error { return ErrUnsupported }

type confinement struct{}

func newConfinement(Config) (*confinement, error) { return nil, ErrUnsupported }

func (*confinement) rehearse(Spec) ([]Layer, error) { return nil, ErrUnsupported }

func (*confinement) keepSpare(string) {}

func (*confinement) watchSpare(context.Context, string) {}

func (*confinement) sweep(time.Duration) {}

func (*confinement) run(context.Context, string, Event) Result {
	return Result{ExitCode: -1, Err: ErrUnsupported}
}

func (*confinement) provide(context.Context, string, []string, Event) Result {
	return Result{ExitCode: -1, Err: ErrUnsupported}
}
