//go:build unix

package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/secgossip/secgossip/keyring"
)

// HandOver lets a user write what an agent writes, and nothing else of a home of
// root's: state/ becomes that user's, and node/ a folder of root's in which it may put
// files, with the keyring its own. By the sticky bit it can neither remove nor replace
// the others there, the keys and the certificate. The home itself it may pass through.
//
// Only the holder of Lock may call it. Nothing is followed that is a link.
func (h Home) HandOver(uid, gid int) error {
	top, err := os.OpenRoot(string(h))
	if err != nil {
		return err
	}
	defer top.Close()
	err = errors.Join(
		handFolder(top, ".", 0, gid, func(mode fs.FileMode) fs.FileMode { return mode | 0o010 }),
		handFolder(top, "node", 0, gid, func(fs.FileMode) fs.FileMode { return 0o770 | fs.ModeSticky }),
		handFiles(top, uid, gid, fileKeyring, fileKeyring+".prev"),
	)
	if err != nil {
		return err
	}
	if err := top.Mkdir(dirState, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := handFolder(top, dirState, uid, gid, func(fs.FileMode) fs.FileMode { return 0o700 }); err != nil {
		return err
	}
	state, err := fs.ReadDir(top.FS(), dirState)
	if err != nil {
		return err
	}
	var names []string
	for _, entry := range state {
		if entry.Type().IsRegular() {
			names = append(names, filepath.Join(dirState, entry.Name()))
		}
	}
	return handFiles(top, uid, gid, names...)
}

// handFolder gives a folder an owner, a group and a mode.
func handFolder(top *os.Root, name string, uid, gid int, mode func(fs.FileMode) fs.FileMode) error {
	folder, info, err := openExactly(top, name)
	if err != nil {
		return err
	}
	defer folder.Close()
	if !info.IsDir() {
		return fmt.Errorf("%q: %w: it is not a folder", name, keyring.ErrPermissions)
	}
	// The mode last: chown takes bits away.
	return errors.Join(folder.Chown(uid, gid), folder.Chmod(mode(info.Mode().Perm())))
}

// handFiles gives files to a user. One that is not there is no error; one with another
// name elsewhere is not handed over, for it may be anything.
func handFiles(top *os.Root, uid, gid int, names ...string) error {
	for _, name := range names {
		file, info, err := openExactly(top, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Sys().(*syscall.Stat_t).Nlink != 1 {
			err = fmt.Errorf("%q: %w: it is not a file with one name", name, keyring.ErrPermissions)
		} else {
			err = file.Chown(uid, gid)
		}
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

// openExactly opens what has this name itself, not what a link leads to.
func openExactly(top *os.Root, name string) (*os.File, fs.FileInfo, error) {
	named, err := top.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !named.IsDir() && !named.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%q: %w: it is neither a file nor a folder", name, keyring.ErrPermissions)
	}
	file, err := top.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil && !os.SameFile(named, info) {
		err = fmt.Errorf("%q: %w: it was exchanged", name, keyring.ErrPermissions)
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}
