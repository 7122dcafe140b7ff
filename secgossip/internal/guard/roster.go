package guard

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Peer is a node as its own signed record and its credential describe it.
// A Peer never changes; a new record makes a new Peer.
type Peer struct {
	Name       pki.Name
	Credential *pki.Credential
	Record     wire.Record
	Raw        []byte   // the signed record, to pass on
	Digest     [32]byte // SHA-256 of Raw
	Virtual    netip.AddrPort
}

// Key is the node's Ed25519 key, 32 bytes: its identity in key derivations.
func (p *Peer) Key() [32]byte { return [32]byte(p.Credential.SigningKey) }

// Roster is the set of nodes known by their own signed records, the local one
// included. It is safe for concurrent use.
type Roster struct {
	trust   *pki.Trust
	changed func(old, new *Peer) // called without the lock, in order of admission

	admit sync.Mutex // serialises settle, so that changed sees one change at a time

	mu        sync.RWMutex
	byName    map[pki.Name]*Peer
	byVirtual map[netip.Addr]*Peer
	forgotten map[pki.Name]tombstone
}

// tombstone is what is kept of a node that was forgotten.
type tombstone struct {
	boot     [wire.BootSize]byte
	sequence uint64
	since    time.Time
}

// tombstoneLife is how long a record that was forgotten is not taken from others. They
// forget it themselves, by their own clocks and counts; afterwards it would only be
// forgotten again.
const tombstoneLife = 24 * time.Hour

// maxAhead is how far ahead of the time a record's sequence, which counts milliseconds,
// may be. Threat C03: a node overtakes what an earlier life of it signed, one at a time,
// and of 2^63 none could be overtaken. A clock that was ahead is.
const maxAhead = 366 * 24 * time.Hour

// NewRoster makes an empty roster. changed, if not nil, is called after every
// admission with the record before (nil for a new node) and the new one.
func NewRoster(trust *pki.Trust, changed func(old, new *Peer)) *Roster {
	if changed == nil {
		changed = func(_, _ *Peer) {}
	}
	return &Roster{
		trust:     trust,
		changed:   changed,
		byName:    make(map[pki.Name]*Peer),
		byVirtual: make(map[netip.Addr]*Peer),
		forgotten: make(map[pki.Name]tombstone),
	}
}

// Get returns the node of that name, nil if there is none.
func (r *Roster) Get(name pki.Name) *Peer {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byName[name]
}

// At returns the node at a virtual address, nil if there is none.
func (r *Roster) At(addr netip.Addr) *Peer {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byVirtual[addr]
}

// All returns every node, ordered by name.
func (r *Roster) All() []*Peer {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]*Peer, 0, len(r.byName))
	for _, p := range r.byName {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *Peer) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return all
}

// Valid is All without those that were revoked: what is passed on. The others stay
// known, so that an operator sees what became of them.
func (r *Roster) Valid() []*Peer {
	return slices.DeleteFunc(r.All(), r.Revoked)
}

// Revoked reports whether a node was taken back.
func (r *Roster) Revoked(p *Peer) bool {
	return r.trust.CheckRevoked(pki.KindNode, p.Name, p.Credential.SigningKey, p.Credential.NotBefore) != nil
}

// Digest identifies all that is passed on: two rosters with equal digests have
// nothing to tell each other.
func (r *Roster) Digest() [32]byte {
	h := sha256.New()
	for _, p := range r.Valid() {
		h.Write(p.Digest[:])
	}
	return [32]byte(h.Sum(nil))
}

// Admit verifies a signed record and takes it in. It returns the node as the
// roster now holds it. A record already held is no news and no error; with
// ErrStale it returns the node that is held.
//
// The order is: what is refused or known anyway, credential, signature, then
// precedence. Nothing of the record is believed before its signature holds.
func (r *Roster) Admit(raw []byte, now time.Time) (*Peer, error) {
	signed, err := wire.ParseRecord(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: node record: %w", ErrMalformed, err)
	}
	name, err := pki.ParseName(signed.Record.Name)
	if err != nil {
		return nil, fmt.Errorf("%w: node record: %w", ErrMalformed, err)
	}
	if signed.Record.Sequence > uint64(now.Add(maxAhead).UnixMilli()) {
		return nil, fmt.Errorf("%w: node record: sequence %d is more than a year ahead", ErrMalformed, signed.Record.Sequence)
	}
	if r.isForgotten(name, signed.Record, now) {
		return nil, fmt.Errorf("%w: record of node %q, which was forgotten", ErrStale, name)
	}
	if held := r.Get(name); held != nil {
		if held.Digest == signed.Digest {
			return held, nil // the very bytes that were verified before
		}
		// The same key and no later, if it is genuine: gossip brings the last
		// record of everybody over and over, and that must cost no signature.
		if signed.Record.Sequence <= held.Record.Sequence && bytes.Equal(signed.Record.Credential, held.Record.Credential) {
			return held, fmt.Errorf("%w: record of node %q", ErrStale, name)
		}
	}
	peer, err := r.verify(name, signed, now)
	if err != nil {
		return nil, err
	}
	return r.settle(peer)
}

// settle lets a verified node take its place, if it may. It returns who then
// holds the place.
func (r *Roster) settle(peer *Peer) (*Peer, error) {
	r.admit.Lock()
	defer r.admit.Unlock()
	old := r.Get(peer.Name)
	if old != nil {
		if old.Digest == peer.Digest {
			return old, nil // two brought it at once, and the other one was first
		}
		if err := supersedes(peer, old); err != nil {
			return old, err
		}
	}
	if !r.put(peer) {
		return nil, ErrFull
	}
	r.changed(old, peer)
	return peer, nil
}

// verify makes a Peer of a record that its subject signed.
func (r *Roster) verify(name pki.Name, signed wire.SignedRecord, now time.Time) (*Peer, error) {
	credential, err := r.trust.VerifyCredential(signed.Record.Credential, now)
	if err != nil {
		return nil, fmt.Errorf("record of node %q: %w", name, err)
	}
	if credential.Kind != pki.KindNode || credential.Name != name {
		return nil, fmt.Errorf("%w: record of node %q carries the credential of %q", ErrForged, name, credential.Name)
	}
	if err := signed.Verify(credential.SigningKey, r.trust.Cluster()); err != nil {
		return nil, fmt.Errorf("%w: record of node %q: %w", ErrForged, name, err)
	}
	return &Peer{
		Name:       name,
		Credential: credential,
		Record:     signed.Record,
		Raw:        signed.Raw,
		Digest:     signed.Digest,
		Virtual:    VirtualAddr(r.trust.Cluster(), name),
	}, nil
}

// put takes a node in. It is false when there is no room for another.
func (r *Roster) put(peer *Peer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byName[peer.Name] == nil && len(r.byName) >= wire.MaxRecords {
		return false
	}
	r.byName[peer.Name] = peer
	r.byVirtual[peer.Virtual.Addr()] = peer
	return true
}

// Forget drops a node that is gone. Its record is not taken again for a while; one of a
// later life is.
func (r *Roster) Forget(name pki.Name, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	peer := r.byName[name]
	if peer == nil {
		return
	}
	delete(r.byName, name)
	delete(r.byVirtual, peer.Virtual.Addr())
	maps.DeleteFunc(r.forgotten, func(_ pki.Name, t tombstone) bool { return now.Sub(t.since) >= tombstoneLife })
	if len(r.forgotten) < wire.MaxRecords {
		r.forgotten[name] = tombstone{peer.Record.Boot, peer.Record.Sequence, now}
	}
}

// isForgotten reports whether a record is of a life of its node that was forgotten. By
// its boot nonce: who starts again with the clock set back is not kept out.
func (r *Roster) isForgotten(name pki.Name, record wire.Record, now time.Time) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t, ok := r.forgotten[name]
	return ok && now.Sub(t.since) < tombstoneLife && record.Boot == t.boot && record.Sequence <= t.sequence
}

// supersedes says whether next may take the place of held. Under one key the
// higher sequence wins. A name with a new key is a node that was set up again:
// the credential issued later wins, whatever either key claims.
func supersedes(next, held *Peer) error {
	if next.Credential.SigningKey.Equal(held.Credential.SigningKey) {
		if next.Record.Sequence <= held.Record.Sequence {
			return fmt.Errorf("%w: record of node %q", ErrStale, next.Name)
		}
		return nil
	}
	if !next.Credential.NotBefore.After(held.Credential.NotBefore) {
		return fmt.Errorf("%w: node %q was issued a newer key", ErrStale, next.Name)
	}
	return nil
}

// CheckAlive says whether memberlist may believe in a node with this name and
// address. It runs under memberlist's lock: look-ups only.
func (r *Roster) CheckAlive(name string, addr net.IP, port uint16) error {
	p := r.Get(pki.Name(name))
	if p == nil {
		return ErrUnknownNode
	}
	if port != VirtualPort || !net.IP(p.Virtual.Addr().AsSlice()).Equal(addr) {
		return fmt.Errorf("%w: node %q at another's address", ErrForged, name)
	}
	return nil
}
