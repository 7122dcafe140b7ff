package handler

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// namespace is a view of the host that a run gets of its own.
type namespace struct {
	name string // in /proc/PID/ns
	flag uintptr
}

// namespaces are those of every run of an agent that may make them.
//
// The shim is process 1 of its own: when it ends or is killed, the kernel kills
// everything the program started, whatever session or group that is in.
var namespaces = []namespace{
	{"pid", unix.CLONE_NEWPID},
	{"ipc", unix.CLONE_NEWIPC},
	{"uts", unix.CLONE_NEWUTS},
	{"cgroup", unix.CLONE_NEWCGROUP},
	{"net", unix.CLONE_NEWNET},
	{"mnt", unix.CLONE_NEWNS},
}

// runNamespaces are those of this handler's runs: one that may use the network uses
// the host's.
func (c *confinement) runNamespaces() (list []namespace) {
	for _, ns := range namespaces {
		if ns.flag != unix.CLONE_NEWNET || !c.permissions.Network {
			list = append(list, ns)
		}
	}
	if c.ownUsers() {
		list = append(list, namespace{"user", unix.CLONE_NEWUSER})
	}
	return list
}

// ownUsers reports whether runs have a user namespace: an agent that is not root can
// make the others in it alone.
func (c *confinement) ownUsers() bool { return c.canIsolate && !c.account.switched }

// canEmptyBounding reports whether the shim can empty the bounding set, which
// takes CAP_SETPCAP.
func (c *confinement) canEmptyBounding() bool {
	return c.account.switched && c.canDropAll || c.ownUsers()
}

// limitsProcesses reports whether the number of processes is limited. The kernel
// counts all of a user's: those of the agent's own user come and go. Since Linux
// 5.14 it counts those in a user namespace by themselves, and it is of that age when
// it has this Landlock.
func (c *confinement) limitsProcesses() bool {
	return c.account.switched || c.ownUsers() && landlockABI() >= neededLandlock
}

// keepsSignals reports whether signals and abstract sockets end at the run's border.
func (c *confinement) keepsSignals() bool {
	return landlockABI() >= signalLandlock || c.canIsolate && !c.permissions.Network
}

// enter lets a process that is about to be started make these namespaces.
func enter(sys *syscall.SysProcAttr, list []namespace) {
	// The shim mounts, and gives this up with the rest.
	sys.AmbientCaps = append(sys.AmbientCaps, unix.CAP_SYS_ADMIN)
	for _, ns := range list {
		if ns.flag == unix.CLONE_NEWNS {
			sys.Unshareflags = ns.flag // Thus Go makes it private.
		} else {
			sys.Cloneflags |= ns.flag
		}
	}
}

// namespaceID is what tells a namespace of this process from others.
func namespaceID(name string) (string, error) { return os.Readlink("/proc/self/ns/" + name) }

// requireNamespaces reports whether this agent can give runs namespaces by its own
// rights. One that is root must: that it cannot is a mistake in how it was started.
// Any other may be able to by a user namespace, which the rehearsal finds out.
func requireNamespaces(sandbox Sandbox, root bool) (bool, error) {
	can, err := holdsCapability(unix.CAP_SYS_ADMIN)
	if err != nil {
		return false, err
	}
	can = can && root
	if root && !can && sandbox != Reduced {
		return false, errors.New("this agent is root without CAP_SYS_ADMIN, which it needs to give handlers namespaces of their own; " +
			"fix: grant it to the service, or sandbox: reduced")
	}
	return can, nil
}

// scratchBytesPerFile bounds the number of files: 4,096 in 64 MiB.
const scratchBytesPerFile = 16 << 10

// isolate makes the file system of this run its own: a /proc with its own
// processes only, and a scratch in memory that cannot grow beyond its size and
// is gone with its last process. It takes CAP_SYS_ADMIN, which the shim has
// until it drops its capabilities. Nothing here is seen outside: the mount
// namespace is private.
func isolate(cage *cage) error {
	if len(cage.Namespaces) == 0 {
		return nil
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount("proc", "/proc", "proc", flags|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	// An empty file takes memory too: an inode for each 16 KiB. The owner is
	// who this is, not who the job says: verify is to see the difference.
	options := fmt.Sprintf("size=%d,nr_inodes=%d,mode=0700,uid=%d,gid=%d",
		cage.Permissions.Scratch, max(cage.Permissions.Scratch/scratchBytesPerFile, 64), os.Getuid(), os.Getgid())
	if err := unix.Mount("scratch", cage.Work, "tmpfs", flags, options); err != nil {
		return fmt.Errorf("mounting the scratch on %q: %w", cage.Work, err)
	}
	return nil
}

// verifyIsolation compares what this process sees with what the agent sees.
func verifyIsolation(cage *cage) error {
	for name, agents := range cage.Namespaces {
		if own, err := namespaceID(name); err != nil || own == agents {
			return fmt.Errorf("the %s namespace is the agent's, %s (%v)", name, own, err)
		}
	}
	if len(cage.Namespaces) == 0 {
		return nil
	}
	if self, err := os.Readlink("/proc/self"); err != nil || self != "1" || os.Getpid() != 1 {
		return fmt.Errorf("this is process %d, and %q in /proc (%v), not 1", os.Getpid(), self, err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(".", &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
		return fmt.Errorf("the scratch is on a file system of type %#x (%v)", fs.Type, err)
	}
	if size := uint64(fs.Bsize) * fs.Blocks; size > cage.Permissions.Scratch+uint64(os.Getpagesize()) {
		return fmt.Errorf("the scratch holds %d bytes, not %d", size, cage.Permissions.Scratch)
	}
	return nil
}
