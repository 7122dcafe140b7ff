package lab

import (
	"errors"
	"os"
	"os/user"
	"strconv"
)

// Account is who runs the handlers.
type Account struct{ UID, GID int }

// HandlerAccount is whom an agent of ours runs handlers as: itself, or nobody if
// it is root.
func HandlerAccount() (Account, error) {
	if os.Geteuid() != 0 {
		return Account{os.Geteuid(), os.Getegid()}, nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return Account{}, err
	}
	uid, uidErr := strconv.Atoi(nobody.Uid)
	gid, gidErr := strconv.Atoi(nobody.Gid)
	return Account{uid, gid}, errors.Join(uidErr, gidErr)
}

// Create makes an empty file, 0600, that belongs to the account. It must not be
// there yet.
func (a Account) Create(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if a.UID != os.Geteuid() {
		err = file.Chown(a.UID, a.GID)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
