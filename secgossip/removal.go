package secgossip

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// A removal is a client's word, signed, that a member is gone: it has left, or is even
// to be forgotten. Every node checks it itself. It names the newest record that the
// client knows of, and means no later one: a member that lives refutes it by signing
// another, and whoever comes back later was not meant.

// Removal is a removal that was verified.
type Removal struct {
	Node      string
	Key       [32]byte // SHA-256 of the node's Ed25519 key
	Sequence  uint64   // of the newest record that is meant
	Prune     bool
	Issued    time.Time
	Principal string   // name of the client that signed it
	ClientKey [32]byte // its Ed25519 key
}

// ErrUnknownMember says that nobody of that name is known.
var ErrUnknownMember = errors.New("no such member")

// ErrAlive says that a removal is about a member that is there, or has said something
// since.
var ErrAlive = errors.New("member is not gone")

// Limits of removals. They are rare, and each costs two signatures.
const (
	removalQueue = 64
	tendInterval = time.Second // how often it is looked what is due
)

// ForceLeave takes in a removal from the client with the given key, applies it and
// spreads it. It returns the member's status, none if it was forgotten. Errors:
// ErrNotYours, ErrUnknownMember, ErrAlive, and what the verifier says.
func (n *Node) ForceLeave(raw []byte, client ed25519.PublicKey) (Status, error) {
	r, err := n.config.Verifier.VerifyRemoval(raw, n.now())
	if err != nil {
		return "", err
	}
	if !client.Equal(ed25519.PublicKey(r.ClientKey[:])) {
		return "", ErrNotYours
	}
	if len(raw) > wire.MaxEventRaw {
		return "", fmt.Errorf("%w: %d bytes with signature and token, at most %d", ErrTooLarge, len(raw), wire.MaxEventRaw)
	}
	status, _ := n.members.get(r.Node)
	switch {
	case n.roster.Get(pki.Name(r.Node)) == nil:
		return "", fmt.Errorf("%w: %q", ErrUnknownMember, r.Node)
	case r.Node == n.Name():
		return "", fmt.Errorf("%w: %q is this agent's own node; `secgossip leave` makes it leave", ErrAlive, r.Node)
	case status == StatusAlive:
		return "", fmt.Errorf("%w: %q is alive; make it leave there, or evict it", ErrAlive, r.Node)
	case !n.means(r):
		return "", fmt.Errorf("%w: %q has signed a newer record; look at members again", ErrAlive, r.Node)
	}
	n.removalGossip.spread(raw)
	n.hurry()
	n.takeRemoval(r)
	status, _ = n.members.get(r.Node)
	return status, nil
}

// means reports whether a removal is about the record that is held.
func (n *Node) means(r Removal) bool {
	p := n.roster.Get(pki.Name(r.Node))
	if p == nil {
		return false
	}
	key := p.Key()
	return r.Key == sha256.Sum256(key[:]) && r.Sequence >= p.Record.Sequence
}

// receiveRemovals takes removals from a packet, where packets are received: it only
// queues. Whoever sent what finds no place will send it again.
func (n *Node) receiveRemovals(items [][]byte) {
	for _, raw := range items {
		select {
		case n.removalsIn <- bytes.Clone(raw):
		default:
			n.counts.removalsOverflow.Add(1)
		}
	}
}

// tendLoop takes in removals and does what is due about members that are gone.
func (n *Node) tendLoop() {
	var known recent
	tick := time.NewTicker(tendInterval)
	defer tick.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
			n.tendMembers()
		case raw := <-n.removalsIn:
			digest := sha256.Sum256(raw)
			if known.has(digest) {
				continue
			}
			r, err := n.config.Verifier.VerifyRemoval(raw, n.now())
			if err != nil {
				n.counts.removalsRefused.Add(1)
				continue
			}
			known.add(digest)
			if n.takeRemoval(r) {
				n.removalGossip.spread(raw)
				n.hurry()
			}
		}
	}
}

// takeRemoval holds a removal and applies it if it can be. It reports whether it is to
// be passed on.
func (n *Node) takeRemoval(r Removal) bool {
	if r.Node == n.Name() {
		if n.means(r) && !n.leaving.Load() {
			n.logger.Warn("somebody had this node removed, and it is there", slog.String("principal", r.Principal))
			n.refute(r.Sequence)
		}
		return false
	}
	if !n.means(r) {
		return false // of an earlier life, or of nobody: neither is passed on
	}
	n.tending.Lock()
	held, ok := n.removals[r.Node]
	news := !ok || r.Sequence > held.Sequence || r.Prune && !held.Prune
	if news {
		n.removals[r.Node] = r // one for each node that there is a record of
	}
	n.tending.Unlock()
	n.tendMembers()
	return news
}

// refute signs a record that is newer than what a removal means, and tells it.
func (n *Node) refute(sequence uint64) {
	if err := n.renewRecord(sequence); err != nil {
		n.logger.Error("signing our node record", slog.Any("error", err))
		return
	}
	n.running.Go(func() { _ = n.list.UpdateNode(updateTimeout) }) // else the next sync brings it
}

// tendMembers applies the removals that are held to members that are gone, and forgets
// whoever is gone for long enough: failed members after the reconnect timeout, those
// that left after the tombstone timeout, and nodes that were never seen, of which
// there is only a record, as failed ones.
func (n *Node) tendMembers() {
	n.tending.Lock()
	defer n.tending.Unlock()
	now := time.Now()
	for _, p := range n.roster.All() {
		name := string(p.Name)
		if p.Name == n.config.Identity.Name {
			continue
		}
		status, since := n.members.since(name, now)
		removal, removed := n.removals[name]
		if removed && !n.means(removal) {
			delete(n.removals, name) // refuted, or back
			removed = false
		}
		limit := n.config.ReconnectTimeout
		if status == StatusLeft || status == "" && p.Record.Leaving {
			limit = n.config.TombstoneTimeout
		}
		switch {
		case status == StatusAlive:
		case removed && removal.Prune, now.Sub(since) >= limit:
			n.reap(p.Name, status)
		case removed && status == StatusFailed && !n.members.isEvicted(name):
			if n.members.left(name) {
				n.tell("member-leave", StatusLeft, name)
			}
		}
	}
}

// reap forgets a member. Its last record is not taken from others who still have it.
func (n *Node) reap(name pki.Name, status Status) {
	if status != "" {
		if m, ok := n.member(string(name)); ok {
			n.notify(func(o Observer) { o.MemberEvent("member-reap", m) })
		}
	}
	n.logger.Info("member is forgotten", slog.String("node", string(name)))
	delete(n.removals, string(name))
	n.members.forget(string(name))
	n.coordinates.forget(string(name))
	n.quarantine.end(name)
	n.roster.Forget(name, time.Now())
}
