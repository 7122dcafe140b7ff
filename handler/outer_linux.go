package handler

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// beOuter starts the shim once more, in a user namespace, and waits for its end. An
// agent that is not root cannot do that itself: the kernel has its owner write who is
// who in such a namespace, and while the agent's memory is unreadable its children
// are root's. This process is readable and holds nothing.
//
// It returns only if the other could not be started.
func beOuter(cage *cage, hatch *os.File) error {
	if err := tieToAgent(cage.Parent); err != nil {
		return err
	}
	inner := *cage
	inner.OwnUsers, inner.Parent = false, 0
	text, err := memoryFile("cage", inner)
	if err != nil {
		return err
	}
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr, cageFD: text, hatchFD: hatch, programFD: os.NewFile(programFD, "program")}
	sys := &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		// It has this one user and this one group. In it the shim holds every
		// capability over the run's own namespaces, and none over anything else.
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_SETPCAP},
	}
	list := []namespace{{"user", unix.CLONE_NEWUSER}}
	for _, ns := range namespaces {
		if cage.Namespaces[ns.name] != "" {
			list = append(list, ns)
		}
	}
	enter(sys, list)
	proc, err := os.StartProcess("/proc/self/exe", []string{shimName}, &os.ProcAttr{Dir: "/", Env: []string{}, Files: files, Sys: sys})
	if err != nil {
		return fmt.Errorf("starting the shim in a user namespace: %w", err)
	}
	for _, file := range files {
		file.Close() // Else a pipe that the program closed would stay open.
	}
	var ended unix.WaitStatus
	for {
		if _, err := unix.Wait4(proc.Pid, &ended, 0, nil); err != unix.EINTR {
			break
		}
	}
	if ended.Signaled() {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL) // As it ended, so that the agent learns of it.
	}
	syscall.Exit(ended.ExitStatus())
	return nil
}
