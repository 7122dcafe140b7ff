//go:build unix

package home

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/secgossip/secgossip/keyring"
)

// OpenTrusted opens a file that is no secret but decides what this host does:
// whom it trusts, which programs it runs. It must be a regular file of ours or
// root's that nobody else can write to, in a folder in which nobody else can put
// another in its place. The error is keyring.ErrPermissions with the fix, or the
// operating system's.
//
// Threat L06: the file is judged by its descriptor, and that is what is read.
func OpenTrusted(path string) (*os.File, error) {
	folders := []string{filepath.Dir(path)}
	if real, err := filepath.EvalSymlinks(path); err == nil && filepath.Dir(real) != folders[0] {
		folders = append(folders, filepath.Dir(real))
	}
	for _, folder := range folders {
		info, err := os.Stat(folder)
		if err != nil {
			return nil, err
		}
		if err := checkTrusted(folder, info, os.Geteuid()); err != nil {
			return nil, err
		}
	}
	// O_NONBLOCK: a pipe by this name must not make us wait.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%q: %w: it is not a regular file", path, keyring.ErrPermissions)
	}
	if err == nil {
		err = checkTrusted(path, info, os.Geteuid())
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// checkTrusted is the rule. In a folder with the sticky bit, such as /tmp, only
// the owner of a file can put another in its place.
func checkTrusted(path string, info fs.FileInfo, self int) error {
	if owner := int(info.Sys().(*syscall.Stat_t).Uid); owner != 0 && owner != self {
		return fmt.Errorf("%q: %w: it belongs to user %d; run: chown %d %q", path, keyring.ErrPermissions, owner, self, path)
	}
	sticky := info.IsDir() && info.Mode()&fs.ModeSticky != 0
	if info.Mode().Perm()&0o022 != 0 && !sticky {
		return fmt.Errorf("%q: %w: mode %04o lets others change it; run: chmod go-w %q", path, keyring.ErrPermissions, info.Mode().Perm(), path)
	}
	return nil
}

// checkOurs says whose a file is, if it is another user's.
func checkOurs(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if owner := int(info.Sys().(*syscall.Stat_t).Uid); owner != os.Geteuid() {
		return fmt.Errorf("%q: %w: it belongs to user %d", path, keyring.ErrPermissions, owner)
	}
	return nil
}
