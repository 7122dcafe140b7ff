package handler

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Threat L08. Calls of x32 are the same calls under other numbers, and few kernels
// have them: the filter is judged here by what it says of them. Without its rule the
// mount of x32 is let through, as a number that no rule knows.
func TestForeignCallsAreRefused(t *testing.T) {
	for name, row := range map[string]struct {
		arch, number uint32
		want         uint32
	}{
		"native":              {nativeArch, unix.SYS_GETPID, unix.SECCOMP_RET_ALLOW},
		"native mount":        {nativeArch, unix.SYS_MOUNT, refusal(unix.EPERM)},
		"x32":                 {nativeArch, 1<<30 | unix.SYS_GETPID, refusal(unix.ENOSYS)},
		"x32 mount":           {nativeArch, 1<<30 | unix.SYS_MOUNT, refusal(unix.ENOSYS)},
		"i386":                {unix.AUDIT_ARCH_I386, 20, refusal(unix.ENOSYS)},
		"i386 mount":          {unix.AUDIT_ARCH_I386, 21, refusal(unix.ENOSYS)},
		"number of all bits":  {nativeArch, 1<<32 - 1, refusal(unix.ENOSYS)},
		"arm under its arch":  {unix.AUDIT_ARCH_AARCH64, unix.SYS_GETPID, refusal(unix.ENOSYS)},
		"a number of no call": {nativeArch, 1<<30 - 1, unix.SECCOMP_RET_ALLOW}, // The kernel says what it says.
	} {
		if got := judge(t, callFilter(false), row.arch, row.number); got != row.want {
			t.Errorf("%s: the verdict is %#x, want %#x", name, got, row.want)
		}
	}
	var bare filter // Only what is between the rule and its absence differs.
	for i, instruction := range callFilter(false) {
		if i == 3 && instruction.K == firstForeignCall {
			instruction.K = 1<<32 - 1
		}
		bare = append(bare, instruction)
	}
	if got := judge(t, bare, nativeArch, 1<<30|unix.SYS_MOUNT); got != unix.SECCOMP_RET_ALLOW {
		t.Errorf("without the rule the verdict is %#x: this test shows nothing", got)
	}
}

func refusal(errno unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(errno) }

// judge runs a filter as the kernel would for a call whose arguments are zeros.
func judge(t *testing.T, f filter, arch, number uint32) uint32 {
	t.Helper()
	var loaded uint32
	for at := 0; at < len(f); at++ {
		i := f[at]
		jump := func(holds bool) {
			if holds {
				at += int(i.Jt)
			} else {
				at += int(i.Jf)
			}
		}
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			loaded = map[uint32]uint32{dataNumber: number, dataArch: arch}[i.K]
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		case unix.BPF_JMP | unix.BPF_JA:
			at += int(i.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(loaded == i.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(loaded >= i.K)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump(loaded&i.K != 0)
		default:
			t.Fatalf("instruction %d has code %#x", at, i.Code)
		}
	}
	t.Fatal("the filter ends without a verdict")
	return 0
}
