//go:build unix

package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// openNoFollow opens path for reading, but not through a symbolic link as its
// last part, and without waiting for a writer when it is a pipe.
func openNoFollow(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	// The error of a refused link differs between systems (ELOOP, EMLINK, EFTYPE),
	// so the name is looked at once more, for the message only.
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		if info, statErr := os.Lstat(path); statErr == nil && info.Mode()&fs.ModeSymlink != 0 {
			return nil, fmt.Errorf("%w: it is a symbolic link; name the file itself", ErrPermissions)
		}
	}
	return file, err
}

// ownerOf returns the user id that owns a file.
func ownerOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1 // no user: refused
}

// syncDirectory makes the names in path's directory last through a power cut.
func syncDirectory(path string) error {
	directory, err := os.Open(filepath.Dir(path))
	if err != nil {
		return named(path, err)
	}
	defer directory.Close()
	if err := directory.Sync(); err != nil {
		return named(path, err)
	}
	return nil
}
