package agent

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"github.com/landlock-lsm/go-landlock/landlock"
	llsyscall "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"github.com/secgossip/secgossip/handler"
	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/internal/link"
	"github.com/secgossip/secgossip/keyring"
)

// neededLandlock is the Landlock ABI without which the network process is not confined
// to its files: before 3 it could truncate what it may not write to.
const neededLandlock = 3

// settleAs makes this process what an order says, on all of its threads: another user if
// the runner is root, no capabilities and no way to new ones, closed to others, and with
// as few files and system calls as the kernel can hold it to. Then it reads back what
// the kernel says this process is, and refuses to go on should any of that differ.
//
// It runs on the thread that lasts as long as the process.
func settleAs(order *link.Order) settle {
	return func(socketFolder string) ([]handler.Layer, error) {
		at := home.Home(order.Home)
		if order.Switch {
			at = homePath
			if err := at.HandOver(order.UID, order.GID); err != nil {
				return nil, fmt.Errorf("handing the home over to user %d: %w", order.UID, err)
			}
			if err := become(order.UID, order.GID); err != nil {
				return nil, err
			}
		}
		bounding, err := giveUpCapabilities()
		if err != nil {
			return nil, err
		}
		// Another user means another start of both: the kernel forgets them.
		if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
			return nil, fmt.Errorf("parent death signal: %w", err)
		}
		if err := keyring.Harden(lockedBuffers); err != nil {
			return nil, err
		}
		files, err := confineFiles(at, order.Switch, socketFolder)
		if err != nil {
			return nil, err
		}
		calls := filterCalls()
		if err := readBack(order, calls == nil); err != nil {
			return nil, fmt.Errorf("giving up rights did not hold: %w", err)
		}
		return layersOf(order, bounding, files, calls), nil
	}
}

// become makes this process another user's, with no other groups.
func become(uid, gid int) error {
	// Root has no limit of locked memory. That user has one, and this process holds as
	// much now as it ever will.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return fmt.Errorf("reading the limit of locked memory: %w", err)
	}
	if limit.Max < lockedLimit {
		limit = unix.Rlimit{Cur: lockedLimit, Max: lockedLimit}
		// Root without CAP_SYS_RESOURCE may not. Whether there is enough is tried later.
		_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit)
	}
	// These are for all threads.
	err := syscall.Setgroups([]int{})
	if err == nil {
		err = syscall.Setresgid(gid, gid, gid)
	}
	if err == nil {
		err = dropBounding()
	}
	if err == nil {
		err = syscall.Setresuid(uid, uid, uid)
	}
	if err != nil {
		return &home.Problem{
			Err:  fmt.Errorf("becoming user %d: %w", uid, err),
			Next: "an agent that is root needs CAP_SETUID, CAP_SETGID and CAP_CHOWN; or start it as an ordinary user",
		}
	}
	return nil
}

// lockedLimit is 8 MiB, what systemd gives to everybody.
const lockedLimit = 8 << 20

// allThreads makes a system call on every thread. A binary with cgo, which none is that
// we ship, cannot.
func allThreads(trap, a1, a2, a3 uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall(trap, a1, a2, a3)
	if errno != 0 {
		return errno
	}
	return nil
}

// dropBounding empties the bounding set, should we be able to: without capabilities and
// with no_new_privs nothing comes out of it anyway.
func dropBounding() error {
	for capability := range uintptr(64) {
		switch err := allThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, capability, 0); err {
		case nil:
		case unix.EINVAL, unix.EPERM, unix.ENOTSUP:
			return nil // the kernel knows no more of them, or lets us not
		default:
			return err
		}
	}
	return nil
}

// giveUpCapabilities leaves no thread any, and reports whether the bounding set is
// empty. An ordinary user has none to begin with, unless its service manager gave some.
func giveUpCapabilities() (bounding bool, err error) {
	if err := allThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil && err != unix.ENOTSUP {
		return false, fmt.Errorf("no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil { // of this thread; the filter takes it to the others
		return false, fmt.Errorf("no_new_privs: %w", err)
	}
	if held, err := threadsHold("CapPrm", none); err != nil {
		return false, err
	} else if !held {
		if err := clearCapabilities(); err != nil {
			return false, fmt.Errorf("giving up capabilities: %w", err)
		}
	}
	return threadsHold("CapBnd", none)
}

const none = "0000000000000000"

// confineFiles lets this process at the files that an agent needs while it runs and at
// no others. It reports whether the kernel can do that.
//
// In node/ it may put files, and read none: the keys are read. What is read of the keyring
// once more is the two versions that are there.
func confineFiles(at home.Home, switched bool, socketFolder string) (bool, error) {
	const (
		look  = llsyscall.AccessFSReadFile | llsyscall.AccessFSReadDir
		put   = llsyscall.AccessFSWriteFile | llsyscall.AccessFSReadDir | llsyscall.AccessFSRemoveFile | llsyscall.AccessFSMakeReg | llsyscall.AccessFSTruncate
		read  = llsyscall.AccessFSReadFile
		write = llsyscall.AccessFSReadFile | llsyscall.AccessFSWriteFile
		serve = llsyscall.AccessFSMakeSock | llsyscall.AccessFSRemoveFile
	)
	if abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno != 0 || abi < neededLandlock {
		return false, nil
	}
	if err := os.Mkdir(at.State(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	dirs, files := lookUpFiles(at, switched)
	rules := []landlock.Rule{
		landlock.PathAccess(put, filepath.Join(string(at), "node")),
		landlock.PathAccess(put|look, at.State()),
		landlock.PathAccess(read, at.Keyring()...).IgnoreIfMissing(),
		landlock.PathAccess(look, append(dirs, "/proc/self", "/usr/share/zoneinfo", "/sys/fs/cgroup")...).IgnoreIfMissing(),
		landlock.PathAccess(read, files...).IgnoreIfMissing(),
		landlock.PathAccess(write, os.DevNull),
	}
	if socketFolder != "" {
		rules = append(rules, landlock.PathAccess(serve, socketFolder))
	}
	config := landlock.V8
	config.HandledAccessNet = 0 // the network is what this process is for
	if err := config.BestEffort().Restrict(rules...); err != nil {
		return false, fmt.Errorf("landlock: %w", err)
	}
	if _, err := os.ReadDir("/"); !errors.Is(err, fs.ErrPermission) {
		return false, fmt.Errorf("landlock did not hold: reading / gave %v", err)
	}
	return true, nil
}

// lookUpFiles are what finding hosts by name and the local time takes: all of /etc, and
// where the list of name servers is, for both change while we run. A home in /etc is
// root's, who keeps its own files from us by their modes; of another's we name single
// files, which are those that are there now.
func lookUpFiles(at home.Home, switched bool) (dirs, files []string) {
	resolv, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err == nil && !strings.HasPrefix(resolv, "/etc/") {
		dirs = append(dirs, filepath.Dir(resolv))
	}
	real, err := filepath.EvalSymlinks(string(at))
	if switched || err == nil && !strings.HasPrefix(real, "/etc/") {
		return append(dirs, "/etc"), nil
	}
	for _, name := range []string{"resolv.conf", "hosts", "nsswitch.conf", "localtime", "services", "protocols", "host.conf", "gai.conf"} {
		files = append(files, filepath.Join("/etc", name))
	}
	return dirs, files
}

// readBack holds what the kernel says of every thread against what was asked for.
func readBack(order *link.Order, filtered bool) error {
	want := map[string]string{"NoNewPrivs": "1", "CapInh": none, "CapPrm": none, "CapEff": none, "CapAmb": none}
	if order.Switch {
		want["Uid"] = strings.Repeat(fmt.Sprintf("%d ", order.UID), 4)
		want["Gid"] = strings.Repeat(fmt.Sprintf("%d ", order.GID), 4)
		want["Groups"] = ""
	}
	if filtered {
		want["Seccomp"] = "2"
	}
	for field, value := range want {
		if holds, err := threadsHold(field, strings.TrimSpace(value)); err != nil {
			return err
		} else if !holds {
			return fmt.Errorf("%s is not %q on every thread", field, strings.TrimSpace(value))
		}
	}
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 0 {
		return fmt.Errorf("dumpable is %d (%v)", dumpable, err)
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core.Max != 0 {
		return fmt.Errorf("core dumps of %d bytes are allowed (%v)", core.Max, err)
	}
	return nil
}

// threadsHold reports whether a field of /proc has this value for every thread.
func threadsHold(field, want string) (bool, error) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return false, err
	}
	for _, thread := range threads {
		status, err := os.ReadFile(filepath.Join("/proc/self/task", thread.Name(), "status"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return false, err
		}
		lines := bufio.NewScanner(bytes.NewReader(status))
		found := false
		for lines.Scan() {
			if value, ok := strings.CutPrefix(lines.Text(), field+":"); ok {
				found = strings.Join(strings.Fields(value), " ") == want
			}
		}
		if !found {
			return false, nil
		}
	}
	return true, nil
}

// layersOf says what confines this process.
func layersOf(order *link.Order, bounding, files bool, calls error) []handler.Layer {
	layer := func(name string, enforced bool, yes, no string) handler.Layer {
		if enforced {
			return handler.Layer{Name: name, Enforced: true, Detail: yes}
		}
		return handler.Layer{Name: name, Detail: no}
	}
	return []handler.Layer{
		layer("user", order.Switch, fmt.Sprintf("user %d, group %d, no other groups", order.UID, order.GID),
			"the user that started the agent, because that is not root"),
		layer("privileges", true, "no new privileges, no capabilities", ""),
		layer("bounding set", bounding, "empty", "left as it was"),
		layer("memory", true, "not traceable, no core dumps", ""),
		layer("files", files, "Landlock: the keyring, state/ and what names need",
			fmt.Sprintf("Landlock ABI %d is missing (Linux 6.2): only the modes of files keep it from others", neededLandlock)),
		layer("system calls", calls == nil, "no programs, mounts, namespaces, tracing or io_uring", fmt.Sprint(calls)),
	}
}

// clearCapabilities gives up those that a service manager gave to an ordinary user. That
// empties the ambient set too: it never exceeds the permitted one.
func clearCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var nothing [2]unix.CapUserData
	return allThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&nothing[0])), 0)
}
