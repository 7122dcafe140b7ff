package secgossip

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// selfRecord is what we say about ourselves: the signed node record in force.
type selfRecord struct {
	identity Identity
	cluster  pki.ClusterID
	boot     [wire.BootSize]byte // fresh at every start: old packets never open

	mu         sync.Mutex
	credential []byte
	endpoints  []netip.AddrPort
	sequence   uint64
	leaving    bool
	raw        []byte
}

// move notes where the next record says that we are. It reports whether that is
// news.
func (s *selfRecord) move(endpoints []netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(endpoints) == 0 || slices.Equal(s.endpoints, endpoints) {
		return false
	}
	s.endpoints = endpoints
	return true
}

// renew puts another credential into the next record.
func (s *selfRecord) renew(credential []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.credential = credential
}

// credentialNow is the one in force.
func (s *selfRecord) credentialNow() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.credential
}

// endpoint is the preferred one.
func (s *selfRecord) endpoint() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endpoints[0]
}

// all returns every address others are told.
func (s *selfRecord) all() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.endpoints)
}

// key is our Ed25519 key.
func (s *selfRecord) key() [32]byte {
	return [32]byte(s.identity.Signing.Public().(ed25519.PublicKey))
}

// current returns the signed record.
func (s *selfRecord) current() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.raw
}

func (s *selfRecord) digest() [32]byte { return sha256.Sum256(s.current()) }

// sign makes a new record, later than any before and later than above.
func (s *selfRecord) sign(above uint64, leaving bool, now time.Time) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = s.leaving || leaving
	// Kept only once it is signed: a sequence that cannot be must not stand in
	// the way of every later record.
	sequence := max(s.sequence+1, above+1, uint64(now.UnixMilli()))
	raw, err := wire.SignRecord(s.identity.Signing, s.cluster, wire.Record{
		Name:       string(s.identity.Name),
		Sequence:   sequence,
		Boot:       s.boot,
		Endpoints:  s.endpoints,
		Credential: s.credential,
		Leaving:    s.leaving,
	})
	if err != nil {
		return nil, fmt.Errorf("signing our node record: %w", err)
	}
	s.sequence, s.raw = sequence, raw
	return raw, nil
}

// renewRecord signs a new record of ours, later than above, and puts it into the
// roster.
func (n *Node) renewRecord(above uint64) error { return n.publishRecord(above, false) }

// Renew shows the cluster another credential for the same name and keys, which was
// verified by the caller. Nobody need restart for it.
func (n *Node) Renew(credential []byte) error {
	n.self.renew(credential)
	return n.announce()
}

// announce signs a new record and has memberlist say again that we are alive: the
// record goes along as evidence. If nobody takes it now, the next sync brings it.
func (n *Node) announce() error {
	if err := n.renewRecord(0); err != nil {
		return err
	}
	_ = n.list.UpdateNode(updateTimeout)
	return nil
}

// leaveRecord signs our last record: it proves to everybody that we left, and
// were not declared failed by somebody else.
func (n *Node) leaveRecord() error { return n.publishRecord(0, true) }

// publishRecord signs and admits in one go: of two records at once the earlier would
// be refused as overtaken.
func (n *Node) publishRecord(above uint64, leaving bool) error {
	n.publishing.Lock()
	defer n.publishing.Unlock()
	now := n.now()
	raw, err := n.self.sign(above, leaving, now)
	if err != nil {
		return err
	}
	_, err = n.roster.Admit(raw, now)
	return err
}

// overtakeLoop signs a new record when the cluster holds a later one than ours:
// an earlier run of this node had its clock ahead.
func (n *Node) overtakeLoop() {
	for {
		select {
		case <-n.ctx.Done():
			return
		case sequence := <-n.overtake:
			if err := n.renewRecord(sequence); err != nil {
				n.logger.Error("signing our node record", slog.Any("error", err))
			}
		}
	}
}
