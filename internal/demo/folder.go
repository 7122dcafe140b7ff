package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// grantedFile is where handler.sh writes. It is the one thing of a demo that
// does not lie in its folder.
const grantedFile = "/tmp/mem.txt"

// handlerScript is written for Serf and runs here unchanged.
//
//go:embed handler.sh
var handlerScript string

// tellScript is a second handler, which says where it ran. Its line is written
// at once, so that nobody sees half of it. %s is the folder of the outputs.
const tellScript = `#!/bin/sh
payload=$(cat)
printf '%%s: as uid %%s, read "%%s"\n' "$SERF_SELF_NAME" "$(id -u)" "$payload" >> %s/"$SERF_SELF_NAME".txt
`

// folder is what a demo keeps on the disk.
//
//	web-1 web-2 web-3 memo   homes, 0700
//	handlers/                the handlers' programs
//	output/                  what they write, a file for each node
//	scratch/                 the agents' TMPDIR, where handlers run
//	logs/                    a log for each node
//
// All but the homes and logs must be open to the user that handlers run as.
type folder struct {
	path     string
	granted  string
	handlers account
}

// account is who runs the handlers.
type account struct{ uid, gid int }

// handlerAccount is whom an agent of ours runs handlers as: itself, or nobody if
// it is root.
func handlerAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{os.Geteuid(), os.Getegid()}, nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return account{}, err
	}
	uid, uidErr := strconv.Atoi(nobody.Uid)
	gid, gidErr := strconv.Atoi(nobody.Gid)
	return account{uid, gid}, errors.Join(uidErr, gidErr)
}

// newFolder makes the file that handler.sh writes to, which must not exist, and
// the folder. It leaves nothing when it fails.
func newFolder(granted string) (f *folder, err error) {
	f = &folder{granted: granted}
	if f.handlers, err = handlerAccount(); err != nil {
		return nil, err
	}
	if err := f.create(granted, 0o600); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("%s exists, and handler.sh would write to it: move it away first; nothing was changed", granted)
		}
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.remove())
		}
	}()
	// In /tmp whatever TMPDIR says: the user that handlers run as must be able
	// to get there.
	if f.path, err = os.MkdirTemp("/tmp", "secgossip-demo-"); err != nil {
		return nil, err
	}
	return f, errors.Join(
		os.Chmod(f.path, 0o755),
		f.mkdir("handlers", 0o755), f.mkdir("output", 0o755), f.mkdir("scratch", 0o755), f.mkdir("logs", 0o700),
		f.writeProgram("handler.sh", handlerScript),
		f.writeProgram("tell.sh", fmt.Sprintf(tellScript, f.in("output"))),
	)
}

// remove takes everything away.
func (f *folder) remove() error {
	var problems []error
	if f.path != "" {
		problems = append(problems, os.RemoveAll(f.path))
	}
	return errors.Join(append(problems, os.Remove(f.granted))...)
}

func (f *folder) in(name string) string      { return filepath.Join(f.path, name) }
func (f *folder) program(name string) string { return f.in(filepath.Join("handlers", name)) }
func (f *folder) output(node string) string  { return f.in(filepath.Join("output", node+".txt")) }
func (f *folder) log(node string) string     { return f.in(filepath.Join("logs", node+".log")) }
func (f *folder) mkdir(name string, mode fs.FileMode) error {
	// Chmod, because a umask may have taken bits away.
	return errors.Join(os.Mkdir(f.in(name), mode), os.Chmod(f.in(name), mode))
}

func (f *folder) writeProgram(name, script string) error {
	return errors.Join(os.WriteFile(f.program(name), []byte(script), 0o755), os.Chmod(f.program(name), 0o755))
}

// create makes an empty file that belongs to the user that handlers run as.
func (f *folder) create(path string, mode fs.FileMode) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if f.handlers.uid != os.Geteuid() {
		err = file.Chown(f.handlers.uid, f.handlers.gid)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
