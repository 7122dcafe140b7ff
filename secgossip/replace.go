package secgossip

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// replaceFile puts content at path in one step that a power cut does not halve:
// it is written beside path, synced to disk, and renamed. The file is returned
// open, to be read and written. It comes with an error when only the last step
// failed, syncing the folder: then the file has its name, but might lose it to
// the former one in a power cut. With any other error path is as it was.
//
// The temporary name is always the same, so that crashes leave one such file at
// most. One caller at a time may replace a path.
func replaceFile(path string, content []byte) (*os.File, error) {
	return replaceBy(diskSteps, path, content)
}

// replaceSteps are the steps of replacing a file, at each of which a disk can be full.
type replaceSteps struct {
	write  func(*os.File, []byte) error
	sync   func(*os.File) error
	rename func(from, to string) error
}

var diskSteps = replaceSteps{
	write:  func(f *os.File, content []byte) error { _, err := f.Write(content); return err },
	sync:   (*os.File).Sync,
	rename: os.Rename,
}

func replaceBy(steps replaceSteps, path string, content []byte) (*os.File, error) {
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	err = steps.write(file, content)
	if err == nil {
		err = steps.sync(file)
	}
	if err == nil {
		err = steps.rename(temporary, path)
	}
	if err != nil {
		file.Close()
		os.Remove(temporary) // if it stays, the next call removes it
		return nil, err
	}
	return file, syncFolder(filepath.Dir(path))
}

// writeFile is replaceFile for content that is complete.
func writeFile(path string, content []byte) error {
	file, err := replaceFile(path, content)
	if file != nil {
		err = errors.Join(err, file.Close())
	}
	return err
}

// syncFolder makes the names in a folder last through a power cut. Windows has no
// such call; renaming is all there is.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
