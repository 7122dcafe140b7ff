package handler

import (
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// Layers reports what confines handlers on this machine, for an agent with
// this process's rights. With Strict no handler runs without the layers
// "descriptors", "files" and "system calls", nor for an agent that is root
// without "namespaces". No handler runs without "privileges" at all.
func Layers() []Layer {
	root := os.Geteuid() == 0
	canEmpty, _ := holdsCapability(unix.CAP_SETPCAP) // If unknown, it will not be tried.
	closes := unix.CloseRange(math.MaxUint32, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil
	abi := landlockABI()
	isolates, _ := requireNamespaces(Reduced, root)
	filters := canFilterCalls()
	return []Layer{
		either("user", root, "handlers run as another user than the agent",
			"handlers run as the agent's own user, because it is not root"),
		either("privileges", true, "no new privileges, no capabilities", ""),
		either("bounding set", root && canEmpty, "emptied, securebits locked",
			"left as it is, because the agent lacks CAP_SETPCAP"),
		either("descriptors", closes, "0 to 2 only", "close_range is missing (Linux 5.11)"),
		either("limits", true, "time, CPU time, memory, file size, open files", ""),
		either("processes", root, "only so many more than its user has", "not limited for the agent's own user"),
		either("files", abi >= neededLandlock, fmt.Sprintf("Landlock ABI %d", abi),
			fmt.Sprintf("Landlock ABI %d, at least %d is needed", abi, neededLandlock)),
		either("signals", abi >= signalLandlock, "none to the outside, nor abstract sockets",
			fmt.Sprintf("Landlock ABI %d, at least %d is needed", abi, signalLandlock)),
		either("system calls", filters, "those to other processes, the host and the kernel's depths are refused",
			"seccomp filters are missing, or there is none for this architecture"),
		either("network", filters || isolates, "none but Unix sockets", "not denied"),
		either("namespaces", isolates, "processes, network, mounts, IPC and names of its own; nothing outlives a run",
			"the agent is not root with CAP_SYS_ADMIN: a process with a session of its own outlives its run"),
		either("scratch size", isolates, fmt.Sprintf("%d MiB", maxScratch>>20), "not limited: there is no mount namespace"),
	}
}

func either(name string, enforced bool, yes, no string) Layer {
	if enforced {
		return Layer{name, true, yes}
	}
	return Layer{name, false, no}
}
