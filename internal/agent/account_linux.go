package agent

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/secgossip/secgossip/internal/home"
)

// account is who the network process runs as.
type account struct {
	uid, gid int
	switched bool // another user than the runner's
}

// The users that systemd gives to services that have no account of their own. The
// network process of an agent that is root takes one of them when there is no account.
const (
	firstDynamic = 61184
	lastDynamic  = 65519
)

// chooseAccount decides who the network process runs as. An agent that is not root
// cannot change its user.
func chooseAccount(at home.Home, settings Settings, plan plan) (account, error) {
	name := settings.AgentUser
	if euid := os.Geteuid(); euid != 0 {
		if name != "" {
			uid, _, err := lookUp(name)
			if err != nil {
				return account{}, err
			}
			if uid != euid {
				return account{}, fmt.Errorf("agent-user %q: only an agent that is started as root can become another user", name)
			}
		}
		return account{uid: euid, gid: os.Getegid()}, nil
	}
	who := account{switched: true}
	var err error
	if name == "" {
		name = DefaultAgentUser
		var unknown user.UnknownUserError
		if _, missing := user.Lookup(name); errors.As(missing, &unknown) {
			return dynamicAccount(at)
		}
	}
	if who.uid, who.gid, err = lookUp(name); err != nil {
		return account{}, err
	}
	if who.uid == 0 || who.gid == 0 {
		return account{}, fmt.Errorf("agent-user %q is root, or in its group: what listens to the network is neither", name)
	}
	return who, who.apartFrom(settings, plan)
}

// dynamicAccount is a user that no account has, the same one for a home at every start
// and hardly ever one that another home has.
func dynamicAccount(at home.Home) (account, error) {
	path, err := filepath.Abs(string(at))
	if err != nil {
		return account{}, err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	sum := sha256.Sum256([]byte(path))
	const all = lastDynamic - firstDynamic + 1
	first := int(binary.BigEndian.Uint32(sum[:]) % all)
	for i := range all {
		id := strconv.Itoa(firstDynamic + (first+i)%all)
		var noUser user.UnknownUserIdError
		var noGroup user.UnknownGroupIdError
		_, userErr := user.LookupId(id)
		_, groupErr := user.LookupGroupId(id)
		if errors.As(userErr, &noUser) && errors.As(groupErr, &noGroup) {
			uid := firstDynamic + (first+i)%all
			return account{uid: uid, gid: uid, switched: true}, nil
		}
	}
	return account{}, errors.New("no user is free for the network process; make an account and name it by --agent-user")
}

// lookUp finds an account by its name or number.
func lookUp(name string) (uid, gid int, err error) {
	found, err := user.Lookup(name)
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) {
		if _, notNumber := strconv.Atoi(name); notNumber == nil {
			found, err = user.LookupId(name)
		}
	}
	if err != nil {
		return 0, 0, fmt.Errorf("agent-user %q: %w", name, err)
	}
	uid, uidErr := strconv.Atoi(found.Uid)
	gid, gidErr := strconv.Atoi(found.Gid)
	return uid, gid, errors.Join(uidErr, gidErr)
}
