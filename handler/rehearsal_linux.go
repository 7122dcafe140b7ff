package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// rehearsalTime is for one handler. It has nothing to do with how long a run
// may take.
const rehearsalTime = 10 * time.Second

// What a probe needs to run: it is a Go program, which a small C program is not. A
// handler with less is rehearsed with this much.
const (
	probeMemory    = DefaultMemory
	probeProcesses = DefaultProcesses
)

// rehearse does for a handler what a run does, with a probe of the agent's own in
// the place of the program: in the same confinement it tries what each layer is
// there to prevent. It returns the layers that hold. One that must and does not is
// an error unless the sandbox is reduced.
//
// It makes sense only when newConfinement found no problem: one wrong setting would
// make every rehearsal fail.
func (c *confinement) rehearse(spec Spec) ([]Layer, error) {
	layers, err := c.rehearseOnce(spec, nil)
	if err != nil && c.ownUsers() {
		// Some hosts let an ordinary user make a user namespace and do nothing in
		// it. That is found out only by trying.
		first := err
		c.canIsolate, c.unshared = false, err
		if layers, err = c.rehearseOnce(spec, nil); err != nil {
			return nil, fmt.Errorf("handler %q: %w", spec, first)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("handler %q: %w", spec, err)
	}
	if missing := c.missing(layers); len(missing) > 0 && c.settings.Sandbox != Reduced {
		return nil, fmt.Errorf("handler %q: confinement does not hold: %s; fix: the cause, or sandbox: reduced",
			spec, strings.Join(missing, "; "))
	}
	return layers, nil
}

// rehearseOnce is one attempt. Only tests spoil it.
func (c *confinement) rehearseOnce(spec Spec, spoil func(*prepared)) ([]Layer, error) {
	p, err := openProgram(spec.Program, c.agentUID)
	if err != nil {
		return nil, err
	}
	defer p.close()
	probe, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer probe.Close()
	tcp, port := bindLoopback()
	defer unix.Close(tcp) // -1 if there is no such network.
	local, abstract := bindAbstract()
	defer unix.Close(local)
	what := plan{
		Agent: os.Getpid(), Private: c.private, Restrict: len(c.settings.Readable) > 0 && !containsAny(c.scratchRoot, c.roots()),
		Port: port, Abstract: abstract, UID: c.agentUID, Switched: c.account.switched, Permissions: c.permissions,
	}
	what.Permissions.Memory = max(what.Permissions.Memory, probeMemory)
	what.Permissions.Processes = max(what.Permissions.Processes, probeProcesses)

	ctx, cancel := context.WithTimeout(context.Background(), rehearsalTime)
	defer cancel()
	result := c.runOpened(ctx, p, spec.Program, Event{Kind: KindMemberJoin}, func(r *prepared) error {
		r.job.Script, r.job.Permissions = p.shebang != nil, what.Permissions
		r.job.CPUSeconds = max(r.job.CPUSeconds, uint64(rehearsalTime.Seconds()))
		r.job.Rehearsal, r.job.Argv, r.probe = r.job.Argv[0], []string{probeName}, probe
		what.Namespaces = r.job.Namespaces
		if what.Outside, err = r.dir.outside(); err != nil {
			return err
		}
		if r.stdin, err = json.Marshal(what); err == nil && spoil != nil {
			spoil(r)
		}
		return err
	})
	if result.Err != nil {
		return nil, result.Err
	}
	breaches := make(map[string][]string)
	if err := json.Unmarshal(result.Stdout.Bytes(), &breaches); err != nil || result.ExitCode != 0 {
		return nil, fmt.Errorf("its rehearsal ended with %d and without a report: %s (%v)", result.ExitCode, result.Stderr.excerpt(), err)
	}
	if result.outlived {
		breaches[layerLifetime] = []string{"leave a process behind"}
	}
	return c.layers(breaches), nil
}

// outside makes a folder that a run could write to if files did not confine it.
func (s *scratch) outside() (string, error) {
	path := filepath.Join(s.top, "outside")
	err := os.Mkdir(path, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(path, "file"), []byte("x"), 0o600)
	}
	// Chmod, because the agent's umask may have taken bits away.
	return path, errors.Join(err, os.Chmod(path, 0o777), os.Chmod(filepath.Join(path, "file"), 0o666))
}

// groupsSeen are a process's supplementary groups as one with a user namespace of
// its own sees them, in which there is no group but its own.
func groupsSeen(groups []int, gid int) []int {
	return mapped(slices.Clone(groups), func(group int) int {
		if group == gid {
			return group
		}
		return overflowID
	})
}

// overflowID is the kernel's for what a user namespace does not know, unless
// somebody has set another.
const overflowID = 65534
