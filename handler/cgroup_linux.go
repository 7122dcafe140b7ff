package handler

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroups is a subtree of the cgroup hierarchy (version 2) that was delegated to
// the agent, in which each run gets a group of its own.
type cgroups struct {
	root  string
	write func(group, file, value string) error
}

const (
	// cgroupMemory is how many processes of a run may use all the memory that each
	// of them may have.
	cgroupMemory = 4
	// cgroupThreads is for process 1 of a run, which is among those counted.
	cgroupThreads = 16
)

// delegatedCgroup finds the subtree. Without an error there is one.
//
// It is used only when systemd says that it is the agent's (Delegate=yes): a group
// that merely can be written to, as root can everywhere, is somebody else's.
func delegatedCgroup() (*cgroups, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	root, err := ownCgroup(string(own), string(mounts))
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		value := make([]byte, 1)
		if n, err := unix.Getxattr(root, name, value); err == nil && n == 1 && value[0] == '1' {
			return enterCgroup(root)
		}
	}
	return nil, errors.New("systemd has delegated none (Delegate=pids memory)")
}

// ownCgroup is the folder of a process's group, from its files in /proc. An agent
// that was started again by itself is in the leaf that it made.
func ownCgroup(own, mounts string) (string, error) {
	var path string
	for line := range strings.Lines(own) {
		if rest, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			path = strings.TrimSuffix(rest, "/"+agentLeaf)
		}
	}
	for line := range strings.Lines(mounts) {
		mount, rest, ok := strings.Cut(line, " - ")
		fields := strings.Fields(mount)
		if ok && len(fields) >= 5 && strings.HasPrefix(rest, "cgroup2 ") && fields[3] == "/" && path != "" {
			return filepath.Join(fields[4], path), nil
		}
	}
	return "", errors.New("there is no cgroup hierarchy of version 2")
}

// agentLeaf is where the agent itself is: a group whose children have limits may
// hold no processes.
const agentLeaf = "agent"

// enterCgroup moves the agent to a leaf, so that the groups beside it can have
// limits.
func enterCgroup(root string) (*cgroups, error) {
	leaf := filepath.Join(root, agentLeaf)
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	if err := writeCgroup(leaf, "cgroup.procs", strconv.Itoa(os.Getpid())); err != nil {
		return nil, err
	}
	if err := writeCgroup(root, "cgroup.subtree_control", "+pids +memory"); err != nil {
		return nil, err
	}
	return &cgroups{root, writeCgroup}, nil
}

// cgroup is the group of one run.
type cgroup struct {
	path  string
	dir   *os.File // by which the shim is started in it
	write func(group, file, value string) error
}

// add makes a group whose limits hold before anything is in it.
func (c *cgroups) add(may permissions) (*cgroup, error) {
	path, err := os.MkdirTemp(c.root, "run-")
	if err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	g := &cgroup{path: path, write: c.write}
	for _, limit := range []struct {
		file  string
		value uint64
	}{
		{"pids.max", may.Processes + cgroupThreads},
		{"memory.max", cgroupMemory*may.Memory + may.Scratch},
		{"memory.swap.max", 0},
	} {
		err = c.write(path, limit.file, strconv.FormatUint(limit.value, 10))
		if limit.file == "memory.swap.max" && errors.Is(err, os.ErrNotExist) {
			err = nil // This kernel does not count swap.
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		g.dir, err = os.Open(path)
	}
	if err != nil {
		_ = os.Remove(path) // What went wrong is already known.
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	return g, nil
}

// end kills everything in the group, whatever session, group or parent it has, and
// removes it.
func (g *cgroup) end() error {
	g.dir.Close()
	err := g.write(g.path, "cgroup.kill", "1")
	deadline := time.Now().Add(dyingTime)
	for {
		removed := os.Remove(g.path)
		if removed == nil || time.Now().After(deadline) {
			return errors.Join(err, removed)
		}
		time.Sleep(time.Millisecond) // Those that were killed are still dying.
	}
}

// writeCgroup writes to a file of a group. It never makes one.
func writeCgroup(group, name, value string) error {
	file, err := os.OpenFile(filepath.Join(group, name), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(value)
	return errors.Join(err, file.Close())
}
