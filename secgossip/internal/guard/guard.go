// Package guard decides who may say what about whom.
//
// A member proves itself at the transport; guard looks at what it then says.
//
//   - A Roster holds what every node says about itself: its record, signed with
//     the key its credential names. Nobody else can write a node's record, and a
//     newer one replaces an older one only if the same node signed it.
//   - CheckPacket is the firewall in front of memberlist: message types we use,
//     one level of compound, exact lengths, and speakers that are who they say.
//   - NewStateReader is the firewall for streams: only small messages and the
//     state exchange pass, the latter without what nobody may say of others.
//   - Roster.CheckAlive is the second line, inside memberlist: a node is believed
//     to exist only with a record, at the virtual address of its own name.
//
// guard reads no clock and no socket.
package guard

import "errors"

// What can be wrong with a statement. An error of this package wraps one of them.
var (
	// ErrMalformed: the bytes are not what a member of ours writes.
	ErrMalformed = errors.New("malformed statement")
	// ErrForged: signed by somebody else than its subject, or not at all.
	ErrForged = errors.New("statement not signed by its subject")
	// ErrStale: an older statement than the one held.
	ErrStale = errors.New("statement older than the one held")
	// ErrUnknownNode: about a node nobody has shown a record of.
	ErrUnknownNode = errors.New("no record of this node")
	// ErrFull: the roster holds as many nodes as it ever will.
	ErrFull = errors.New("roster is full")
)
