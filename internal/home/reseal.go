package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/secgossip/secgossip/keyring"
)

// node/ is sealed anew in one piece: a second folder is filled with everything,
// synced, and takes the place of the first. Between the two renames there is no
// node/ for a moment. A kill at any point leaves one of
//
//	node/                   as it was, and perhaps a part of node.new/
//	node.old/, node.new/    and node.new/ is whole: nothing is renamed before it is
//	node/                   the new one, and perhaps node.old/
//
// which finishReseal tells apart by their names, so that what opens the files is the
// old or the new, for all of them.
const (
	nodeNew = "node.new"
	nodeOld = "node.old"
)

// Reseal seals this node's files with something else, and says what opens them now.
// Nothing in to makes a new machine key. No agent may be running. Of the keyring the
// version in use is kept. What was sealed before, and a machine key, is removed;
// file systems may keep their blocks.
func (h Home) Reseal(from, to Unlock) (with string, err error) {
	lock, err := h.Lock()
	if errors.Is(err, fs.ErrNotExist) {
		return "", h.missing(fileNodeCert)
	}
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := h.Sweep(); err != nil {
		return "", err
	}
	if _, err := os.Stat(h.path(fileNodeCert)); err != nil {
		return "", h.explain(fileNodeCert, err)
	}
	if info, err := os.Lstat(h.path("node")); err != nil || !info.IsDir() {
		return "", errors.Join(err, fmt.Errorf("%q is not a folder: a link cannot be exchanged for what it leads to", h.path("node")))
	}
	if err := checkOurs(h.path("node")); err != nil {
		return "", &Problem{Err: err, Next: "run this as that user: the agent could not read what another makes"}
	}
	if h.inNode(to.PassphraseFile) || h.inNode(to.IdentityFile) {
		return "", &Problem{
			Err:  errors.New("what is to open the files lies among them"),
			Next: "put it elsewhere, best on other storage: this folder is replaced, and a copy of it would open itself",
		}
	}
	o, err := h.unlock(from)
	if err != nil {
		return "", err
	}
	defer o.Destroy()
	defer func() {
		if err != nil {
			err = errors.Join(err, h.finishReseal())
		}
	}()
	if err := os.Mkdir(h.path(nodeNew), 0o700); err != nil {
		return "", err
	}
	locker, err := h.newLocker(to)
	if err != nil {
		return "", err
	}
	defer locker.Destroy()
	if err := h.fillReseal(o, locker); err != nil {
		return "", err
	}
	if err := h.swapNode(); err != nil {
		return "", err
	}
	return locker.String(), h.finishReseal()
}

// inNode reports whether a file lies in node/, whatever it is called.
func (h Home) inNode(file string) bool {
	if file == "" {
		return false
	}
	folder, err := os.Stat(filepath.Dir(file))
	node, nodeErr := os.Stat(h.path("node"))
	return err == nil && nodeErr == nil && os.SameFile(folder, node)
}

// newLocker is what node.new/ is to be sealed with.
func (h Home) newLocker(to Unlock) (*keyring.Locker, error) {
	if to.Set() {
		o, err := h.unlock(to)
		return o.Locker, err
	}
	return keyring.NewMachineLocker(filepath.Join(h.path(nodeNew), filepath.Base(fileUnlock)))
}

// fillReseal makes node.new/ of node/.
func (h Home) fillReseal(o opener, locker *keyring.Locker) error {
	entries, err := os.ReadDir(h.path("node"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := "node/" + entry.Name()
		from, to := h.path(name), filepath.Join(h.path(nodeNew), entry.Name())
		switch {
		case name == fileUnlock, name == fileKeyring, name == fileKeyring+".prev":
		case name == fileSigningKey, name == fileAgreementKey, name == fileIssuerKey:
			err = h.resealFile(o, locker, name, to)
		case entry.Type().IsRegular():
			err = os.Link(from, to)
		default:
			err = fmt.Errorf("%q is no file of a home; move it away", from)
		}
		if err != nil {
			return err
		}
	}
	if err := h.resealKeyring(o, locker); err != nil {
		return err
	}
	return syncFolder(h.path(nodeNew))
}

func (h Home) resealFile(o opener, locker *keyring.Locker, name, to string) error {
	content, err := o.ReadFile(h.path(name))
	if err != nil {
		return h.explainSealed(o, name, err)
	}
	defer content.Destroy()
	return locker.WriteFile(to, content.Bytes())
}

// resealKeyring takes the version that reads, which may be the previous one, and
// makes both of it.
func (h Home) resealKeyring(o opener, locker *keyring.Locker) error {
	old, err := h.openKeyring(o)
	if err != nil {
		return err
	}
	defer old.Keyring().Destroy()
	sealed, err := keyring.CreateFile(filepath.Join(h.path(nodeNew), filepath.Base(fileKeyring)), locker, old.Keyring())
	if err != nil {
		return err
	}
	return sealed.Save()
}

// swapNode puts node.new/ in the place of node/. Each rename is on disk before what
// follows it.
func (h Home) swapNode() error {
	if err := os.Rename(h.path("node"), h.path(nodeOld)); err != nil {
		return err
	}
	if err := syncFolder(string(h)); err != nil {
		return err
	}
	if err := os.Rename(h.path(nodeNew), h.path("node")); err != nil {
		return err
	}
	return syncFolder(string(h))
}

// finishReseal puts right what a killed Reseal left. Only the holder of Lock may
// call it.
func (h Home) finishReseal() error {
	if !exists(h.path("node")) && exists(h.path(nodeOld)) && exists(h.path(nodeNew)) {
		if err := errors.Join(os.Rename(h.path(nodeNew), h.path("node")), syncFolder(string(h))); err != nil {
			return err
		}
	}
	if !exists(h.path("node")) {
		return nil // not ours to judge
	}
	return errors.Join(os.RemoveAll(h.path(nodeNew)), os.RemoveAll(h.path(nodeOld)))
}
