package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/secgossip/secgossip/keyring"
)

// Unlock says what opens and seals the sealed files of a node. Without a word it
// is what the service manager hands over, if it does, and else the machine key.
// It names files: a secret itself is in no setting.
type Unlock struct {
	PassphraseFile string // holds a passphrase on one line
	IdentityFile   string // holds an age identity
}

// The settings, and what a service manager hands over.
const (
	unlockPassphrase = "unlock-passphrase-file"
	unlockIdentity   = "unlock-identity-file"

	// credentialName is the file in $CREDENTIALS_DIRECTORY, which systemd sets to a
	// folder for LoadCredential= and LoadCredentialEncrypted=.
	credentialName = "secgossip.unlock"
)

// Check reports what is wrong with the settings as such.
func (u Unlock) Check() error {
	var problems []error
	if u.PassphraseFile != "" && u.IdentityFile != "" {
		problems = append(problems, fmt.Errorf("%s and %s: name one of them", unlockPassphrase, unlockIdentity))
	}
	for name, file := range map[string]string{unlockPassphrase: u.PassphraseFile, unlockIdentity: u.IdentityFile} {
		if file == "-" {
			problems = append(problems, fmt.Errorf("%s: an agent reads a file, and nothing from its input", name))
		}
	}
	return errors.Join(problems...)
}

// Set reports whether a setting says what opens the files.
func (u Unlock) Set() bool { return u != Unlock{} }

// Private are the files and folders outside a home that hold what opens it.
func (u Unlock) Private() []string {
	var paths []string
	for _, path := range []string{u.PassphraseFile, u.IdentityFile, os.Getenv("CREDENTIALS_DIRECTORY")} {
		if path != "" && exists(path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// credential is the path of what the service manager hands over; empty if nothing.
func credential() string {
	folder := os.Getenv("CREDENTIALS_DIRECTORY")
	if path := filepath.Join(folder, credentialName); folder != "" && exists(path) {
		return path
	}
	return ""
}

// opener opens a node's sealed files.
type opener struct {
	*keyring.Locker
	chosen  string // which file it was made of, and what says so
	machine bool   // the machine key, for want of anything else
}

// unlock opens what opens the node's sealed files.
func (h Home) unlock(u Unlock) (opener, error) {
	if err := u.Check(); err != nil {
		return opener{}, fmt.Errorf("%w: %w", keyring.ErrForeign, err)
	}
	handed := credential()
	var open func(path string) (*keyring.Locker, error)
	var path, chosen string
	switch {
	case u.PassphraseFile != "":
		open, path, chosen = keyring.OpenPassphraseLocker, u.PassphraseFile, unlockPassphrase
	case u.IdentityFile != "":
		open, path, chosen = keyring.OpenIdentityLocker, u.IdentityFile, unlockIdentity
	case handed != "":
		open, path, chosen = keyring.OpenCredentialLocker, handed, "the service manager"
	default:
		return h.unlockMachine()
	}
	locker, err := open(path)
	if err != nil {
		return opener{}, unreadable(chosen, err)
	}
	return opener{Locker: locker, chosen: fmt.Sprintf("%q, as %s says", path, chosen)}, nil
}

func (h Home) unlockMachine() (opener, error) {
	locker, err := keyring.OpenMachineLocker(h.path(fileUnlock))
	if errors.Is(err, fs.ErrNotExist) {
		p := h.missing(fileUnlock)
		if exists(h.path(fileSigningKey)) {
			p.Next += "; " + otherwise
		}
		return opener{}, p
	}
	if err != nil {
		return opener{}, h.explain(fileUnlock, err)
	}
	return opener{locker, fileUnlock + ", for no setting says otherwise", true}, nil
}

// What to do when it is not the files that are wrong.
const (
	otherwise = "if its files are sealed with something else, name that by --" + unlockPassphrase + " or --" + unlockIdentity
	resealed  = "name what the node's files were sealed with by --" + unlockPassphrase + " or --" + unlockIdentity +
		"; `secgossip keys reseal` seals them with something else"
)

// unreadable says what to do about a file that a setting names.
func unreadable(chosen string, err error) error {
	if errors.Is(err, keyring.ErrLockedMemory) {
		return err // it says itself which limit to raise
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrMissing, err)
	}
	return &Problem{Err: fmt.Errorf("%s: %w", chosen, err), Next: resealed}
}

// explainSealed is explain for a sealed file: when it does not open, it may be the
// opener that is wrong.
func (h Home) explainSealed(o opener, name string, err error) error {
	if !errors.Is(err, keyring.ErrWrongKey) {
		return h.explain(name, err)
	}
	next := oneWhole + "; or, " + otherwise
	if !o.machine {
		next = resealed
	}
	return &Problem{Err: fmt.Errorf("%w; tried was %s", err, o.chosen), Next: next}
}
