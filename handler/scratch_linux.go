package handler

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// scratch is the directory of one run.
//
//	secgossip-run-123/         the agent's; the handler may pass through it
//	secgossip-run-123/work     the handler's: working directory, HOME, TMPDIR
//	secgossip-run-123/program  the agent's; the handler may read it
type scratch struct {
	top, work, program string
	account            account
	lock               *os.File // the top, locked while the agent lives: see sweep
	stat               unix.Stat_t
}

// scratchName is how the name of every scratch begins.
const scratchName = "secgossip-run-"

// removalTime is how long cleaning up after one run may take. A handler can
// leave a great many files.
const removalTime = 10 * time.Second

func newScratch(root string, who account) (*scratch, error) {
	top, err := os.MkdirTemp(root, scratchName)
	if err != nil {
		return nil, fmt.Errorf("scratch directory: %w", err)
	}
	s := &scratch{top: top, work: filepath.Join(top, "work"), program: filepath.Join(top, "program"), account: who}
	if s.lock, err = lockFolder(unix.AT_FDCWD, top); err == nil {
		err = s.build()
	}
	if err != nil {
		_ = s.remove() // What went wrong is already known.
		return nil, fmt.Errorf("scratch directory: %w", err)
	}
	return s, nil
}

func (s *scratch) build() error {
	if err := os.Mkdir(s.work, 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(s.program, 0o700); err != nil {
		return err
	}
	if err := unix.Lstat(s.work, &s.stat); err != nil {
		return err
	}
	if !s.account.switched {
		return nil
	}
	if err := os.Lchown(s.work, s.account.uid, s.account.gid); err != nil {
		return err
	}
	if err := os.Lchown(s.program, -1, s.account.gid); err != nil {
		return err
	}
	// Chmod, because the agent's umask may have taken bits away.
	if err := os.Chmod(s.program, 0o750); err != nil {
		return err
	}
	return os.Chmod(s.top, 0o711)
}

const (
	// maxScript bounds the copy made for each run. Scripts are a few KiB;
	// archives that begin with #! (zipapps) can be larger.
	maxScript = 16 << 20
	// maxBeside is how many files beside a script are linked beside its
	// copy. A directory that holds more is no script's own directory but
	// one such as /usr/bin.
	maxBeside = 256
)

// stage makes the copy of a script that its interpreter will read (see
// program) and returns the arguments the run starts with. A program that is
// executed by its descriptor needs no copy.
func (s *scratch) stage(p *program, shown string) ([]string, error) {
	if p.shebang == nil {
		return []string{shown}, nil
	}
	script := filepath.Join(s.program, filepath.Base(p.path))
	if err := s.copyScript(p.file, script); err != nil {
		return nil, fmt.Errorf("copying the script: %w", err)
	}
	s.linkBeside(p.path)
	return p.shebang.arguments(script), nil
}

func (s *scratch) copyScript(from *os.File, to string) error {
	copied, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer copied.Close()
	n, err := io.Copy(copied, io.NewSectionReader(from, 0, maxScript+1))
	if err != nil {
		return err
	}
	if n > maxScript {
		return fmt.Errorf("it is larger than %d bytes", maxScript)
	}
	if s.account.switched {
		if err := copied.Chown(-1, s.account.gid); err != nil {
			return err
		}
	}
	return copied.Chmod(0o550)
}

// linkBeside links what lies beside the script, so that a script finds its
// own parts by $0. Only what root or the agent alone can write to is linked: a
// stranger's file in a shared directory must not become part of a handler
// because a script looks for that name.
func (s *scratch) linkBeside(script string) {
	dir := filepath.Dir(script)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > maxBeside {
		return // The script alone is what was promised.
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		found, err := walk(path, os.Geteuid())
		if err != nil {
			continue
		}
		unix.Close(found.fd)
		// The script's own name is taken by its copy, which is as it must be.
		_ = os.Symlink(path, filepath.Join(s.program, entry.Name()))
	}
}

func (s *scratch) remove() error {
	err := removeTree(s.top, time.Now().Add(removalTime))
	s.lock.Close() // It may be nil.
	return err
}

// untouched reports whether the folder that a handler may write to is still there,
// and empty.
func (s *scratch) untouched() bool {
	fd, err := unix.Open(s.work, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	folder := os.NewFile(uintptr(fd), s.work)
	defer folder.Close()
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil || now.Ino != s.stat.Ino || now.Dev != s.stat.Dev {
		return false
	}
	names, err := folder.Readdirnames(1)
	return err == io.EOF && len(names) == 0
}

// lockFolder opens a folder and locks it, if nobody else has. What cleans up
// /tmp by age leaves such a folder alone too.
func lockFolder(dir int, name string) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// sweep removes what agents that were killed have left in the folder of scratches, if it
// is of that age. Only what is this user's is looked at: in a folder such as /tmp others
// may use any name.
func (c *confinement) sweep(age time.Duration) {
	root, err := os.Open(c.scratchRoot)
	if err != nil {
		return
	}
	defer root.Close()
	deadline := time.Now().Add(removalTime)
	for time.Now().Before(deadline) {
		names, err := root.Readdirnames(batch)
		for _, name := range names {
			if strings.HasPrefix(name, scratchName) && time.Now().Before(deadline) {
				c.sweepOne(int(root.Fd()), name, age, deadline)
			}
		}
		if err != nil {
			return
		}
	}
}

func (c *confinement) sweepOne(root int, name string, age time.Duration, deadline time.Time) {
	var stat unix.Stat_t
	err := unix.Fstatat(root, name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil || int(stat.Uid) != c.agentUID || time.Since(time.Unix(stat.Ctim.Unix())) < age {
		return
	}
	lock, err := lockFolder(root, name)
	if err != nil {
		return // Its agent lives.
	}
	defer lock.Close()
	if err := removeTree(filepath.Join(c.scratchRoot, name), deadline); err != nil {
		c.logger.Warn("scratch directory of an earlier agent left behind", "err", err)
	}
}

// removeTree removes a directory whose contents a handler made.
//
// Threat L08: os.RemoveAll holds a descriptor for each level of a tree. A
// handler that nests some thousands of directories would leave the agent,
// while it cleans up, without descriptors for its sockets. Here directories
// found below the top are moved up to the top and emptied in their turn, so
// that three descriptors do for a tree of any shape.
func removeTree(path string, deadline time.Time) error {
	top, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("removing %q: %w", path, err)
	}
	f := flattener{top: os.NewFile(uintptr(top), path), deadline: deadline}
	defer f.top.Close()
	if err := f.empty(); err != nil {
		return fmt.Errorf("removing %q: %w", path, err)
	}
	return os.Remove(path)
}

type flattener struct {
	top      *os.File
	moved    int
	deadline time.Time
}

// batch is how many names are read at a time: a directory of a million files
// is not held in memory.
const batch = 512

// empty removes everything in the top directory, which grows meanwhile by the
// directories that are moved up.
func (f *flattener) empty() error {
	for {
		names, err := readNames(f.top)
		if err != nil || len(names) == 0 {
			return err
		}
		for _, name := range names {
			if err := f.removeEntry(f.top, name); err != nil {
				return err
			}
		}
	}
}

// removeEntry removes one entry of dir: a file at once, a directory after
// everything in it is removed or moved up.
func (f *flattener) removeEntry(dir *os.File, name string) error {
	if time.Now().After(f.deadline) {
		return os.ErrDeadlineExceeded
	}
	err := unix.Unlinkat(int(dir.Fd()), name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR {
		return err
	}
	if dir != f.top {
		// Moving a directory changes its "..", for which it must be writable.
		if err := unlock(dir, name); err != nil {
			return err
		}
		f.moved++
		return unix.Renameat(int(dir.Fd()), name, int(f.top.Fd()), fmt.Sprintf(".moved-%d", f.moved))
	}
	if unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR) == nil {
		return nil
	}
	return f.removeFolder(name)
}

func (f *flattener) removeFolder(name string) error {
	if err := unlock(f.top, name); err != nil {
		return err
	}
	fd, err := unix.Openat(int(f.top.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	folder := os.NewFile(uintptr(fd), name)
	defer folder.Close()
	for {
		names, err := readNames(folder)
		if err != nil {
			return err
		}
		if len(names) == 0 {
			return unix.Unlinkat(int(f.top.Fd()), name, unix.AT_REMOVEDIR)
		}
		for _, inside := range names {
			if err := f.removeEntry(folder, inside); err != nil {
				return err
			}
		}
	}
}

// unlock makes a directory usable again. The handler may have taken all rights
// to it away, and with them those of an agent that is the same user. Through
// the descriptor it cannot be anything but the directory in that place.
func unlock(dir *os.File, name string) error {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Chmod(fdPath(fd), 0o700)
}

// readNames reads some names of a directory from its start.
func readNames(dir *os.File) ([]string, error) {
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(batch)
	if err == io.EOF {
		err = nil
	}
	return names, err
}
