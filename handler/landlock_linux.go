package handler

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
)

const (
	// neededLandlock is the Landlock ABI that Strict asks for. Before 3
	// (Linux 6.2) a confined process could still truncate every file its
	// user may write to.
	neededLandlock = 3
	// signalLandlock (Linux 6.12) also keeps signals and abstract sockets
	// from reaching anything outside.
	signalLandlock = 6
)

// landlockABI is what the kernel offers, 0 for nothing.
func landlockABI() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(version)
}

// requiredLandlock is the ABI below which no run may start.
func requiredLandlock(sandbox Sandbox) (int, error) {
	if sandbox == Reduced {
		return 0, nil
	}
	if abi := landlockABI(); abi < neededLandlock {
		return 0, fmt.Errorf("this kernel cannot confine handlers: it has Landlock ABI %d and %d is needed; "+
			"fix: Linux 6.2 or later with landlock in its lsm= boot parameter, or sandbox: reduced", abi, neededLandlock)
	}
	return neededLandlock, nil
}

// restrictFiles lets the program read and execute what its user may, except in
// private directories, and write only where it was granted.
//
// The network is not this function's business: Landlock's rules for it can be
// avoided with multipath TCP.
func restrictFiles(cage *cage) error {
	abi := landlockABI()
	if abi < cage.MinLandlock {
		return fmt.Errorf("this kernel has Landlock ABI %d and %d is needed", abi, cage.MinLandlock)
	}
	rules, opened, err := writeRules(cage, abi)
	defer func() {
		for _, fd := range opened {
			unix.Close(fd)
		}
	}()
	if err != nil {
		return err
	}
	var dirs, files []string
	for _, root := range cage.Roots {
		moreDirs, moreFiles := readableBelow(root, cage.Private)
		dirs, files = append(dirs, moreDirs...), append(files, moreFiles...)
	}
	rules = append(rules,
		landlock.RODirs(dirs...).IgnoreIfMissing(),
		landlock.ROFiles(files...).IgnoreIfMissing(),
		landlock.RODirs(cage.Readable...),
		// The program may lie in a private directory.
		landlock.ROFiles(fdPath(programFD)),
	)
	config := landlock.V8
	config.HandledAccessNet = 0
	// Best effort goes up from MinLandlock, which was checked above.
	if err := config.BestEffort().Restrict(rules...); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	return nil
}

// writeRules allows writing. Its rules need what was opened until they are in force.
func writeRules(cage *cage, abi int) (rules []landlock.Rule, opened []int, err error) {
	// Shells open /dev/null for reading and writing at every turn.
	rules = []landlock.Rule{landlock.RWFiles("/dev/null"), directoryRule(cage.Work, abi)}
	for _, path := range cage.Writable {
		fd, err := openWritable(path)
		if err != nil {
			return nil, opened, fmt.Errorf("writable path: %w", err)
		}
		opened = append(opened, fd)
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err != nil {
			return nil, opened, fmt.Errorf("writable path %q: %w", path, err)
		}
		// By descriptor: the rule is for what was opened without a symlink.
		if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
			rules = append(rules, directoryRule(fdPath(fd), abi))
		} else {
			rules = append(rules, landlock.RWFiles(fdPath(fd)))
		}
	}
	return rules, opened, nil
}

// directoryRule allows everything in a directory, and moving files between its
// subdirectories where the kernel can allow that.
func directoryRule(path string, abi int) landlock.Rule {
	rule := landlock.RWDirs(path)
	if abi >= 2 {
		rule = rule.WithRefer()
	}
	return rule
}

// readableBelow is readable of a root, which may be a file or not be there.
func readableBelow(root string, private []string) (dirs, files []string) {
	info, err := os.Stat(root)
	switch {
	case err != nil:
		return nil, nil
	case !info.IsDir():
		return nil, []string{root}
	}
	return readable(root, private)
}

// readable lists what may be read so that nothing private is. Landlock
// knows only permissions, so what is private is left out by naming its
// neighbours, and the neighbours of the directories above it. Names that
// appear there later cannot be read by a handler that is already running.
func readable(dir string, private []string) (dirs, files []string) {
	if !containsAny(dir, private) {
		return []string{dir}, nil
	}
	for _, path := range private {
		if path == dir {
			return nil, nil
		}
	}
	// A directory this user cannot list is one it has no rights in, and in one that it
	// cannot enter it can read nothing.
	entries, err := os.ReadDir(dir)
	if err != nil || unix.Access(dir, unix.X_OK) != nil {
		return nil, nil
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		switch {
		case entry.Type()&os.ModeSymlink != 0: // What a link leads to counts, not the link.
		case entry.IsDir():
			moreDirs, moreFiles := readable(path, private)
			dirs = append(dirs, moreDirs...)
			files = append(files, moreFiles...)
		case slices.Contains(private, path): // a file by itself
		default:
			files = append(files, path)
		}
	}
	return dirs, files
}
