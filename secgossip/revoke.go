package secgossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// ErrRevoke says that an identity cannot be taken back, or given back, as asked for.
var ErrRevoke = errors.New("not revoked")

// Verb is what is done to an identity.
type Verb string

// The verbs. Evict voids what was issued so far; ban also what will be, until unban,
// which leaves void what was issued before it.
const (
	VerbEvict Verb = "evict"
	VerbBan   Verb = "ban"
	VerbUnban Verb = "unban"
)

// Order says whom to take back.
type Order struct {
	Verb   Verb
	Client bool // a client, not a node
	Name   string
	Reason string // up to 64 bytes; empty: "operator"
}

// Revocation is an identity that was taken back, as a keeper said it.
type Revocation struct {
	Verb   Verb
	Client bool
	Name   string
	Key    [32]byte  // its Ed25519 key; zeros: the name alone is meant
	Before time.Time // void is what was issued before; of a ban, the year 9999
	Keeper string
	Issued time.Time
	Reason string
}

// Revoked says how a revocation ended.
type Revoked struct {
	Revocations []Revocation
	Confirmed   []string // nodes that hold it and the new epoch, this one included
	// Missing are the members that do not use the new epoch, by name: live ones
	// that did not answer, and failed ones. All of them learn of it when they next
	// meet anybody.
	Missing     []string
	Epoch       uint64 // the new epoch
	Fingerprint string
}

// Revocations lists the identities that are taken back, the oldest first.
func (n *Node) Revocations() []Revocation {
	all := []Revocation{}
	for _, one := range n.revocations.list() {
		all = append(all, shown(one))
	}
	return all
}

func shown(r *revocation) Revocation {
	return Revocation{
		Verb: Verb(r.Verb.String()), Client: r.Kind == wire.KindClient, Name: r.Name, Key: r.Key,
		Before: r.Before, Keeper: r.Keeper, Issued: r.Issued, Reason: r.Reason,
	}
}

// Revoke takes an identity back, or ends a ban: on disk here, then told to everybody,
// then followed by a new epoch, which whoever is void does not get. Errors:
// ErrNotKeeper, ErrRevoke, ErrRevocations, and that of our own disk; then nothing was
// done. With another error the revocation stands, and the epoch follows by itself.
func (n *Node) Revoke(ctx context.Context, order Order) (Revoked, error) {
	if err := n.needKeeper(); err != nil {
		return Revoked{}, err
	}
	said, err := n.revoke(order, n.clusterTime())
	if err != nil {
		return Revoked{}, err
	}
	var done Revoked
	for _, one := range said {
		done.Revocations = append(done.Revocations, shown(one))
	}
	rotation, err := n.rotateFor(ctx, func(p Progress) {
		if p.Step == StepInstalled {
			done.Confirmed = append(done.Confirmed, p.Node)
		}
	})
	if err != nil {
		return done, fmt.Errorf("revoked, and the new epoch is yet to come: %w", err)
	}
	n.untilIssuable(ctx, said)
	slices.Sort(done.Confirmed)
	done.Missing, done.Epoch, done.Fingerprint = rotation.Missing, rotation.Epoch, rotation.Fingerprint
	return done, nil
}

// rotateFor makes the epoch that a revocation asks for. A rotation that is under way
// may have given its epoch to whoever is revoked; this one comes after it.
func (n *Node) rotateFor(ctx context.Context, report func(Progress)) (Rotation, error) {
	deadline := time.Now().Add(3 * rotateDeadline)
	for {
		rotation, err := n.rotate(ctx, revoked, report)
		if !errors.Is(err, ErrRotating) || time.Now().After(deadline) {
			return rotation, err
		}
		select {
		case <-ctx.Done():
			return Rotation{}, ctx.Err()
		case <-time.After(retryStep):
		}
	}
}

// untilIssuable waits for the next second: certificates have no finer times, and one
// that is issued from here on must not count as issued before.
func (n *Node) untilIssuable(ctx context.Context, said []*revocation) {
	now := time.Now()
	next := now.Truncate(time.Second).Add(time.Second)
	if !slices.ContainsFunc(said, func(one *revocation) bool { return now.Truncate(time.Second).Before(one.Before) }) {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(next.Sub(now)):
	}
}

// revoked is the reason of an epoch that was made for a revocation.
const revoked = "revocation"

// revoke signs what an order comes to, and lets it hold here.
func (n *Node) revoke(order Order, now time.Time) ([]*revocation, error) {
	n.revoking.Lock() // of two orders at once each must see what the other did
	defer n.revoking.Unlock()
	subjects, err := n.subjects(order)
	if err != nil {
		return nil, err
	}
	var said []*revocation
	for _, subject := range subjects {
		one, err := n.signRevocation(subject, order, now)
		if err != nil {
			return nil, err
		}
		said = append(said, one)
	}
	return said, n.revocations.say(said, now)
}

// subjects says whom an order is about. A node's key is the one in its record; of a
// client nobody here knows the key, and its name is enough.
func (n *Node) subjects(order Order) ([]wire.Subject, error) {
	refused := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrRevoke}, args...)...)
	}
	name, err := pki.ParseName(order.Name)
	if err != nil {
		return nil, refused("%w", err)
	}
	kind := wire.KindNode
	if order.Client {
		kind = wire.KindClient
	}
	held := n.revocations.of(kind, order.Name)
	banned := slices.DeleteFunc(slices.Clone(held), func(one *revocation) bool { return one.Verb != wire.VerbBan })
	var all []wire.Subject
	switch {
	case order.Verb == VerbUnban && len(banned) == 0:
		return nil, refused("no ban of %q is known here", name)
	case order.Verb == VerbUnban:
		for _, one := range banned {
			all = append(all, one.Subject)
		}
		return all, nil
	case order.Verb == VerbEvict && len(banned) > 0:
		return nil, refused("%q is banned, which is more", name)
	case order.Verb != VerbEvict && order.Verb != VerbBan:
		return nil, refused("unknown verb %q", order.Verb)
	case kind == wire.KindClient:
		return []wire.Subject{{Kind: kind, Name: order.Name}}, nil
	case name == n.config.Identity.Name:
		return nil, refused("node %q cannot take itself back; another keeper can", name)
	}
	if p := n.roster.Get(name); p != nil {
		return []wire.Subject{{Kind: kind, Name: order.Name, Key: p.Key()}}, nil
	}
	for _, one := range held {
		all = append(all, one.Subject)
	}
	switch {
	case len(all) > 0:
		return all, nil
	case order.Verb == VerbBan: // its home may have been stolen before it was ever started
		return []wire.Subject{{Kind: kind, Name: order.Name}}, nil
	}
	return nil, refused("no node %q is known here; a name that no node has had can be banned", name)
}

// signRevocation makes a statement of ours, later than the one it replaces.
func (n *Node) signRevocation(subject wire.Subject, order Order, now time.Time) (*revocation, error) {
	said := wire.Revocation{Subject: subject, Before: now, Issued: now, Reason: order.Reason, Keeper: string(n.config.Identity.Name)}
	if said.Reason == "" {
		said.Reason = "operator"
	}
	switch order.Verb {
	case VerbEvict:
		said.Verb = wire.VerbEvict
	case VerbBan:
		said.Verb, said.Before = wire.VerbBan, wire.Forever
	case VerbUnban:
		said.Verb = wire.VerbUnban
	}
	if p := n.roster.Get(pki.Name(subject.Name)); p != nil && subject.Kind == wire.KindNode && order.Verb == VerbEvict {
		// Whoever issued it may have a clock ahead of ours.
		if issued := p.Credential.NotBefore.Add(pki.Backdate); !issued.Before(said.Before) {
			said.Before = issued.Add(time.Second)
		}
	}
	for _, held := range n.revocations.of(subject.Kind, subject.Name) {
		// Nor may our own clock, if it is behind, make anything valid again.
		if held.Subject == subject && order.Verb == VerbEvict && held.Before.After(said.Before) {
			said.Before = held.Before
		}
	}
	return n.sealRevocation(said)
}

// sealRevocation signs, and reads what it signed as everybody will.
func (n *Node) sealRevocation(said wire.Revocation) (*revocation, error) {
	for _, held := range n.revocations.of(said.Kind, said.Name) {
		if held.Subject == said.Subject && !said.Issued.After(held.Issued) {
			said.Issued = held.Issued.Add(time.Millisecond)
		}
	}
	raw, err := wire.SignRevocation(n.config.Identity.Signing, n.config.Trust.Cluster(), said)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRevoke, err)
	}
	signed, err := wire.ParseRevocation(raw)
	if err != nil {
		return nil, err
	}
	return verifyRevocation(n.config.Trust, signed, n.self.credentialNow(), n.clusterTime())
}

// adopt says again in our name what a keeper said that is void by now, so that
// whoever comes later has somebody to believe.
func (n *Node) adopt(now time.Time) {
	n.revoking.Lock()
	defer n.revoking.Unlock()
	own := n.roster.Get(n.config.Identity.Name)
	if own == nil {
		return
	}
	orphans := n.revocations.orphans(now, n.config.Trust.SignerEnd(own.Credential))
	var said []*revocation
	for _, one := range orphans {
		again := one.Revocation
		again.Keeper, again.Issued = string(n.config.Identity.Name), now
		signed, err := n.sealRevocation(again)
		if err != nil {
			n.logger.Error("signing a revocation again", slog.Any("error", err))
			return
		}
		said = append(said, signed)
	}
	if len(said) == 0 {
		return
	}
	if err := n.revocations.say(said, now); err != nil {
		n.logger.Error("signing revocations again", slog.Any("error", err))
		return
	}
}

// revocationsChanged lets what was learned hold for what runs: sessions and streams
// of whoever is void end now, and whoever watches members is told.
func (n *Node) revocationsChanged() {
	n.transport.Recheck()
	for _, name := range n.members.names() {
		p := n.roster.Get(pki.Name(name))
		if p == nil || !n.roster.Revoked(p) {
			continue
		}
		status, _ := n.members.get(name)
		switch news := n.members.evict(name); {
		case !news:
		case p.Name == n.config.Identity.Name:
			n.logger.Error("this node was revoked: nobody talks to it until it is issued anew")
			n.tell("member-evict", StatusEvicted, name)
		default:
			n.tell("member-evict", StatusEvicted, name)
			if status == StatusAlive {
				// Who only knows Serf's kinds must hear too that it is gone. Of one that
				// had failed or left they were told.
				n.tell("member-failed", StatusEvicted, name)
			}
		}
	}
}

// passOnRevocations spreads revocations that were news to us.
func (n *Node) passOnRevocations(items [][]byte) {
	for pair := range slices.Chunk(items, 2) {
		n.revocationGossip.spread(pair...)
	}
	n.hurry()
}

// receiveRevocations takes revocations from a packet, where packets are received: it
// only queues.
func (n *Node) receiveRevocations(items [][]byte) {
	if len(items)%2 != 0 {
		n.counts.statementsBad.Add(1)
		return
	}
	select {
	case n.revocationsIn <- items:
	default: // they come again, and every stream brings them too
		n.counts.statementsBad.Add(1)
	}
}

// revocationLoop learns from packets, away from the goroutines that receive them and
// from those that wait for an epoch.
func (n *Node) revocationLoop() {
	for {
		select {
		case <-n.ctx.Done():
			return
		case items := <-n.revocationsIn:
			n.revocations.Learn(items)
		}
	}
}

// restored lets a member be what memberlist says again, once it has an identity that
// is not void.
func (n *Node) restored(p *guard.Peer) {
	if n.roster.Revoked(p) || !n.members.restore(string(p.Name)) {
		return
	}
	n.quarantine.end(p.Name)
	if status, _ := n.members.get(string(p.Name)); status == StatusAlive {
		n.tell("member-join", StatusAlive, string(p.Name))
	}
}
