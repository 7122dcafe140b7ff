package handler

import (
	"fmt"
	"strings"
)

// The layers, in the order in which they are listed.
const (
	layerUser        = "user"
	layerPrivileges  = "privileges"
	layerBounding    = "bounding set"
	layerDescriptors = "descriptors"
	layerLimits      = "limits"
	layerProcesses   = "processes"
	layerFiles       = "files"
	layerSignals     = "signals"
	layerCalls       = "system calls"
	layerNetwork     = "network"
	layerNamespaces  = "namespaces"
	layerLifetime    = "lifetime"
	layerScratch     = "scratch size"
	layerCgroup      = "cgroup"
)

// layers says what confines the runs of this handler: what was set up for them,
// unless the rehearsal got through it. breaches are what its probe could do, by
// layer.
func (c *confinement) layers(breaches map[string][]string) []Layer {
	var list []Layer
	add := func(name string, there bool, yes, no string) {
		switch could := breaches[name]; {
		case !there:
			list = append(list, Layer{name, false, no})
		case len(could) > 0:
			list = append(list, Layer{name, false, "at its rehearsal it could " + strings.Join(could, ", ")})
		default:
			list = append(list, Layer{name, true, yes})
		}
	}
	abi := landlockABI()
	add(layerUser, c.account.switched, "another user than the agent's",
		"the agent's own user, because the agent is not root")
	add(layerPrivileges, true, "no new privileges, no capabilities", "")
	add(layerBounding, c.canEmptyBounding(), "emptied, securebits locked",
		"left as it is, because the agent lacks CAP_SETPCAP")
	add(layerDescriptors, true, "0 to 2 only", "")
	add(layerLimits, true, "time, CPU time, memory, file size, open files", "")
	add(layerProcesses, c.limitsProcesses(), "only so many more than its user has",
		"not limited for the agent's own user")
	add(layerFiles, abi >= neededLandlock, fmt.Sprintf("Landlock ABI %d", abi),
		fmt.Sprintf("Landlock ABI %d, at least %d is needed", abi, neededLandlock))
	add(layerSignals, c.keepsSignals(), "none to the outside, nor abstract sockets",
		fmt.Sprintf("Landlock ABI %d, at least %d is needed here", abi, signalLandlock))
	add(layerCalls, c.filterCalls, "those to other processes, the host and the kernel's depths are refused",
		"seccomp filters are missing, or there is none for this architecture")
	add(layerNetwork, !c.permissions.Network && (c.filterCalls || c.canIsolate), "none but Unix sockets", c.whyNetwork())
	add(layerNamespaces, c.canIsolate, c.isolation(), c.whyShared())
	add(layerLifetime, c.canIsolate || c.newGroup != nil, c.ending(),
		"a process with a session of its own outlives its run: there is no process namespace and no cgroup")
	add(layerScratch, c.canIsolate, fmt.Sprintf("%d MiB", c.permissions.Scratch>>20), "not limited: there is no mount namespace")
	add(layerCgroup, c.newGroup != nil, "processes and memory of a run are limited as one",
		fmt.Sprintf("memory is limited for each process alone: %v", c.ungrouped))
	return list
}

func (c *confinement) ending() string {
	if !c.canIsolate {
		return "nothing outlives a run: its cgroup is killed"
	}
	return "nothing outlives a run: its process 1 takes all others along"
}

func (c *confinement) whyNetwork() string {
	if c.permissions.Network {
		return "its settings allow it"
	}
	return "not denied"
}

func (c *confinement) isolation() string {
	what := "processes, mounts, IPC and names of its own"
	if !c.permissions.Network {
		what = "processes, network, mounts, IPC and names of its own"
	}
	if c.ownUsers() {
		what += ", by a user namespace"
	}
	return what
}

func (c *confinement) whyShared() string {
	if c.agentUID == 0 {
		return "the agent is root without CAP_SYS_ADMIN"
	}
	return fmt.Sprintf("the kernel gives the agent's user no user namespace: %v", c.unshared)
}

// missing names the layers that this handler must have and has not. An agent that
// is not root lacks some by its nature, and so does one whose settings say so: those
// are reported, and refuse nothing.
func (c *confinement) missing(layers []Layer) (names []string) {
	must := map[string]bool{
		layerPrivileges: true, layerDescriptors: true, layerLimits: true, layerFiles: true, layerCalls: true,
		layerNetwork: !c.permissions.Network,
		// What was set up must hold, whoever the agent is.
		layerUser: c.account.switched, layerBounding: c.canEmptyBounding(), layerProcesses: c.limitsProcesses(),
		layerNamespaces: c.canIsolate || c.agentUID == 0, layerLifetime: c.canIsolate || c.newGroup != nil || c.agentUID == 0,
		layerScratch: c.canIsolate || c.agentUID == 0, layerSignals: c.keepsSignals(),
	}
	for _, layer := range layers {
		if must[layer.Name] && !layer.Enforced {
			names = append(names, fmt.Sprintf("%s (%s)", layer.Name, layer.Detail))
		}
	}
	return names
}
