package handler

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// account is who handlers run as.
type account struct {
	uid, gid int
	groups   []int // supplementary
	switched bool  // another user than the agent's
}

// defaultUser owns nothing on a well-kept host.
const defaultUser = "nobody"

// chooseAccount decides who runs handlers for an agent with these ids.
//
// An agent that is root never runs them as itself. Any other agent cannot
// change its user, so it runs them as itself: then Landlock alone stands
// between handlers and the agent's files, and it has no rule for chmod(2).
func chooseAccount(name string, euid, egid int, groups []int) (account, error) {
	if euid != 0 && name == "" {
		return account{uid: euid, gid: egid, groups: groups}, nil
	}
	if name == "" {
		name = defaultUser
	}
	uid, gid, err := lookupUser(name)
	switch {
	case err != nil:
		return account{}, err
	case euid != 0 && uid != euid:
		return account{}, fmt.Errorf("handler user %q: only an agent that is root can run handlers as another user", name)
	case euid != 0:
		return account{uid: euid, gid: egid, groups: groups}, nil
	}
	return account{uid: uid, gid: gid, switched: true}, refuseRoot(name, uid, gid)
}

func refuseRoot(name string, uid, gid int) error {
	switch {
	case uid == 0:
		return fmt.Errorf("handler user %q is root: handlers never run as uid 0", name)
	case gid == 0:
		return fmt.Errorf("handler user %q is in group 0: handlers never run with root's group", name)
	}
	return nil
}

func lookupUser(name string) (uid, gid int, err error) {
	found, err := user.Lookup(name)
	if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
		if _, notNumber := strconv.Atoi(name); notNumber == nil {
			found, err = user.LookupId(name)
		}
	}
	if err != nil {
		return 0, 0, fmt.Errorf("handler user %q: %w", name, err)
	}
	if uid, err = strconv.Atoi(found.Uid); err != nil {
		return 0, 0, fmt.Errorf("handler user %q: %w", name, err)
	}
	if gid, err = strconv.Atoi(found.Gid); err != nil {
		return 0, 0, fmt.Errorf("handler user %q: %w", name, err)
	}
	return uid, gid, nil
}

// give makes file belong to the account, so that a handler of another user can
// open it again by name: that is what "cat /dev/stdin" does with a pipe.
func (a account) give(file *os.File) error {
	if !a.switched {
		return nil
	}
	return file.Chown(a.uid, a.gid)
}
