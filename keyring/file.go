package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
)

// previousSuffix is what the name of a file's previous version ends in.
const previousSuffix = ".prev"

// File keeps a keyring in a sealed file, and the version before it beside it as
// PATH.prev; after MemoryOnly it keeps the knock secret there and nothing else. It
// is safe for concurrent use by one process; two processes must not have the same
// file open for writing.
//
// PATH changes in one way only: a rename puts a complete file, already synced to
// disk, in its place. So at every instant, a power cut included, PATH reads, as
// the old version or as the new one. PATH.prev is for what a rename cannot help:
// a disk that loses or alters what it holds. It too changes only by such a
// rename, and is written from memory, with bytes that are known to read, and
// not from PATH, which may have decayed since. The two renames may reach the
// disk in any order, or only one of them: every file involved is complete.
//
// When a version leaves out a secret that the one before it holds, PATH.prev
// becomes the new version as well, before PATH does: a retired secret is to be
// gone, not kept one more round.
type File struct {
	nameplate
	path      string
	locker    *Locker
	ring      *Keyring
	recovered bool
	memory    atomic.Bool // epochs are kept in memory only; set with ring.change held

	// What the latest version on disk is, known to read. Guarded by ring.change.
	sealed []byte
	saved  state
}

// CreateFile seals k into a new file at path. The File goes on using l, so do not
// destroy it before. The errors are ErrExists, when path
// or a previous version of it exists, and those of Locker.WriteFile. The keyring
// then belongs to the File; on an error it stays the caller's.
func CreateFile(path string, l *Locker, k *Keyring) (*File, error) {
	if _, err := os.Lstat(path + previousSuffix); err == nil {
		return nil, fmt.Errorf("%q: %w", path+previousSuffix, ErrExists)
	}
	f := newFile(path, l, k)
	k.change.Lock()
	defer k.change.Unlock()
	sealed, err := f.seal(k.state)
	if err != nil {
		return nil, err
	}
	if err := writeNew(path, sealed); err != nil {
		return nil, err
	}
	f.sealed, f.saved = sealed, k.state
	return f, nil
}

// OpenFile reads the keyring at path, or its previous version when path is
// missing or damaged or does not open; Recovered says so then. It does not fall
// back when path is unsafe (ErrPermissions: fix it) or ErrNewer (the previous
// version would be a step back). When neither reads, the error is that of path:
// fs.ErrNotExist, ErrWrongKey, ErrDamaged, ErrForeign, ErrTooLarge, or the
// operating system's.
func OpenFile(path string, l *Locker) (*File, error) {
	f, err := load(path, path, l)
	if err == nil {
		return f, nil
	}
	if errors.Is(err, ErrPermissions) || errors.Is(err, ErrNewer) || errors.Is(err, ErrLockedMemory) || errors.Is(err, ErrDestroyed) {
		return nil, fmt.Errorf("reading keyring %w", err)
	}
	f, previousErr := load(path, path+previousSuffix, l)
	switch {
	case previousErr == nil:
		f.recovered = true
		return f, nil
	case errors.Is(previousErr, fs.ErrNotExist):
		return nil, fmt.Errorf("reading keyring %w (and there is no previous version)", err)
	}
	return nil, fmt.Errorf("reading keyring %w (nor does its previous version read: %v)", err, previousErr)
}

// load reads the version of path that is at from.
func load(path, from string, l *Locker) (*File, error) {
	sealed, err := readSealed(from, checkKeyring)
	if err != nil {
		return nil, err
	}
	plaintext, err := l.open(sealed)
	if err != nil {
		return nil, named(from, err)
	}
	defer plaintext.destroy()
	i, err := parseImage(plaintext.buffer.Bytes())
	if err != nil {
		return nil, named(from, err)
	}
	ring, err := fromImage(i)
	if err != nil {
		return nil, named(from, err)
	}
	f := newFile(path, l, ring)
	f.sealed, f.saved = sealed, ring.state
	return f, nil
}

func newFile(path string, l *Locker, k *Keyring) *File {
	return &File{nameplate: nameplate{"keyring file"}, path: path, locker: l, ring: k}
}

// Keyring returns the keyring. It is the same one for the File's life.
func (f *File) Keyring() *Keyring { return f.ring }

// Recovered reports whether OpenFile had to use the previous version. The next
// Save puts the file itself right again.
func (f *File) Recovered() bool { return f.recovered }

// MemoryOnly keeps epochs in memory from now on: the file and its previous version
// lose those they hold before it returns, and no later change writes any. What is
// left in them is the knock secret, without which no member hears us. The epochs at
// hand stay in use, and die with the process. The Locker must still open files. On an
// error, that of Save, nothing has changed but that one version may have lost its
// epochs already.
func (f *File) MemoryOnly() error {
	f.ring.change.Lock()
	defer f.ring.change.Unlock()
	if !f.holdsNoEpoch() { // or else a start on a full disk goes well
		if err := f.forget(); err != nil {
			return err
		}
	}
	f.memory.Store(true)
	return nil
}

// InMemory reports whether epochs are kept in memory only.
func (f *File) InMemory() bool { return f.memory.Load() }

// holdsNoEpoch reports whether neither version on disk holds an epoch. The previous
// one is read again: after a power cut it may be older than the rename before it.
func (f *File) holdsNoEpoch() bool {
	if f.recovered || len(f.saved.epochs) > 0 {
		return false
	}
	previous, err := load(f.path, f.path+previousSuffix, f.locker)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	defer previous.ring.Destroy()
	return len(previous.saved.epochs) == 0
}

// forget makes both versions on disk hold the knock secret and no epoch.
func (f *File) forget() error {
	empty := state{}
	sealed, err := f.seal(empty)
	if err != nil {
		return fmt.Errorf("removing epochs from keyring %q: %w", f.path, err)
	}
	if err := replaceBoth(f.path, sealed, sealed); err != nil {
		return fmt.Errorf("removing epochs from keyring %w", err)
	}
	f.sealed, f.saved = sealed, empty
	return nil
}

// Save writes the keyring as it is, unless it is kept in memory only. On an error
// the file holds one complete version or the other: the former one, unless the last
// step, syncing the directory, is what failed.
func (f *File) Save() error {
	f.ring.change.Lock()
	defer f.ring.change.Unlock()
	return f.save(f.ring.state)
}

// Update calls change with a draft of the keyring, saves the draft, and only
// then lets the keyring become what the draft is; a process killed at any moment
// comes back with a keyring that is at least as new as what anybody saw it use.
// On an error, of change or of saving, the keyring is as it was, and secrets
// that change installed are the caller's again.
//
// change must do all its work on the draft it gets, and not keep it. Changing
// the keyring itself waits until Update is through, so from inside change it
// would wait for ever; reading it is fine.
func (f *File) Update(change func(draft *Keyring) error) error {
	k := f.ring
	k.change.Lock()
	defer k.change.Unlock()
	draft := &Keyring{nameplate: k.nameplate, knock: k.knock, state: k.state}
	draft.draft = true
	defer draft.close()
	if err := change(draft); err != nil {
		return err
	}
	next := draft.close()
	if next.closed { // as the keyring was, or by change
		return fmt.Errorf("saving keyring %q: %w", f.path, ErrDestroyed)
	}
	if err := f.save(next); err != nil {
		return err
	}
	before := k.epochs
	k.set(next)
	for _, e := range before {
		if !next.holds(e) {
			e.Secret.Destroy()
		}
	}
	return nil
}

// close takes the state out of a draft; whoever kept the draft can do nothing
// with it any more.
func (k *Keyring) close() state {
	k.change.Lock()
	defer k.change.Unlock()
	last := k.state
	last.draft = false
	k.set(state{closed: true})
	return last
}

// save makes s the version on disk, if one is kept there. The caller holds change.
func (f *File) save(s state) error {
	if f.memory.Load() {
		return nil
	}
	sealed, err := f.seal(s)
	if err != nil {
		return fmt.Errorf("saving keyring %q: %w", f.path, err)
	}
	previous := f.sealed
	for _, e := range f.saved.epochs {
		if !s.holds(e) {
			previous = sealed
		}
	}
	if err := replaceBoth(f.path, sealed, previous); err != nil {
		return fmt.Errorf("saving keyring %w", err)
	}
	f.sealed, f.saved = sealed, s
	return nil
}

// replaceBoth puts content at path and previous at its previous version.
func replaceBoth(path string, content, previous []byte) error {
	newPrevious, err := stage(path+previousSuffix, previous)
	if err != nil {
		return err
	}
	defer newPrevious.discard()
	newContent, err := stage(path, content)
	if err != nil {
		return err
	}
	defer newContent.discard()
	if err := newPrevious.replace(); err != nil {
		return err
	}
	if err := newContent.replace(); err != nil {
		return err
	}
	return syncDirectory(path)
}

// seal returns the sealed bytes of a version. The plaintext is only ever in
// locked memory.
func (f *File) seal(s state) ([]byte, error) {
	i := s.image(f.ring.knock)
	plaintext, err := newLocked(i.bound())
	if err != nil {
		return nil, err
	}
	defer plaintext.destroy()
	raw, err := i.append(plaintext.buffer.Bytes()[:0])
	if err != nil {
		return nil, err
	}
	return f.locker.seal(raw)
}

// holds reports whether the state has this epoch with this very secret.
func (s state) holds(e Epoch) bool {
	for _, held := range s.epochs {
		if held.Number == e.Number && held.Secret == e.Secret {
			return true
		}
	}
	return false
}
