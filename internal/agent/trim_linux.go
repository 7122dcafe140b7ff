package agent

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// trimAfter is how long after the start of a process memory is given back: by then it
// has read its files, rehearsed handlers and joined, for which it needs most of its
// program once.
const trimAfter = 10 * time.Second

// pages is a part of the address space.
type pages struct{ from, to uintptr }

// ownPages are the parts of this process's memory that hold its program's code and
// constants as they are in the file, which nobody can have changed.
func ownPages() ([]pages, error) {
	file, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return nil, err
	}
	return parsePages(text, file)
}

// parsePages reads what of /proc/PID/smaps is a file's, not to be written, and as it is in
// the file: what a program that can lie anywhere was told of its place, before that part
// of it was closed to writing, is not in the file and would be lost.
func parsePages(text []byte, file string) (list []pages, err error) {
	var p pages // the part that the lines are about, if it may be one
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) > 1 && !strings.HasSuffix(fields[0], ":"):
			p = pages{}
			if len(fields) != 6 || fields[5] != file || fields[1] != "r--p" && fields[1] != "r-xp" {
				continue
			}
			if _, err := fmt.Sscanf(fields[0], "%x-%x", &p.from, &p.to); err != nil || p.from >= p.to {
				return nil, fmt.Errorf("a part of memory %q", fields[0])
			}
		case len(fields) == 3 && fields[0] == "Anonymous:" && fields[1] == "0" && p.to > 0:
			list = append(list, p)
			p = pages{}
		}
	}
	return list, lines.Err()
}

// trimSoon gives memory back in a while, once, and returns what calls that off. What
// it cannot do costs memory and nothing else. Call it while /proc may be read.
func trimSoon() (stop func() bool) {
	own, _ := ownPages()
	return time.AfterFunc(trimAfter, func() { _ = trim(own) }).Stop
}

// trim gives the memory back that the start alone has needed: what is free of the
// heap, and the pages of the program. Those come again from its file, one by one, when
// they are used; the kernel may take them at any time as well, but does so only when
// the whole host is short of memory.
func trim(own []pages) error {
	debug.FreeOSMemory()
	var problems []error
	for _, p := range own {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, p.from, p.to-p.from, unix.MADV_DONTNEED); errno != 0 {
			problems = append(problems, errno)
		}
	}
	return errors.Join(problems...)
}
