package transport

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/seal"
)

// sessions holds the traffic keys: for each peer and each epoch held, one sender
// and one receiver. It follows the roster and the keyring; the path of a packet
// never makes a key.
type sessions struct {
	config Config
	inbox  *seal.Inbox[*session]

	// What is made of keys, of thousands at once when an epoch comes. Nobody who
	// sends waits for this lock.
	mu      sync.Mutex
	epochs  map[uint64]seal.EpochSecret
	primary uint64
	starts  starts
	past    map[uint64]uint64 // datagrams sealed by senders that are gone, by epoch
	warned  map[pki.Name]bool // nodes whose trouble was logged

	peersMu sync.RWMutex // taken after mu, for a look or an entry
	peers   map[pki.Name]*session
}

func newSessions(config Config) *sessions {
	return &sessions{
		config: config,
		inbox:  seal.NewInbox[*session](config.Trust.Cluster(), config.Party),
		epochs: make(map[uint64]seal.EpochSecret),
		peers:  make(map[pki.Name]*session),
		starts: newStarts(),
		past:   make(map[uint64]uint64),
		warned: make(map[pki.Name]bool),
	}
}

// get returns the session with a peer, nil if it has none.
func (s *sessions) get(name pki.Name) *session {
	s.peersMu.RLock()
	defer s.peersMu.RUnlock()
	return s.peers[name]
}

// all returns every session, in random order.
func (s *sessions) all() []*session {
	s.peersMu.RLock()
	defer s.peersMu.RUnlock()
	return slices.Collect(maps.Values(s.peers))
}

func (s *sessions) put(name pki.Name, p *session) {
	s.peersMu.Lock()
	defer s.peersMu.Unlock()
	s.peers[name] = p
}

// setPeer follows a new or changed record.
func (s *sessions) setPeer(peer *guard.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	party := seal.Party{Key: peer.Key(), Boot: peer.Record.Boot}
	old := s.get(peer.Name)
	if old != nil && old.party == party { // the same start: the same keys
		old.follow(peer)
		s.recheckLocked(old) // it may have been renewed
		return
	}
	shared, err := s.config.Agree(peer.Credential.AgreementKey)
	if err == nil {
		err = s.starts.first(peer.Name, party)
	}
	if err != nil {
		clear(shared)
		s.warnLocked(peer.Name, err)
		return
	}
	next := &session{party: party, shared: shared, senders: make(map[uint64]*seal.Sender)}
	next.peer.Store(peer)
	if old != nil {
		s.dropLocked(old)
		next.peer.Store(old.peer.Load())
		next.source.Store(old.source.Load())
		next.seen.Store(old.seen.Load())
		next.follow(peer)
	}
	for number := range s.epochs {
		s.keyLocked(next, number)
	}
	next.sending.Store(next.senders[s.primary])
	s.put(peer.Name, next)
}

// setEpochs follows the keyring.
func (s *sessions) setEpochs(primary uint64, held map[uint64]seal.EpochSecret) (removed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for number, secret := range s.epochs {
		if held[number] == secret { // of two epochs of one number, the other may have come
			continue
		}
		removed = true
		s.inbox.RemoveEpoch(number)
		delete(s.epochs, number)
		delete(s.past, number)
		for _, p := range s.all() {
			delete(p.senders, number)
		}
	}
	for number, secret := range held {
		if _, known := s.epochs[number]; known {
			continue
		}
		// An epoch the inbox refuses is not sealed with either: after a
		// removal its counters would start again under the same keys.
		if err := s.inbox.AddEpoch(number, secret); err != nil {
			s.config.Logger.Error("epoch not taken in", slog.Uint64("epoch", number), slog.Any("error", err))
			continue
		}
		s.epochs[number] = secret
		for _, p := range s.all() {
			s.keyLocked(p, number)
		}
	}
	if numbers := slices.Sorted(maps.Keys(s.epochs)); len(numbers) > 0 {
		s.starts.forget(numbers[0])
	}
	s.primary = primary
	for _, p := range s.all() {
		p.sending.Store(p.senders[primary])
	}
	return removed
}

// keyLocked derives the keys with one peer in one epoch.
func (s *sessions) keyLocked(p *session, number uint64) {
	sender, err := seal.NewSender(p.shared, s.epochs[number], s.config.Trust.Cluster(), number, s.config.Party, p.party)
	if err != nil {
		s.warnLocked(p.peer.Load().Name, err)
		return
	}
	if s.listenLocked(p, number) {
		p.senders[number] = sender
	}
}

// listenLocked lets the inbox hear one peer in one epoch, unless it is shut out. It
// reports whether nothing was wrong. A window that the inbox has stays.
func (s *sessions) listenLocked(p *session, number uint64) bool {
	if p.out.Load() {
		return true
	}
	receiver, err := seal.NewReceiver(p.shared, s.epochs[number], s.config.Trust.Cluster(), number, s.config.Party, p.party)
	if err == nil {
		err = s.inbox.AddPeer(receiver, p)
	}
	if err != nil {
		s.warnLocked(p.peer.Load().Name, err)
	}
	return err == nil
}

// synced notes how far a member said it is at the end of a sync.
func (s *sessions) synced(peer *guard.Peer, state State) {
	if p := s.get(peer.Name); p != nil {
		p.synced(state)
	}
}

// readClock notes what a member's clock showed, some time between sent and now.
func (s *sessions) readClock(peer *guard.Peer, theirs, sent time.Time) {
	if p := s.get(peer.Name); p != nil {
		p.readClock(theirs, sent, time.Now())
	}
}

// dropLocked forgets the keys with an earlier start of a node.
func (s *sessions) dropLocked(p *session) {
	s.inbox.RemovePeer(p.party.Key)
	var highest uint64
	for number, sender := range p.senders {
		highest = max(highest, number)
		s.past[number] += sender.Sealed()
	}
	s.starts.over(p.party, highest)
	p.out.Store(true)
	p.carrier.hangUp()
	p.wipe()
}

// recheck holds every peer's credential against the time and what was revoked, and
// shuts out those it fails. It costs no signature.
func (s *sessions) recheck() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.all() {
		s.recheckLocked(p)
	}
}

// recheckLocked shuts a peer out, or lets it in again.
func (s *sessions) recheckLocked(p *session) {
	peer := p.peer.Load()
	err := s.config.Trust.Recheck(peer.Credential, s.config.Clock())
	switch {
	case err != nil && !p.out.Swap(true):
		s.config.Logger.Warn("node is shut out", slog.String("node", string(peer.Name)), slog.Any("error", err))
		s.inbox.RemovePeer(p.party.Key)
		p.carrier.hangUp()
	case err == nil && p.out.Swap(false):
		s.config.Logger.Info("node is let in again", slog.String("node", string(peer.Name)))
		for number := range s.epochs {
			s.listenLocked(p, number)
		}
	}
}

// warnLocked says once that there are no keys with a node. Once, because a
// member could make it happen as often as it likes.
func (s *sessions) warnLocked(name pki.Name, err error) {
	if !s.warned[name] {
		s.warned[name] = true
		s.config.Logger.Warn("no keys with a node", slog.String("node", string(name)), slog.Any("error", err))
	}
}

// sealed counts the datagrams sealed in an epoch that is held.
func (s *sessions) sealed(number uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := s.past[number]
	for _, p := range s.all() {
		if sender := p.senders[number]; sender != nil {
			sum += sender.Sealed()
		}
	}
	return sum
}

// wipe forgets every key, at the end.
func (s *sessions) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.all() {
		p.wipe()
	}
	s.peersMu.Lock()
	defer s.peersMu.Unlock()
	clear(s.peers)
}
