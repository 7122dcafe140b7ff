package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	// handlerShots is how many events are fired one by one, and handlerPause how long
	// handlers have to end after each.
	handlerShots = 60
	handlerPause = 300 * time.Millisecond

	// handlerWait is how long a handler that has not run is waited for.
	handlerWait = 10 * time.Second
)

// measureHandlers measures from the call that fires an event until the handlers of all
// agents run. They run on the machine that measures, so 30 of them wait for processors.
func measureHandlers(ctx context.Context, s system) ([]figure, error) {
	notes, err := openNotes(s)
	if err != nil {
		return nil, err
	}
	defer notes.file.Close()
	var took []time.Duration
	var silent int
	for i := range handlerShots + 1 {
		if err := wait(ctx, handlerPause); err != nil {
			return nil, err
		}
		payload := fmt.Sprintf("handlers-%d", i)
		begun := time.Now()
		if err := s.fire(ctx, payload); err != nil {
			return nil, err
		}
		last, missing, err := notes.await(payload, begun.Add(handlerWait))
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", i, err)
		}
		if i > 0 { // the first finds programs and keys cold
			took, silent = append(took, last.Sub(begun)), silent+missing
		}
	}
	what := fmt.Sprintf("event fired to handlers on all of %d agents", s.size())
	return []figure{
		{what + ", median", "ms", milliseconds(percentile(took, 50))},
		{what + ", p99", "ms", milliseconds(percentile(took, 99))},
		{what + ", longest", "ms", milliseconds(percentile(took, 100))},
		{what + ": not run within " + handlerWait.String(), "%", 100 * float64(silent) / float64(handlerShots*s.size())},
	}, nil
}

// notes hears when handlers write to their files, from the kernel: nothing is looked at
// meanwhile, which would take time from those who are measured.
type notes struct {
	file  *os.File
	paths map[int32]string // by watch
	read  map[int32]int    // bytes
}

func openNotes(s system) (*notes, error) {
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	n := &notes{os.NewFile(uintptr(fd), "inotify"), make(map[int32]string), make(map[int32]int)}
	for agent := range s.size() {
		path := s.notes(agent)
		watch, err := syscall.InotifyAddWatch(fd, path, syscall.IN_MODIFY)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("watching %s: %w", path, err), n.file.Close())
		}
		n.paths[int32(watch)] = path
	}
	return n, nil
}

// await returns when the last of all files had a payload, and how many have it not at
// the deadline.
func (n *notes) await(payload string, deadline time.Time) (last time.Time, missing int, err error) {
	if err := n.file.SetReadDeadline(deadline); err != nil {
		return last, 0, err
	}
	buffer := make([]byte, 4096)
	for had := make(map[int32]bool); len(had) < len(n.paths); {
		size, err := n.file.Read(buffer)
		last = time.Now()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return last, len(n.paths) - len(had), nil
		}
		if err != nil {
			return last, 0, err
		}
		// inotify(7): watch, mask, cookie, length of a name, which files have none of.
		for rest := buffer[:size]; len(rest) >= syscall.SizeofInotifyEvent; {
			watch := int32(binary.NativeEndian.Uint32(rest))
			rest = rest[syscall.SizeofInotifyEvent+binary.NativeEndian.Uint32(rest[12:]):]
			content, err := os.ReadFile(n.paths[watch])
			if err != nil {
				return last, 0, err
			}
			news := string(content[n.read[watch]:])
			n.read[watch] = len(content)
			if strings.Contains(news, payload+"\n") {
				had[watch] = true
			}
		}
	}
	return last, 0, nil
}
