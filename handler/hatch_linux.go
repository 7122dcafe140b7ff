package handler

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// errNoJob says that no job will come: the agent has ended, or has no use for this
// shim.
var errNoJob = errors.New("the agent has closed the hatch")

// newHatch makes the pair of sockets by which a shim gets its one job and says what
// became of it. Nobody else ever holds an end.
func newHatch() (pipe, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return pipe{}, fmt.Errorf("hatch: %w", err)
	}
	// Ours has deadlines, for which it must not block; the shim's end blocks.
	err = unix.SetNonblock(fds[0], true)
	return pipe{ours: os.NewFile(uintptr(fds[0]), "hatch"), theirs: os.NewFile(uintptr(fds[1]), "hatch")}, err
}

// sendJob sends a job with the descriptors that it needs. It never waits: the hatch was
// empty.
func sendJob(hatch *os.File, job *job, files []*os.File) error {
	text, err := memoryFile("job", job)
	if err != nil {
		return err
	}
	defer text.Close()
	fds := []int{int(text.Fd())}
	for _, file := range files {
		fds = append(fds, int(file.Fd()))
	}
	conn, err := hatch.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = conn.Control(func(fd uintptr) {
		sent = unix.Sendmsg(int(fd), []byte{0}, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	})
	if err := errors.Join(err, sent); err != nil {
		return fmt.Errorf("sending the job: %w", err)
	}
	return nil
}

// mostSent is the job, the program, the probe and the script.
const mostSent = 4

// receiveJob waits for the job of this process. There is no deadline: when the agent
// ends or has no use for it, the hatch ends, and the kernel kills it besides.
func receiveJob(cage *cage) (*job, error) {
	var message [1]byte
	rights := make([]byte, unix.CmsgSpace(4*mostSent))
	var n, size, flags int
	for {
		var err error
		n, size, flags, _, err = unix.Recvmsg(hatchFD, message[:], rights, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("hatch: %w", err)
		}
		break
	}
	if n == 0 {
		return nil, errNoJob
	}
	messages, err := unix.ParseSocketControlMessage(rights[:size])
	if err != nil || len(messages) != 1 || flags&unix.MSG_CTRUNC != 0 {
		return nil, fmt.Errorf("hatch: %d messages with descriptors and flags %#x (%v)", len(messages), flags, err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, fmt.Errorf("hatch: %w", err)
	}
	job := &job{cage: cage}
	if err := readFile(fds[0], "job", job); err != nil {
		return nil, err
	}
	places := job.given()
	if len(places) != len(fds)-1 {
		return nil, fmt.Errorf("hatch: %d descriptors came with a job that needs %d", len(fds)-1, len(places))
	}
	for i, place := range places {
		*place = fds[i+1]
	}
	return job, nil
}
