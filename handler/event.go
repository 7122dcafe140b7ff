package handler

import (
	"net/netip"
	"time"
)

// Kind says what happened, in Serf's words.
type Kind string

// The kinds of events a handler can be run for.
const (
	KindUser         Kind = "user"
	KindQuery        Kind = "query"
	KindMemberJoin   Kind = "member-join"
	KindMemberLeave  Kind = "member-leave"
	KindMemberFailed Kind = "member-failed"
	KindMemberUpdate Kind = "member-update"
	KindMemberReap   Kind = "member-reap"

	// The rest is not Serf's.
	KindMemberEvict      Kind = "member-evict"
	KindMemberQuarantine Kind = "member-quarantine"
	KindEpoch            Kind = "epoch"
)

// known reports whether k is one of the kinds above. Kinds are compared as
// Serf compares them: exactly, case included.
func (k Kind) known() bool {
	switch k {
	case KindUser, KindQuery, KindMemberJoin, KindMemberLeave,
		KindMemberFailed, KindMemberUpdate, KindMemberReap, KindMemberEvict, KindMemberQuarantine, KindEpoch:
		return true
	}
	return false
}

// OfMembers reports whether events of kind k are about members.
func (k Kind) OfMembers() bool { return k.known() && !k.named() && k != KindEpoch }

// named reports whether events of kind k carry a name, a payload and a sender.
func (k Kind) named() bool { return k == KindUser || k == KindQuery }

// Event is what a handler is told. Whoever hands it to Dispatch has already
// verified it and must not change anything it points to afterwards: several
// handlers read it at their own time.
type Event struct {
	Kind Kind

	// Name, LTime and Payload belong to user events and queries.
	Name    string
	LTime   uint64
	Payload []byte

	// Principal is who signed the event, TokenID with which token and EventID the
	// event's own id, both in hex. Origin is the node at which it entered the
	// cluster, if that is known. User events and queries only.
	Principal string
	TokenID   string
	EventID   string
	Origin    string

	// Expires is from when on no node takes the event any more, Deadline until
	// when an answer to a query is waited for.
	Expires  time.Time
	Deadline time.Time

	// Members are whom a member event is about.
	Members []Member

	// Epoch is what an epoch event is about.
	Epoch Epoch

	// SelfName and SelfTags describe the node this runs on, at the time of
	// the event: tags can change while the agent runs.
	SelfName string
	SelfTags map[string]string

	again bool // a run that a crash cut short is repeated
}

// Epoch is a step of an epoch's life.
type Epoch struct {
	Number uint64
	Action string // install, use or remove
	Reason string // why the epoch was made
	Keeper string // the node that made it
}

// Member is one line of a member event.
type Member struct {
	Name string
	Addr netip.Addr // without a port, as in Serf
	Role string
	Tags map[string]string
}
