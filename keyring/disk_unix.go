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

// handedOver reports whether root has let this user into the folder of path, and
// nobody but that user's group: the folder is root's, 1770, and what lies in it belongs
// to that group. In a folder with the sticky bit a user can only replace its own files.
func handedOver(path string, owner int) bool {
	folder, err := os.Lstat(filepath.Dir(path))
	if err != nil || !folder.IsDir() || ownerOf(folder) != 0 ||
		folder.Mode()&fs.ModeSticky == 0 || folder.Mode().Perm() != 0o770 {
		return false
	}
	file, err := os.Lstat(path)
	if err != nil || ownerOf(file) != owner {
		return false
	}
	return groupOf(file) == groupOf(folder) && groupOf(folder) > 0
}

func groupOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Gid)
	}
	return -1
}
