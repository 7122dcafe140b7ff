package handler

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// neverCalled are system calls that no handler has business with. Each is a
// way to another process, to the whole host or to a large part of the kernel
// that nothing else confines. The architecture adds its own.
//
// Threat L08: most need a capability that a handler does not hold. The filter
// is for the day on which somebody finds a way around that, and for those that
// never needed one, such as io_uring, which does by itself what is denied here.
var neverCalled = []uintptr{
	// Other processes.
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE,
	unix.SYS_KCMP, unix.SYS_PIDFD_GETFD,
	// What the file system looks like.
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE,
	unix.SYS_OPEN_TREE_ATTR, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_FANOTIFY_INIT,
	unix.SYS_SETNS,
	// Keys of the user that the agent may share.
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	// Large parts of the kernel.
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	// The host.
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_SYSLOG, unix.SYS_VHANGUP,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX,
	unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
}

const (
	// newNamespaces are the flags of clone(2) that make one.
	newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

	samePersonality = 0xffffffff // asks which it is
)

// Offsets in struct seccomp_data. The lower half of an argument comes first:
// both architectures are little-endian.
const (
	dataNumber   = 0
	dataArch     = 4
	dataArgument = 16
)

// filter is a program of the kernel's packet filter that judges system calls.
type filter []unix.SockFilter

func (f *filter) add(code uint16, k uint32) { *f = append(*f, unix.SockFilter{Code: code, K: k}) }

func (f *filter) load(offset uint32) { f.add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset) }

func (f *filter) allow() { f.add(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW) }

func (f *filter) refuse(errno unix.Errno) {
	f.add(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ERRNO|uint32(errno))
}

// when runs the instructions of body if the comparison of what was loaded with
// k holds, and goes on behind them otherwise.
func (f *filter) when(comparison uint16, k uint32, body func()) {
	at := len(*f)
	f.add(unix.BPF_JMP|comparison|unix.BPF_K, k)
	body()
	(*f)[at].Jf = uint8(len(*f) - at - 1) // No body has more than some dozen.
}

// callFilter refuses what a handler must not call. network allows it sockets
// of the internet.
func callFilter(network bool) filter {
	var f filter
	// A program can switch to another architecture's calls, whose numbers
	// mean something else.
	f.load(dataArch)
	f.when(unix.BPF_JEQ, nativeArch, func() {
		f.load(dataNumber)
		f.when(unix.BPF_JGE, firstForeignCall, func() { f.refuse(unix.ENOSYS) })
		f.add(unix.BPF_JMP|unix.BPF_JA, 1)
	})
	f.refuse(unix.ENOSYS)
	for _, number := range append(neverCalled[:len(neverCalled):len(neverCalled)], neverCalledHere...) {
		f.when(unix.BPF_JEQ, uint32(number), func() { f.refuse(unix.EPERM) })
	}
	// Its flags are in memory, where no filter sees them. C libraries go
	// back to clone, whose flags are not.
	f.when(unix.BPF_JEQ, unix.SYS_CLONE3, func() { f.refuse(unix.ENOSYS) })
	f.when(unix.BPF_JEQ, unix.SYS_CLONE, func() { f.refuseFlags(newNamespaces) })
	f.when(unix.BPF_JEQ, unix.SYS_UNSHARE, func() { f.refuseFlags(newNamespaces | unix.CLONE_NEWTIME) })
	f.when(unix.BPF_JEQ, unix.SYS_SOCKET, func() {
		families := []uint32{unix.AF_UNIX}
		if network {
			// Programs ask netlink which addresses there are.
			families = append(families, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK)
		}
		f.allowOnly(families...)
	})
	f.when(unix.BPF_JEQ, unix.SYS_PERSONALITY, func() { f.allowOnly(0, samePersonality) })
	f.when(unix.BPF_JEQ, unix.SYS_IOCTL, func() {
		f.load(dataArgument + 8)
		// They type into a terminal, as its user would.
		f.when(unix.BPF_JEQ, unix.TIOCSTI, func() { f.refuse(unix.EPERM) })
		f.when(unix.BPF_JEQ, unix.TIOCLINUX, func() { f.refuse(unix.EPERM) })
		f.allow()
	})
	f.allow()
	return f
}

// refuseFlags ends the judgement of a call by the flags in its first argument.
func (f *filter) refuseFlags(flags uint32) {
	f.load(dataArgument)
	f.when(unix.BPF_JSET, flags, func() { f.refuse(unix.EPERM) })
	f.allow()
}

// allowOnly ends the judgement of a call by its first argument.
func (f *filter) allowOnly(values ...uint32) {
	f.load(dataArgument)
	for _, value := range values {
		f.when(unix.BPF_JEQ, value, f.allow)
	}
	f.refuse(unix.EPERM)
}

// restrictCalls puts the filter on every thread of this process, and so on the
// program. It needs no_new_privs.
func restrictCalls(network bool) error {
	if nativeArch == 0 {
		return errors.New("system calls: there is no filter for this architecture")
	}
	f := callFilter(network)
	program := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	culprit, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("system calls: seccomp: %w", errno)
	}
	if culprit != 0 {
		return fmt.Errorf("system calls: thread %d did not take the filter", culprit)
	}
	return nil
}

// verifyCalls asks the kernel whether there is a filter, and then the filter.
func verifyCalls(network bool) error {
	mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	if err != nil || mode != unix.SECCOMP_MODE_FILTER {
		return fmt.Errorf("seccomp mode is %d (%v)", mode, err)
	}
	// No such operation: without the filter the error is another one.
	if _, _, errno := unix.Syscall(unix.SYS_KEYCTL, 1<<16, 0, 0); errno != unix.EPERM {
		return fmt.Errorf("keyctl is not refused: %v", errno)
	}
	if network {
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != unix.EPERM {
		unix.Close(fd) // -1 if it was refused otherwise.
		return fmt.Errorf("a socket of the internet is not refused: %v", err)
	}
	return nil
}

// requireCallFilter reports whether runs get a filter.
func requireCallFilter(sandbox Sandbox) (bool, error) {
	can := canFilterCalls()
	if !can && sandbox != Reduced {
		return false, errors.New("this kernel cannot refuse system calls to handlers; " +
			"fix: a kernel with CONFIG_SECCOMP_FILTER on amd64 or arm64, or sandbox: reduced")
	}
	return can, nil
}

// canFilterCalls reports whether the kernel takes filters that refuse a call.
func canFilterCalls() bool {
	action := uint32(unix.SECCOMP_RET_ERRNO)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	return nativeArch != 0 && errno == 0
}
