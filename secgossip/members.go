package secgossip

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
)

// Status is what a node thinks of a member.
type Status string

// The states of a member. Those of Serf are alive, leaving, left and failed.
const (
	StatusAlive   Status = "alive"
	StatusSuspect Status = "suspect" // it did not answer, and has some seconds to say that it is there
	StatusFailed  Status = "failed"
	StatusLeaving Status = "leaving" // it has signed that it goes, and is still there
	StatusLeft    Status = "left"
	StatusEvicted Status = "evicted" // a keeper took its identity back
)

// Statuses are all of them.
var Statuses = []Status{StatusAlive, StatusSuspect, StatusFailed, StatusLeaving, StatusLeft, StatusEvicted}

// IsLive reports whether a member of this status is one that is talked to.
func (s Status) IsLive() bool { return s == StatusAlive || s == StatusSuspect || s == StatusLeaving }

// Path is how packets get from this node to a member. It is empty for this node
// itself, for a member that is not alive, and for one that neither datagrams nor
// streams of ours get to: others vouch for it.
type Path string

// The paths.
const (
	PathUDP    Path = "udp"
	PathStream Path = "stream" // while UDP to the member is blocked
)

// Member is a node as this node sees it.
type Member struct {
	Name     string
	Endpoint netip.AddrPort // where it is reached; invalid if nobody said
	Tags     map[string]string
	Status   Status
	Epoch    uint64   // the epoch it last sealed with, 0 if nothing came yet
	Key      [32]byte // its Ed25519 key
	Keeper   bool
	Path     Path
	Sequence uint64 // of its newest record
	Flapping bool   // it failed and came back often of late
}

// membership follows memberlist's events: who is there, who left, who failed.
type membership struct {
	mu     sync.Mutex
	status map[string]Status // alive, failed or left: what memberlist tells
	claims map[string]claims // of members that are alive

	longest func(members int) time.Duration // that one of so many is suspect

	tags map[string]map[string]string

	evicted map[string]bool // whom it was said of that they are gone

	changed map[string]time.Time   // when the status became what it is, or the node was first looked at
	flaps   map[string][]time.Time // when a member came back soon after it failed, the newest maxFlaps
}

// claims are the latest incarnations of a member as of which it is called suspect and
// alive. memberlist takes a member for alive that is as of a later one.
type claims struct {
	suspect, alive uint32
	since          time.Time // when it was first called suspect as of that incarnation
}

// claimed notes what is said of members: by our own memberlist in what it sends, and, of
// who is alive, in what it is given. It keeps to itself whom it suspects, and tells
// all others at once: that is how we hear it, a gossip interval late at most. That a
// member is alive again it may forget to pass on.
func (m *membership) claimed(all []guard.Claim) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range all {
		if m.status[c.Node] != StatusAlive {
			continue
		}
		held := m.claims[c.Node]
		switch {
		case !c.Suspect:
			held.alive = max(held.alive, c.Incarnation)
		case c.Incarnation > held.suspect:
			held.suspect, held.since = c.Incarnation, time.Now()
		}
		m.claims[c.Node] = held
	}
}

// A member that comes back within flapWindow of being called failed has flapped, as in
// Serf. It flaps much when it did so maxFlaps times within flapsWithin.
const (
	flapWindow  = time.Minute
	maxFlaps    = 3
	flapsWithin = time.Hour
)

func newMembership(longest func(members int) time.Duration) *membership {
	return &membership{longest: longest, status: make(map[string]Status), claims: make(map[string]claims), tags: make(map[string]map[string]string), evicted: make(map[string]bool),
		changed: make(map[string]time.Time), flaps: make(map[string][]time.Time)}
}

// set notes what memberlist says of a member. It reports whether that is a flap.
func (m *membership) set(name string, status Status, tags map[string]string) (flapped bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if status == StatusAlive && m.status[name] == StatusFailed && now.Sub(m.changed[name]) < flapWindow {
		flapped = true
		all := append(m.flaps[name], now)
		m.flaps[name] = all[max(0, len(all)-maxFlaps):]
	}
	if m.status[name] != status {
		m.changed[name] = now
		delete(m.claims, name)
	}
	m.status[name] = status
	if tags != nil {
		m.tags[name] = tags
	}
	return flapped
}

// since returns a member's status and since when it has it. A node that has none is
// noted, and has none since then.
func (m *membership) since(name string, now time.Time) (Status, time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.changed[name]; !ok {
		m.changed[name] = now
	}
	return m.status[name], m.changed[name]
}

// left makes a failed member one that left. It reports whether it was failed.
func (m *membership) left(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.status[name] != StatusFailed {
		return false
	}
	m.status[name], m.changed[name] = StatusLeft, time.Now()
	return true
}

// forget drops all that is known of a member.
func (m *membership) forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.status, name)
	delete(m.claims, name)
	delete(m.tags, name)
	delete(m.evicted, name)
	delete(m.changed, name)
	delete(m.flaps, name)
}

// flapping reports whether a member flaps much.
func (m *membership) flapping(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.flaps[name]
	return len(all) == maxFlaps && time.Since(all[0]) < flapsWithin
}

func (m *membership) get(name string) (Status, map[string]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status[name], m.tags[name]
}

// suspect reports whether memberlist suspects a member that is alive.
func (m *membership) suspect(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.claims[name]
	return c.suspect > 0 && c.suspect >= c.alive && time.Since(c.since) < m.longest(len(m.status)) // incarnations begin at 1
}

// longestSuspicion returns how long memberlist suspects a member at most, among so many:
// by then it has failed or is alive again.
func longestSuspicion(settings *memberlist.Config) func(members int) time.Duration {
	return func(members int) time.Duration {
		scale := max(1, math.Log10(max(1, float64(members))))
		shortest := time.Duration(float64(settings.SuspicionMult) * scale * float64(settings.ProbeInterval))
		return time.Duration(settings.SuspicionMaxTimeoutMult) * shortest
	}
}

// evict notes that a member is void. It reports whether that is news.
func (m *membership) evict(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	news := !m.evicted[name]
	m.evicted[name] = true
	return news
}

// restore notes that a member has another identity. It reports whether it was void.
func (m *membership) restore(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.evicted[name]
	delete(m.evicted, name)
	return was
}

func (m *membership) isEvicted(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.evicted[name]
}

func (m *membership) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make([]string, 0, len(m.status))
	for name := range m.status {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// alive returns the names of the live members, in any order.
func (m *membership) alive() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make([]string, 0, len(m.status))
	for name, status := range m.status {
		if status == StatusAlive {
			names = append(names, name)
		}
	}
	return names
}

// Members returns every member known, the local node included, by name.
func (n *Node) Members() []Member {
	var all []Member
	for _, name := range n.members.names() {
		if m, ok := n.member(name); ok {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// member puts together what is known of one member.
func (n *Node) member(name string) (Member, bool) {
	status, tags := n.members.get(name)
	peer := n.roster.Get(pki.Name(name))
	if status == "" || peer == nil {
		return Member{}, false
	}
	switch {
	case n.roster.Revoked(peer):
		status = StatusEvicted // whatever memberlist has found out yet
	case status == StatusAlive && peer.Record.Leaving:
		status = StatusLeaving
	case status == StatusAlive && n.members.suspect(name):
		status = StatusSuspect
	}
	m := Member{
		Name:   name,
		Tags:   tags,
		Status: status,
		Key:    peer.Key(),
		Keeper: peer.Credential.HasRole(pki.RoleKeeper),

		Sequence: peer.Record.Sequence,
		Flapping: n.members.flapping(name),
	}
	if name == string(n.config.Identity.Name) {
		m.Epoch = n.ledger.State().Primary
		if len(peer.Record.Endpoints) > 0 {
			m.Endpoint = peer.Record.Endpoints[0]
		}
	} else {
		seen := n.transport.Seen(peer)
		m.Endpoint, m.Epoch = seen.Endpoint, seen.Epoch
		switch {
		case !status.IsLive(), seen.Blocked && !seen.Carried:
		case seen.Carried:
			m.Path = PathStream
		default:
			m.Path = PathUDP
		}
	}
	return m, true
}

// choosing is how long targets are chosen at most: in a large cluster tag filters that
// are slow each could hold a processor for many seconds.
const choosing = 5 * time.Second

// ErrChoosing says that tag filters take too long for a cluster of this size.
var ErrChoosing = fmt.Errorf("choosing among the members took more than %v: use fewer or simpler tag filters", choosing)

// targets finds the live members for whom something is, ascending, and of those that a
// client named the ones that are not alive.
func (n *Node) targets(named []string, isFor func(node string, tags map[string]string) bool) (live, absent []string, err error) {
	alive := make(map[string]bool)
	begun := time.Now()
	for _, m := range n.Members() {
		if time.Since(begun) > choosing {
			return nil, nil, ErrChoosing
		}
		if !m.Status.IsLive() {
			continue
		}
		alive[m.Name] = true
		tags := m.Tags
		if m.Name == string(n.config.Identity.Name) {
			tags = n.currentTags()
		}
		if isFor(m.Name, tags) {
			live = append(live, m.Name)
		}
	}
	for _, name := range named {
		if !alive[name] {
			absent = append(absent, name)
		}
	}
	return live, absent, nil
}

// livePeers returns the live members other than us.
func (n *Node) livePeers() []*guard.Peer {
	var peers []*guard.Peer
	names := n.members.alive()
	slices.Sort(names)
	for _, name := range names {
		if p := n.livePeer(name); p != nil {
			peers = append(peers, p)
		}
	}
	return peers
}

// livePeer is a member whom packets of ours may go to, nil if it is ourselves, void, or
// has no record.
func (n *Node) livePeer(name string) *guard.Peer {
	if p := n.roster.Get(pki.Name(name)); p != nil && p.Name != n.config.Identity.Name && !n.roster.Revoked(p) {
		return p
	}
	return nil
}

// The rest is memberlist's EventDelegate. It runs under memberlist's lock: it
// records and queues, nothing more.

// NotifyJoin implements memberlist.EventDelegate.
func (n *Node) NotifyJoin(m *memberlist.Node) { n.noteMember("member-join", StatusAlive, m) }

// NotifyUpdate implements memberlist.EventDelegate.
func (n *Node) NotifyUpdate(m *memberlist.Node) { n.noteMember("member-update", StatusAlive, m) }

// NotifyLeave implements memberlist.EventDelegate. memberlist does not say why;
// a member that left said so itself, in its last signed record.
func (n *Node) NotifyLeave(m *memberlist.Node) {
	n.coordinates.forget(m.Name)
	if n.members.isEvicted(m.Name) {
		n.members.set(m.Name, StatusFailed, nil) // everybody was told when it was revoked
		return
	}
	if p := n.roster.Get(pki.Name(m.Name)); p != nil && p.Record.Leaving {
		n.noteMember("member-leave", StatusLeft, m)
		return
	}
	n.noteMember("member-failed", StatusFailed, m)
}

func (n *Node) noteMember(kind string, status Status, m *memberlist.Node) {
	tags, err := decodeTags(m.Meta)
	if err != nil {
		tags = map[string]string{} // NotifyAlive let nothing else pass
	}
	if n.members.set(m.Name, status, tags) {
		n.counts.flaps.Add(1)
	}
	n.tell(kind, status, m.Name)
}

// tell queues a member event for the observer.
func (n *Node) tell(kind string, status Status, name string) {
	n.notify(func(o Observer) {
		if member, ok := n.member(name); ok {
			member.Status = status
			o.MemberEvent(kind, member)
		}
	})
}
