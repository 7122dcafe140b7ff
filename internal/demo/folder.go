package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/secgossip/secgossip/internal/lab"
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

// folder is what a demo keeps on the disk: a lab, and the file that handler.sh
// writes to.
type folder struct {
	*lab.Lab
	granted string
}

// newFolder makes the file that handler.sh writes to, which must not exist, and
// the folder. It leaves nothing when it fails.
func newFolder(bin, granted string) (f *folder, err error) {
	handlers, err := lab.HandlerAccount()
	if err != nil {
		return nil, err
	}
	if err := handlers.Create(granted); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("%s exists, and handler.sh would write to it: move it away first; nothing was changed", granted)
		}
		return nil, err
	}
	f = &folder{granted: granted}
	if f.Lab, err = lab.New(bin, "demo"); err != nil {
		return nil, errors.Join(err, os.Remove(granted))
	}
	err = errors.Join(
		f.WriteProgram("handler.sh", handlerScript),
		f.WriteProgram("tell.sh", fmt.Sprintf(tellScript, f.In("output"))),
	)
	if err != nil {
		return nil, errors.Join(err, f.remove())
	}
	return f, nil
}

// remove takes everything away.
func (f *folder) remove() error { return errors.Join(f.Remove(), os.Remove(f.granted)) }
