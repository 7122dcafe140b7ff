package lab

import "syscall"

// apart keeps the terminal's signals from a process that is started here: whoever
// started it is told, and stops its processes in order. If the lab's own process
// is killed they go with it. The kernel ties that to the thread that started the
// process, which lives as long as the lab: Go ends only threads that a goroutine
// locked.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
