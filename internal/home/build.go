package home

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// CheckVacant reports why no home can be made at h: something is there already.
// Ask it before asking a person for a passphrase.
func (h Home) CheckVacant() error {
	target, err := h.resolve()
	if err != nil {
		return err
	}
	return checkVacant(target)
}

// resolve is the absolute path of h, without symbolic links if it exists: a
// rename would replace a link and not what it leads to.
func (h Home) resolve() (string, error) {
	target, err := filepath.Abs(string(h))
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(target); err == nil {
		return real, nil
	}
	return target, nil
}

// build makes a home at h by filling a folder beside it, NAME.new, and renaming
// that into place. h may be absent or an empty folder. When fill fails, or ctx
// ends before it is done, nothing is left. Only a kill or a power cut can leave
// NAME.new, which is not a home and is never taken for one.
func (h Home) build(ctx context.Context, fill func(draft Home) error) (err error) {
	target, err := h.resolve()
	if err != nil {
		return err
	}
	if err := checkVacant(target); err != nil {
		return err
	}
	made, err := makeFolders(filepath.Dir(target))
	defer func() {
		if err != nil {
			removeFolders(made)
		}
	}()
	if err != nil {
		return err
	}
	draft := draftOf(target)
	if err := os.Mkdir(draft, 0o700); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(draft))
		}
	}()
	if err := fill(Home(draft)); err != nil {
		return err
	}
	if err := syncFolders(draft); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ErrInterrupted
	}
	if err := putInPlace(draft, target); err != nil {
		return &Problem{
			Err:  fmt.Errorf("putting the new home in place: %w", err),
			Next: "nothing was made; if that folder is a mount point, name a folder in it",
		}
	}
	return syncFolder(filepath.Dir(target))
}

// putInPlace gives the draft its name, in place of an empty folder if there is
// one: os.Rename replaces none by itself, and Rmdir removes nothing else.
func putInPlace(draft, target string) error {
	if err := syscall.Rmdir(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(draft, target)
}

func draftOf(target string) string { return target + ".new" }

// checkVacant refuses a folder with anything in it, and what an earlier attempt
// left behind: it may hold keys, and another process may be at work on it.
func checkVacant(target string) error {
	if exists(draftOf(target)) {
		return &Problem{
			Err:  fmt.Errorf("%s is there: another command is making this home, or was killed while it did", draftOf(target)),
			Next: "if none is running, it is not a home and may be removed: rm -r " + draftOf(target),
		}
	}
	entries, err := os.ReadDir(target)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &Problem{Err: err, Next: "nothing was changed; name a folder that is empty or not there yet"}
	}
	if len(entries) == 0 {
		return checkElsewhere(target)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return &Problem{
		Err:  fmt.Errorf("%s is %w: it holds %s", target, ErrExists, strings.Join(names, ", ")),
		Next: "nothing was changed; name another folder, or move that one away",
	}
}

// checkElsewhere refuses the folder we stand in: it is replaced, and whoever
// stands in it would be left in the one that is gone.
func checkElsewhere(target string) error {
	here, err := os.Stat(".")
	if err != nil {
		return nil // we stand nowhere
	}
	if there, err := os.Stat(target); err == nil && os.SameFile(here, there) {
		return &Problem{
			Err:  fmt.Errorf("%s is the folder you are in, and making a home replaces it", target),
			Next: "go to the folder above and name it from there",
		}
	}
	return nil
}

// makeFolders makes path and the folders above it. It returns those that were
// not there, the lowest first, even when it fails half-way.
func makeFolders(path string) ([]string, error) {
	var made []string
	for p := path; !exists(p); p = filepath.Dir(p) {
		made = append(made, p)
	}
	return made, os.MkdirAll(path, 0o755)
}

// removeFolders removes what makeFolders made. What somebody has put something
// in meanwhile stays, which is why errors do not matter.
func removeFolders(made []string) {
	for _, p := range made {
		_ = os.Remove(p)
	}
}

// syncFolders makes the names of all files below path last through a power cut.
// Each file was synced when it was written.
func syncFolders(path string) error {
	return filepath.WalkDir(path, func(p string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		return syncFolder(p)
	})
}

func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil // it has no such call for folders
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// writeFile writes a new file of a draft, synced.
func (h Home) writeFile(name string, content []byte, mode fs.FileMode) error {
	path := h.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}
