package handler

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// place is where a walk ended.
type place struct {
	fd   int    // O_PATH; the caller closes it
	path string // without symlinks
	stat unix.Stat_t
}

// maxLinks is where the kernel gives up too (MAXSYMLINKS).
const maxLinks = 40

// walk opens path part by part and checks each: it belongs to root or to the
// agent, and nobody else can write to it. Symlinks are followed here and not
// by the kernel, because whoever owns a link decides where it leads.
//
// Threat L06: after a walk only root and the agent's own user can make path
// mean another file. A directory that everybody may write to is no exception
// if it has the sticky bit, as /tmp does: there only the owner of an entry can
// rename or remove it, and the owner of the next part is checked as well.
func walk(path string, agentUID int) (place, error) {
	here, err := openPart(unix.AT_FDCWD, "/", "/")
	if err != nil {
		return place{}, err
	}
	defer func() { unix.Close(here.fd) }()
	if err := checkPart(here, agentUID); err != nil {
		return place{}, err
	}
	links := 0
	pending := strings.Split(path, "/")
	for len(pending) > 0 {
		name := pending[0]
		pending = pending[1:]
		if name == "" || name == "." {
			continue
		}
		next, err := openPart(here.fd, name, filepath.Join(here.path, name))
		if err != nil {
			return place{}, err
		}
		if err := checkPart(next, agentUID); err != nil {
			unix.Close(next.fd)
			return place{}, err
		}
		if next.stat.Mode&unix.S_IFMT != unix.S_IFLNK {
			unix.Close(here.fd)
			here = next
			continue
		}
		target, err := readLink(next)
		unix.Close(next.fd)
		if err != nil {
			return place{}, err
		}
		if links++; links > maxLinks {
			return place{}, fmt.Errorf("%q: too many symlinks", path)
		}
		if filepath.IsAbs(target) {
			root, err := openPart(unix.AT_FDCWD, "/", "/")
			if err != nil {
				return place{}, err
			}
			unix.Close(here.fd)
			here = root
		}
		pending = append(strings.Split(target, "/"), pending...)
	}
	end := here
	here.fd = -1 // It is the caller's now; closing -1 does nothing.
	return end, nil
}

func openPart(dir int, name, path string) (place, error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return place{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	p := place{fd: fd, path: path}
	if err := unix.Fstat(fd, &p.stat); err != nil {
		unix.Close(fd)
		return place{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return p, nil
}

func checkPart(p place, agentUID int) error {
	if uid := int(p.stat.Uid); uid != 0 && uid != agentUID {
		return &UnsafeError{p.path, fmt.Sprintf("belongs to uid %d, who could exchange what is there", uid),
			fmt.Sprintf("chown -h %d %s", agentUID, pasteable(p.path))}
	}
	kind := p.stat.Mode & unix.S_IFMT
	sticky := kind == unix.S_IFDIR && p.stat.Mode&unix.S_ISVTX != 0
	// The mode of a symlink is always 0777 and means nothing.
	if kind != unix.S_IFLNK && p.stat.Mode&0o022 != 0 && !sticky {
		return &UnsafeError{p.path, fmt.Sprintf("can be written to by others (mode %04o)", p.stat.Mode&0o7777),
			"chmod go-w " + pasteable(p.path)}
	}
	return nil
}

func readLink(p place) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(p.fd, "", buf)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: p.path, Err: err}
	}
	if n == 0 || n == len(buf) {
		return "", &fs.PathError{Op: "readlink", Path: p.path, Err: errors.New("unusable target")}
	}
	return string(buf[:n]), nil
}

// reopen opens the file that fd stands for, whatever its path means by now.
func (p place) reopen(flags int) (*os.File, error) {
	fd, err := unix.Open(fdPath(p.fd), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: p.path, Err: err}
	}
	return os.NewFile(uintptr(fd), p.path), nil
}

// fdPath is a path that leads to the file behind a descriptor of this process.
func fdPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
