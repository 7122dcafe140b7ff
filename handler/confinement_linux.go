package handler

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// confinement is how one handler is run. Its settings are complete.
type confinement struct {
	settings    Settings
	account     account
	agentUID    int
	writable    []string
	private     []string // without symlinks
	scratchRoot string
	timeout     time.Duration
	minLandlock int
	canDropAll  bool                               // the agent can have the bounding set emptied
	canIsolate  bool                               // the agent can give runs namespaces
	unshared    error                              // why it cannot do that, though it tried
	newGroup    func(permissions) (*cgroup, error) // nil: runs have no cgroup
	ungrouped   error                              // why not
	filterCalls bool
	permissions permissions
	logger      *slog.Logger
	spare       spare
	looks       chan struct{} // holds a token while the host is looked at: see newView
}

// newConfinement checks the settings and every program. It joins all problems.
func newConfinement(config Config) (*confinement, error) {
	c := &confinement{
		settings:    config.Settings,
		agentUID:    os.Geteuid(),
		writable:    config.Settings.Writable,
		scratchRoot: config.ScratchRoot,
		timeout:     config.Settings.Timeout,
		permissions: config.Settings.permissions(),
		logger:      config.Logger,
		looks:       make(chan struct{}, 1),
	}
	var problems []error
	report := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	groups, err := os.Getgroups()
	report(err)
	c.account, err = chooseAccount(config.Settings.User, os.Geteuid(), os.Getegid(), groups)
	report(err)
	c.canDropAll, err = holdsCapability(unix.CAP_SETPCAP)
	report(err)
	c.minLandlock, err = requiredLandlock(config.Settings.Sandbox)
	report(err)
	c.canIsolate, err = requireNamespaces(config.Settings.Sandbox, c.account.switched)
	report(err)
	if !c.account.switched && c.agentUID != 0 {
		c.canIsolate = true // Until the rehearsal finds otherwise.
	}
	c.filterCalls, err = requireCallFilter(config.Settings.Sandbox)
	report(err)
	if groups, err := delegatedCgroup(); err == nil {
		c.newGroup = groups.add
	} else {
		c.ungrouped = err
	}
	report(c.checkScratchRoot())
	for _, path := range config.Private {
		physical, err := filepath.EvalSymlinks(path)
		if err != nil {
			err = fmt.Errorf("private path: %w", err)
		}
		report(err)
		c.private = append(c.private, physical)
	}
	for _, path := range c.writable {
		report(c.checkWritable(path))
	}
	for _, path := range config.Settings.Readable {
		report(c.checkReadable(path))
	}
	for _, spec := range config.Specs {
		report(c.checkHandler(spec))
	}
	return c, errors.Join(problems...)
}

func (c *confinement) checkScratchRoot() error {
	found, err := walk(c.scratchRoot, c.agentUID)
	if err != nil {
		return fmt.Errorf("scratch directory: %w", err)
	}
	unix.Close(found.fd)
	if found.stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("scratch directory %q is not a directory", c.scratchRoot)
	}
	c.scratchRoot = found.path
	return nil
}

// checkWritable looks at a path that handlers may write to. Whether they can
// write there as the user they are, the rehearsal finds out.
func (c *confinement) checkWritable(path string) error {
	fd, err := openWritable(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("writable path %q does not exist; fix: make it a file (touch) or a directory (mkdir) that belongs to the handler user", path)
	case errors.Is(err, unix.ELOOP):
		physical, err := filepath.EvalSymlinks(path)
		if err != nil {
			physical = "the path without symlinks"
		}
		return fmt.Errorf("writable path %q goes through a symlink, whose owner could lead it elsewhere; fix: name %s", path, physical)
	case err != nil:
		return fmt.Errorf("writable path: %w", err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("writable path %q: %w", path, err)
	}
	if kind := stat.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return fmt.Errorf("writable path %q is neither a regular file nor a directory", path)
	}
	for _, private := range c.private {
		if within(path, private) || within(private, path) {
			return fmt.Errorf("writable path %q overlaps %q, which belongs to the agent alone", path, private)
		}
	}
	return nil
}

// systemRoots are what a program needs to run at all.
var systemRoots = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/dev", "/proc"}

// roots are the folders and files of which everything that is not private may be
// read.
func (c *confinement) roots() []string {
	if len(c.settings.Readable) == 0 {
		return []string{"/"}
	}
	return slices.Concat(systemRoots, c.settings.Readable)
}

// checkReadable looks at a path that a handler is to read. It grants nothing that
// is private: a slip here must not show a key.
func (c *confinement) checkReadable(path string) error {
	physical, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("readable path: %w; fix: name what exists", err)
	}
	for _, private := range c.private {
		if within(physical, private) {
			return fmt.Errorf("readable path %q lies in %q, which belongs to the agent alone", path, private)
		}
	}
	return nil
}

func (c *confinement) checkHandler(spec Spec) error {
	p, err := openProgram(spec.Program, c.agentUID)
	if err != nil {
		return fmt.Errorf("handler %q: %w", spec, err)
	}
	defer p.close()
	for _, path := range c.writable {
		if within(p.path, path) {
			return fmt.Errorf("handler %q: its program lies in the writable path %q: a handler could rewrite it", spec, path)
		}
	}
	return nil
}

// openWritable opens a writable path without following a symlink anywhere in
// it. Threat L07: in a directory that others may write to, a link could be
// planted where the granted file was.
func openWritable(path string) (fd int, err error) {
	fd, err = unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// within reports whether path is dir or lies below it. Both are absolute.
func within(path, dir string) bool {
	path, dir = filepath.Clean(path), filepath.Clean(dir)
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// containsAny reports whether any of paths lies within dir.
func containsAny(dir string, paths []string) bool {
	return slices.ContainsFunc(paths, func(path string) bool { return within(path, dir) })
}
