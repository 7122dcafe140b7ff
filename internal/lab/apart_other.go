//go:build !linux

package lab

import "syscall"

// apart has nothing to say where handlers cannot be confined: the agents will
// not start there.
func apart() *syscall.SysProcAttr { return nil }
