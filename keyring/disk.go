package keyring

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxFileSize bounds what is read of any file. The largest of ours, a full
// keyring, is 17 KiB of plaintext and 2 KiB of age header; the rest is for an
// operator who has sealed it again for several recipients.
const maxFileSize = 1 << 20

// CheckSecretFile returns ErrPermissions, with the fix, unless path is a regular
// file, not a symbolic link, that belongs to this process's user or to root and
// that nobody else can read or write. Another error is the operating system's.
//
// Threat L07: it looks at the opened file and not at the name. Whoever reads a
// secret with this package needs no check before: every reader here makes the
// same check on the descriptor it then reads from.
func CheckSecretFile(path string) error {
	file, _, err := openSecret(path, checkSecret)
	if err != nil {
		return err
	}
	return file.Close()
}

// rule says what is wrong with a file that is to be ours alone.
type rule func(path string, mode fs.FileMode, owner, self int) error

// checkKeyring is the rule for a keyring, which an agent writes after it has given up
// being root. Root, who issues homes from it, takes such a one where it has let that
// agent's user write; what is inside is worth no more than that user is.
func checkKeyring(path string, mode fs.FileMode, owner, self int) error {
	if self == 0 && owner > 0 && handedOver(path, owner) {
		owner = self
	}
	return checkSecret(path, mode, owner, self)
}

// openSecret opens path for reading and checks what it has opened.
func openSecret(path string, check rule) (_ *os.File, size int64, err error) {
	file, err := openNoFollow(path)
	if err != nil {
		return nil, 0, named(path, err)
	}
	defer func() {
		if err != nil {
			file.Close() // nothing was written: there is nothing to lose
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, named(path, err)
	}
	if err := check(path, info.Mode(), ownerOf(info), os.Geteuid()); err != nil {
		return nil, 0, err
	}
	if info.Size() > maxFileSize {
		return nil, 0, fmt.Errorf("%q: %w: %d bytes, and %d are allowed", path, ErrTooLarge, info.Size(), maxFileSize)
	}
	return file, info.Size(), nil
}

// checkSecret is the rule. self is this process's user, -1 where there are no
// such users.
func checkSecret(path string, mode fs.FileMode, owner, self int) error {
	switch {
	case mode&fs.ModeSymlink != 0:
		return fmt.Errorf("%q: %w: it is a symbolic link; name the file itself", path, ErrPermissions)
	case !mode.IsRegular():
		return fmt.Errorf("%q: %w: it is not a regular file", path, ErrPermissions)
	case self == -1:
		return nil
	case owner != self && owner != 0:
		return fmt.Errorf("%q: %w: it belongs to user %d; run: chown %d %q", path, ErrPermissions, owner, self, path)
	case mode.Perm()&0o077 != 0:
		return fmt.Errorf("%q: %w: mode %04o lets others at it; run: chmod 600 %q", path, ErrPermissions, mode.Perm(), path)
	}
	return nil
}

// checkCredential is the rule for what a service manager hands over. Where the
// service is not root's, systemd keeps the file root's and lets the one user in by
// an access list, whose mask then shows as the group's right to read.
func checkCredential(path string, mode fs.FileMode, owner, self int) error {
	if owner == 0 && self > 0 {
		mode &^= 0o040
	}
	return checkSecret(path, mode, owner, self)
}

// readFile returns what a file of sealed bytes holds.
func readFile(path string) ([]byte, error) { return readSealed(path, checkSecret) }

func readSealed(path string, check rule) ([]byte, error) {
	file, _, err := openSecret(path, check)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err != nil {
		return nil, named(path, err)
	}
	if len(raw) > maxFileSize { // it has grown since it was opened
		return nil, fmt.Errorf("%q: %w", path, ErrTooLarge)
	}
	return raw, nil
}

// readLocked returns what a file of unsealed secrets holds. The bytes go from
// the kernel straight into locked memory.
func readLocked(path string, check rule) (locked, error) {
	file, size, err := openSecret(path, check)
	if err != nil {
		return locked{}, err
	}
	defer file.Close()
	switch {
	case size == 0:
		return locked{}, fmt.Errorf("%q: %w: it is empty", path, ErrDamaged)
	case size > maxPlaintext:
		return locked{}, fmt.Errorf("%q: %w: %d bytes, and %d are allowed", path, ErrTooLarge, size, maxPlaintext)
	}
	memory, err := newLocked(int(size))
	if err != nil {
		return locked{}, err
	}
	if _, err := io.ReadFull(file, memory.buffer.Bytes()); err != nil {
		memory.destroy()
		return locked{}, named(path, err)
	}
	return memory, nil
}

// staged is a complete file, synced to disk, under a temporary name beside the
// one it is for.
type staged struct{ temporary, path string }

// temporarySuffix is what comes after a file's name in the name of one staged for
// it; chance follows.
const temporarySuffix = ".tmp-"

// RemoveTemporary removes the temporary files that a process killed while it
// wrote the keyring at path left beside it, those of the previous version
// included: they may hold secrets of epochs that are retired. Nobody may be
// writing the keyring meanwhile. It goes on after an error.
func RemoveTemporary(path string) error {
	folder := filepath.Dir(path)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return named(path, err)
	}
	var problems []error
	for _, entry := range entries {
		for _, name := range []string{filepath.Base(path), filepath.Base(path) + previousSuffix} {
			if strings.HasPrefix(entry.Name(), name+temporarySuffix) {
				problems = append(problems, os.Remove(filepath.Join(folder, entry.Name())))
			}
		}
	}
	return errors.Join(problems...)
}

// stage writes content beside path, in a new file, 0600. It is opened for writing
// only: an agent may not read the files of its node any more when it runs.
func stage(path string, content []byte) (_ staged, err error) {
	file, err := os.OpenFile(path+temporarySuffix+rand.Text(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return staged{}, named(path, err)
	}
	s := staged{file.Name(), path}
	defer func() {
		if err != nil {
			file.Close() // a second time, perhaps; the error at hand says more
			s.discard()
			err = named(path, err)
		}
	}()
	if _, err := file.Write(content); err != nil {
		return staged{}, err
	}
	if err := file.Sync(); err != nil {
		return staged{}, err
	}
	return s, file.Close()
}

// discard removes the temporary file. Nothing depends on its success: the file
// has either been published already, or is 0600 and never read by anybody.
func (s staged) discard() { os.Remove(s.temporary) }

// replace gives the file its name, over what had it.
func (s staged) replace() error {
	if err := os.Rename(s.temporary, s.path); err != nil {
		return named(s.path, err)
	}
	return nil
}

// create gives the file its name unless something has it. A rename would
// replace; a link refuses, in one step, also for a dangling symbolic link.
func (s staged) create() error {
	err := os.Link(s.temporary, s.path)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%q: %w", s.path, ErrExists)
	}
	if err != nil {
		return named(s.path, err)
	}
	s.discard()
	return nil
}

// writeNew makes a file that does not exist yet, 0600, whole or not at all.
func writeNew(path string, content []byte) error {
	s, err := stage(path, content)
	if err != nil {
		return err
	}
	defer s.discard()
	if err := s.create(); err != nil {
		return err
	}
	if err := syncDirectory(path); err != nil {
		os.Remove(path) // ours, and not yet promised to anybody
		return err
	}
	return nil
}
