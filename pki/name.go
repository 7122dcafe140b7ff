package pki

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxName is the longest label of a DNS name (RFC 1035, section 2.3.4), so that
// a node may carry its host's name and the name may be a DNS subject.
const maxName = 63

// Name is the name of a node, a client, an issuer or a cluster.
type Name string

// ParseName checks a name: [a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])? without two dots
// in a row, which no certificate can carry. A name that does not fit is refused
// and never normalised: two spellings of one name would be two answers to "who
// is this?". The error does not repeat the name.
func ParseName(s string) (Name, error) {
	switch {
	case s == "":
		return "", errors.New("a name is empty")
	case len(s) > maxName:
		return "", fmt.Errorf("a name has %d bytes, the limit is %d", len(s), maxName)
	case strings.IndexFunc(s, func(r rune) bool { return !isAlphanumeric(r) && r != '.' && r != '-' }) >= 0:
		return "", errors.New("a name may hold only a-z, 0-9, '.' and '-'")
	case !isAlphanumeric(rune(s[0])) || !isAlphanumeric(rune(s[len(s)-1])):
		return "", errors.New("a name begins and ends with a letter or digit")
	case strings.Contains(s, ".."):
		return "", errors.New("a name has two dots in a row")
	}
	return Name(s), nil
}

func isAlphanumeric(r rune) bool { return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' }

// Kind says what an identity is for. The numbers are part of the credential.
type Kind uint8

const (
	KindNode   Kind = 1 // runs an agent
	KindClient Kind = 2 // calls agents
)

func (k Kind) String() string {
	switch k {
	case KindNode:
		return classNode
	case KindClient:
		return classClient
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Role is something a node may do beyond being a member.
type Role string

// RoleKeeper allows a node to start epochs and to issue certificates.
const RoleKeeper Role = "keeper"

// Limits of a list of roles: they keep a credential below MaxCredential. There
// is one role today; four leave room without letting a packet grow.
const (
	maxRoles = 4
	maxRole  = 16
)

// ParseRole returns the role called s. Only known roles can be given to a node:
// a misspelt one would be signed and then silently mean nothing.
func ParseRole(s string) (Role, error) {
	if Role(s) != RoleKeeper {
		return "", fmt.Errorf("there is no role %q, only %q", s, RoleKeeper)
	}
	return RoleKeeper, nil
}

// checkRoles checks the list in a credential: few, short, sorted, none twice.
// Unknown roles pass. They allow nothing, and during an upgrade a node must not
// become a stranger to older members because of a role they never heard of.
func checkRoles(roles []Role) error {
	if len(roles) > maxRoles {
		return fmt.Errorf("%d roles, the limit is %d", len(roles), maxRoles)
	}
	for i, role := range roles {
		if _, err := ParseName(string(role)); err != nil || len(role) > maxRole {
			return errors.New("a role is not a short name")
		}
		if i > 0 && roles[i-1] >= role {
			return errors.New("the roles are not sorted")
		}
	}
	return nil
}

// rolesToSign returns roles as a credential lists them.
func rolesToSign(roles []Role) ([]Role, error) {
	sorted := slices.Clone(roles)
	slices.Sort(sorted)
	for _, role := range sorted {
		if _, err := ParseRole(string(role)); err != nil {
			return nil, err
		}
	}
	return sorted, checkRoles(sorted)
}
