package handler

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// Bits of a thread's securebits, from linux/securebits.h. Each has a lock bit
// beside it, which keeps it as it is for ever.
const (
	secureNoRoot        = 1 << 0 // uid 0 is an ordinary user
	secureNoSetuidFixup = 1 << 2
	secureKeepCaps      = 1 << 4 // stays off
	secureNoRaise       = 1 << 6 // no new ambient capabilities

	secureWanted = secureNoRoot | secureNoSetuidFixup | secureNoRaise
	secureLocks  = (secureWanted | secureKeepCaps) << 1
)

// dropCapabilities leaves every thread, and so the program, without any. The one
// that executes the program takes its own along; the others live as long as
// process 1 of a run does.
//
// Threat L05: no_new_privs alone makes set-uid files powerless. An empty
// bounding set and locked securebits are for the day on which somebody finds a
// way around it; emptying them takes CAP_SETPCAP, which a shim is given where that
// can be. It is done on this thread alone, from which every process of the run
// comes: to ask every thread forty times would take longer than all the rest.
func dropCapabilities(bounding bool) error {
	if bounding {
		for capability := range uintptr(64) {
			err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0)
			if err == unix.EINVAL {
				break // The kernel knows no more of them.
			}
			if err != nil {
				return fmt.Errorf("dropping capability %d: %w", capability, err)
			}
		}
		if err := unix.Prctl(unix.PR_SET_SECUREBITS, secureWanted|secureLocks, 0, 0, 0); err != nil {
			return fmt.Errorf("securebits: %w", err)
		}
	}
	// This empties the ambient set too: it never exceeds the permitted one.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	_, _, errno := psx.Syscall3(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none[0])), 0)
	if errno != 0 {
		return fmt.Errorf("dropping capabilities: %w", errno)
	}
	return nil
}

// verifyCapabilities reads back what dropCapabilities has done.
func verifyCapabilities(bounding bool) error {
	held, err := heldCapabilities()
	if err != nil {
		return err
	}
	if held != [2]unix.CapUserData{} {
		return fmt.Errorf("capabilities are left: %x", held)
	}
	for capability := range uintptr(64) {
		ambient, err := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, capability, 0, 0)
		if err == unix.EINVAL {
			break
		}
		if err != nil || ambient != 0 {
			return fmt.Errorf("capability %d is ambient (%v)", capability, err)
		}
		if !bounding {
			continue
		}
		if bound, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, capability, 0, 0, 0); err != nil || bound != 0 {
			return fmt.Errorf("capability %d is in the bounding set (%v)", capability, err)
		}
	}
	if !bounding {
		return nil
	}
	bits, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	if err != nil || bits != secureWanted|secureLocks {
		return errors.Join(fmt.Errorf("securebits are %#x", bits), err)
	}
	return nil
}

func heldCapabilities() (held [2]unix.CapUserData, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &held[0]); err != nil {
		return held, fmt.Errorf("reading capabilities: %w", err)
	}
	return held, nil
}

// holdsCapability reports whether this thread may use a capability now.
func holdsCapability(capability int) (bool, error) {
	held, err := heldCapabilities()
	return held[capability/32].Effective&(1<<(capability%32)) != 0, err
}
