package handler

import "golang.org/x/sys/unix"

const (
	nativeArch = unix.AUDIT_ARCH_X86_64
	// firstForeignCall begins the numbers of x32, the same calls once more.
	firstForeignCall = 1 << 30
)

var neverCalledHere = []uintptr{unix.SYS_IOPERM, unix.SYS_IOPL, unix.SYS_MODIFY_LDT, unix.SYS_USELIB}
