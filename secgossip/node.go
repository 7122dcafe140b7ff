// Package secgossip is the gossip core: cluster membership, failure detection
// and events among hosts that share only a hostile network.
//
// A Node is one member of one cluster. It finds the others by their addresses,
// proves who it is, keeps a list of who is alive, and spreads events and queries that
// clients signed. Everything it sends is sealed with AES-256-GCM under keys that only
// the two ends have; keys come from epochs, which keepers replace (see Rotate).
//
//	node, err := secgossip.New(secgossip.Config{ … })
//	defer node.Close()
//	node.Join(ctx, []string{"203.0.113.7:7946"})
//	node.Fire(signedEvent, clientKey)
//
// Failure detection is hashicorp/memberlist, unmodified, with its own encryption
// off, behind a transport of ours. What a member says about others is checked
// before memberlist hears it.
package secgossip

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/seal"
	"github.com/secgossip/secgossip/secgossip/internal/transport"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Node is a running member of a cluster.
type Node struct {
	config   Config
	profile  Profile // in force
	settings *memberlist.Config
	logger   *slog.Logger

	roster      *guard.Roster
	self        *selfRecord
	ledger      *ledger
	revocations *revocations
	members     *membership
	coordinates *coordinates
	lamport     *lamportClocks
	quarantine  *quarantine
	journal     *Journal
	transport   *transport.Transport
	list        *memberlist.Memberlist

	eventGossip      *gossip
	epochGossip      *gossip
	revocationGossip *gossip
	queryGossip      *gossip
	queries          *queries
	queriesIn        chan queryPacket // what packets say about queries
	removalGossip    *gossip
	removalsIn       chan []byte        // removals to verify
	removals         map[string]Removal // those that hold, by node; guarded by tending
	tending          sync.Mutex         // held while members that are gone are dealt with
	store            *eventStore
	payloads         *payloads
	pulls            *pulls
	pulled           chan Event // whose payload has come
	follows          follows
	receipts         chan receiptPacket      // to hear or to answer
	incoming         chan incoming           // events to verify
	senders          sharing[pki.Name]       // of what is in incoming
	brought          chan incoming           // the same, of streams
	more             chan *guard.Peer        // who has more than it brought by a stream
	fires            chan arrival            // events of clients, to accept
	arrivals         chan arrival            // events of others, to accept, in order
	tallies          chan heardTally         // of members, to answer
	byOrigin         map[[8]byte]*guard.Peer // by origin hint; guarded by origins
	ranBefore        map[[8]byte]startBefore // starts that are not younger than ours; likewise
	origins          sync.Mutex
	notices          chan func(Observer) // for the observer, in order
	statements       chan told           // epoch statements to learn from
	revocationsIn    chan [][]byte       // revocations to learn from
	kick             chan struct{}
	moved            chan struct{} // we hold other epochs than before
	changed          chan struct{} // the same, for whoever keeps epochs
	reported         chan struct{} // a member said how far it is
	overtake         chan uint64   // a record of ours with this sequence is about
	saving           sync.Mutex    // held while the file of known nodes changes
	unwritten        *unwritten
	saved            [32]byte   // digest of the records on disk; guarded by saving
	publishing       sync.Mutex // held while a record of ours is signed and admitted
	leaving          atomic.Bool
	tagging          sync.Mutex                        // held while tags change
	tagChanges       tagChanges                        // guarded by tagging
	tags             atomic.Pointer[map[string]string] // as they are told
	rotating         sync.Mutex
	revoking         sync.Mutex // held while a revocation is signed and taken in
	lastUnkept       time.Time  // of acceptLoop alone
	started          time.Time
	following        sync.Mutex
	followed         uint64                // the epoch in use that was last followed; guarded by following
	epochsTold       map[uint64]EpochEvent // the epochs held when that was last told, by number; guarded by following
	counts           counts

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	closing sync.Once
}

// retransmit is how much more often events are passed on than memberlist passes
// on its own news, which push/pull repairs. Of 30 nodes each sends an event to 16
// others at random; with one datagram in ten lost, one node misses it with a
// probability of e^(-16*0.9), and any of them once in 60,000 events.
const retransmit = 2

// noticeQueue bounds what waits for the observer.
const noticeQueue = 4096

// New starts a node. It listens, and is alone until Join.
func New(config Config) (*Node, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	if config.Network == nil {
		config.Network = transport.Host{}
	}
	if config.RotateEvery == 0 {
		config.RotateEvery = DefaultRotateEvery
	}
	if config.now == nil {
		config.now = time.Now
	}
	if config.ReconnectTimeout == 0 {
		config.ReconnectTimeout = DefaultReap
	}
	if config.TombstoneTimeout == 0 {
		config.TombstoneTimeout = DefaultReap
	}
	if config.volumeMark == 0 {
		config.volumeMark = volumeMark
	}
	if config.addresses == nil {
		config.addresses = interfaceAddrs
	}
	if config.Observer == nil {
		config.Observer = noObserver{}
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	profile := config.profile()
	settings := profile.memberlist()
	n := &Node{
		config:      config,
		profile:     profile,
		settings:    settings,
		logger:      config.Logger,
		members:     newMembership(longestSuspicion(settings)),
		coordinates: newCoordinates(),
		lamport:     newLamportClocks(),
		quarantine:  newQuarantine(),
		unwritten:   newUnwritten(config.Logger),
		payloads:    newPayloads(config.StateDir),
		pulls:       newPulls(),
		pulled:      make(chan Event, maxPulling),
		follows:     follows{open: make(map[journalKey][]*follow)},
		receipts:    make(chan receiptPacket, receiptQueue),
		incoming:    make(chan incoming, incomingQueue),
		brought:     make(chan incoming),
		more:        make(chan *guard.Peer, 1),
		fires:       make(chan arrival, fireQueue),
		arrivals:    make(chan arrival, arrivalQueue),
		tallies:     make(chan heardTally, tallyQueue),
		byOrigin:    make(map[[8]byte]*guard.Peer),
		ranBefore:   make(map[[8]byte]startBefore),
		notices:     make(chan func(Observer), noticeQueue),
		statements:  make(chan told, statementQueue),

		queries:   newQueries(),
		queriesIn: make(chan queryPacket, incomingReplies),

		revocationsIn: make(chan [][]byte, statementQueue),
		removalsIn:    make(chan []byte, removalQueue),
		removals:      make(map[string]Removal),
		kick:          make(chan struct{}, 1),
		moved:         make(chan struct{}, 1),
		changed:       make(chan struct{}, 1),
		reported:      make(chan struct{}, 1),
		overtake:      make(chan uint64, 1),
	}
	n.store = newEventStore(&n.counts)
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if err := n.start(); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *Node) start() error {
	n.eventGossip = newGossip(wire.PacketEvents, wire.BatchEvents, retransmit*n.settings.RetransmitMult, n.liveCount)
	n.epochGossip = newGossip(wire.PacketEpochs, wire.BatchEpochs, retransmit*n.settings.RetransmitMult, n.liveCount)
	n.revocationGossip = newGossip(wire.PacketRevocations, wire.BatchRevocations, retransmit*n.settings.RetransmitMult, n.liveCount)
	n.queryGossip = newGossip(wire.PacketQueries, wire.BatchQueries, retransmit*n.settings.RetransmitMult, n.liveCount)
	n.removalGossip = newGossip(wire.PacketRemovals, wire.BatchRemovals, retransmit*n.settings.RetransmitMult, n.liveCount)
	n.revocations = newRevocations(n.config.Trust, n.logger, n.clusterTime, n.revocationsChanged, n.passOnRevocations)
	n.config.Trust.SetRevoked(n.revocations.Revoked)
	n.ledger = newLedger(n.config.Trust, n.config.Keyring, n.logger, n.clusterTime, n.epochsChanged, n.passOn)
	n.ledger.known = n.revocations.holds
	n.revocations.noted = func(err error) { n.unwritten.note(revocationsFile, err) }
	n.ledger.noted = func(err error) { n.unwritten.mark("keyring", err) }
	n.roster = guard.NewRoster(n.config.Trust, n.rosterChanged)
	n.self = &selfRecord{identity: n.config.Identity, cluster: n.config.Trust.Cluster(), credential: n.config.Identity.Credential}
	rand.Read(n.self.boot[:])

	n.started = n.now()
	var err error
	n.transport, err = transport.New(transport.Config{
		Self:        n.config.Identity.Name,
		Party:       seal.Party{Key: n.self.key(), Boot: n.self.boot},
		Trust:       n.config.Trust,
		Certificate: n.config.Identity.Certificate,
		Roster:      n.roster,
		Agree:       n.config.Identity.Agreement.Agree,
		Knock:       n.knock,
		Record:      n.self.current,
		Ledger:      n.ledger,
		Revocations: n.revocations,
		Events:      streamRepair{n},
		Batch:       n.receive,
		Reply:       n.replyByStream,
		Payload:     n.payloads.get,
		Reported:    n.hearReport,
		Claimed:     n.members.claimed,
		Convicted:   n.convicted,
		Quarantined: n.quarantine.holds,
		Strangers:   n.config.Strangers,
		Network:     n.config.Network,
		Bind:        n.config.Bind,
		Logger:      n.logger,
		Clock:       n.now,
		ClusterTime: n.clusterTime,
	})
	if err != nil {
		return fmt.Errorf("listening on %s: %w", n.config.Bind, err)
	}
	// Only now is it sure that no other node has the same home in use.
	var journalPath string
	if n.config.StateDir != "" {
		journalPath = filepath.Join(n.config.StateDir, journalFile)
	}
	if n.journal, err = OpenJournal(journalPath, n.config.Trust.Cluster(), n.now()); err != nil {
		return err
	}
	if damaged := n.journal.Damaged(); damaged != nil {
		n.logger.Warn("the journal of events is damaged and put aside as .bad: events from before this start are not taken", slog.Any("error", damaged))
	}
	if n.config.StateDir != "" {
		if err := n.revocations.load(filepath.Join(n.config.StateDir, revocationsFile), n.now()); err != nil {
			return err
		}
	}
	if !n.self.move(n.advertised()) {
		return errors.New("this host has no address of the family that is listened on; bind to one that it has, or advertise one")
	}
	if n.config.Bind.Addr().IsUnspecified() && n.self.endpoint().Addr().IsLoopback() {
		n.logger.Warn("only this host can reach this node: it listens on every address of a family of which the host has none; "+
			"for IPv6 bind to [::]", slog.String("endpoint", n.self.endpoint().String()))
	}
	if err := n.renewRecord(0); err != nil {
		return err
	}
	n.epochsChanged()
	if n.ledger.State().Primary == 0 {
		n.logger.Info("no epoch yet: waiting for a member to fetch it from")
	}
	if err := errors.Join(n.loadRecords(), n.loadTags(), n.loadClocks(), n.payloads.load(n.now())); err != nil {
		return err
	}

	n.settings.Name = string(n.config.Identity.Name)
	n.settings.Transport = n.transport
	n.settings.Delegate = n
	n.settings.Events = n
	n.settings.Alive = n
	n.settings.Ping = n
	n.settings.DelegateProtocolMin, n.settings.DelegateProtocolMax, n.settings.DelegateProtocolVersion = protocol, protocol, protocol
	n.settings.Logger = log.New(&memberlistLog{node: n}, "", 0)
	n.transport.Start()
	n.running.Go(n.observe)
	n.running.Go(n.eventLoop)
	n.running.Go(n.acceptLoop)
	n.running.Go(n.overtakeLoop)
	n.running.Go(n.statementLoop)
	n.running.Go(n.reportLoop)
	n.running.Go(n.revocationLoop)
	n.running.Go(n.queryLoop)
	n.running.Go(n.receiptLoop)
	if n.list, err = memberlist.Create(n.settings); err != nil {
		return err
	}
	n.running.Go(n.gossipLoop)
	n.running.Go(n.repairLoop)
	n.running.Go(n.moreLoop)
	n.running.Go(n.pullLoop)
	n.running.Go(n.reconnectLoop)
	n.running.Go(n.tendLoop)
	n.running.Go(n.endpointLoop)
	n.running.Go(n.keepLoop)
	n.running.Go(n.clockLoop)
	n.running.Go(n.clocksLoop)
	return nil
}

// protocol is the version of our messages, in memberlist's delegate version.
const protocol = 1

// Join contacts each address, host:port or a bare host for the default port, and
// returns how many answered. It fails only if none did. Whatever an address
// leads to must prove to be a node of this cluster before it learns anything.
func (n *Node) Join(ctx context.Context, addresses []string) (int, error) {
	if n.leaving.Load() {
		return 0, errors.New("this node is leaving")
	}
	joined := 0
	var problems []error
	for _, address := range addresses {
		endpoints, err := resolve(ctx, address)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		for _, endpoint := range endpoints {
			if _, err := n.list.Join([]string{endpoint.String()}); err != nil {
				problems = append(problems, fmt.Errorf("joining by %s: %w", endpoint, flatten(err)))
				continue
			}
			joined++
			break
		}
	}
	if joined == 0 {
		return 0, errors.Join(problems...)
	}
	n.saveRecords() // a crash may come sooner than the next time
	return joined, nil
}

// Leave tells the cluster that we go, so that nobody counts it as a failure. It
// waits leaveTimeout at most for somebody to hear it. The node still runs until
// Close.
func (n *Node) Leave() error {
	n.saveRecords() // for whoever may rejoin
	n.leaving.Store(true)
	// Whatever of this fails, the others are told: a node that is known to go is
	// better than one that is looked for.
	problems := n.leaveRecord()
	if !n.config.Rejoin {
		problems = errors.Join(problems, n.forgetRecords())
	}
	if err := n.list.Leave(leaveTimeout); err != nil {
		// Nobody took it: the others are leaving too, or cannot be reached.
		n.logger.Warn("nobody heard that this node leaves", slog.Any("error", err))
	}
	return problems
}

// Close stops everything the node started and waits for it. Without Leave the
// others will see a failure.
func (n *Node) Close() error {
	var problems []error
	n.closing.Do(func() {
		n.cancel()
		n.queries.barrier()
		if n.list != nil {
			problems = append(problems, n.list.Shutdown())
		}
		if n.transport != nil {
			problems = append(problems, n.transport.Shutdown())
		}
		n.running.Wait()
		n.tellRest()
		if n.journal != nil {
			problems = append(problems, n.saveClocks(), n.journal.Close())
		}
	})
	return errors.Join(problems...)
}

// Name is the node's name.
func (n *Node) Name() string { return string(n.config.Identity.Name) }

// Profile is the profile in force.
func (n *Node) Profile() Profile { return n.profile }

// Endpoints are the addresses others are told to reach us at.
func (n *Node) Endpoints() []netip.AddrPort { return n.self.all() }

// Endpoint is the first address others are told to reach us at.
func (n *Node) Endpoint() netip.AddrPort { return n.self.endpoint() }

// Port is the port the node listens on.
func (n *Node) Port() uint16 { return n.transport.Port() }

// liveCount is what memberlist's queues scale with.
func (n *Node) liveCount() int { return n.list.NumMembers() }

// notify queues something for the observer. When the queue is full it is dropped
// and counted: membership never waits for whoever watches it.
func (n *Node) notify(f func(Observer)) {
	select {
	case n.notices <- f:
	default:
		n.counts.noticesDropped.Add(1)
	}
}

func (n *Node) observe() {
	for {
		select {
		case <-n.ctx.Done():
			return
		case f := <-n.notices:
			f(n.config.Observer)
		}
	}
}

// tellRest tells the observer what was noticed before the end: of an event that was
// accepted nobody hears again. There are noticeQueue of them at most.
func (n *Node) tellRest() {
	for {
		select {
		case f := <-n.notices:
			f(n.config.Observer)
		default:
			return
		}
	}
}

// receive sorts what packets of ours carry. It runs where packets are received, on
// several goroutines at once.
func (n *Node) receive(from *guard.Peer, kind wire.PacketType, items [][]byte) {
	switch kind {
	case wire.PacketEvents, wire.PacketRepair:
		n.receiveEvents(from.Name, items, kind == wire.PacketRepair)
	case wire.PacketTally, wire.PacketLacks:
		n.receiveTally(from, items[0], kind == wire.PacketTally)
	case wire.PacketEpochs:
		n.receiveStatements(from, items)
	case wire.PacketRevocations:
		n.receiveRevocations(items)
	case wire.PacketQueries, wire.PacketReplies, wire.PacketRelay, wire.PacketTaken:
		n.receiveQueries(from, kind, items)
	case wire.PacketAskReceipt, wire.PacketReceipt:
		n.receiveReceipt(from, kind, items[0])
	case wire.PacketRemovals:
		n.receiveRemovals(items)
	}
}

// rosterChanged hears of every new record.
func (n *Node) rosterChanged(before, now *guard.Peer) {
	n.lamport.witness(memberClock, now.Record.Sequence, n.now())
	n.knowOrigin(before, now)
	if now.Name != n.config.Identity.Name {
		n.transport.PeerChanged(now)
		n.restored(now)
		return
	}
	// Somebody holds a later record of ours than the one we signed: an earlier
	// run of this node had its clock ahead. Overtake it.
	if now.Digest != n.self.digest() {
		select {
		case n.overtake <- now.Record.Sequence:
		default:
		}
	}
}

var (
	_ memberlist.Delegate      = (*Node)(nil)
	_ memberlist.EventDelegate = (*Node)(nil)
	_ memberlist.AliveDelegate = (*Node)(nil)
)
