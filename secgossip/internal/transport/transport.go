// Package transport moves packets and streams between members: sealed datagrams
// and TLS 1.3 streams, offered to memberlist as its NodeAwareTransport.
//
// memberlist never sees a byte a stranger wrote. A datagram is opened by seal,
// read by wire and checked by guard before it reaches memberlist's channel; a
// stream has shown the knock and a certificate of the cluster, and both ends have
// told each other what they know (see sync.go), before memberlist may use it.
//
// memberlist addresses members by virtual addresses. The transport finds their
// real endpoints in the roster, in signed records, or where an authenticated
// packet last came from.
//
// To a stranger the transport says nothing. Counters, by reason, tell the operator,
// and a line a minute what they moved by.
package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/internal/places"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/seal"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Config is what a Transport works with.
type Config struct {
	Self        pki.Name
	Party       seal.Party // our key and boot nonce
	Trust       *pki.Trust
	Certificate func() (*tls.Certificate, error)
	Roster      *guard.Roster
	// Agree is X25519 with our agreement key.
	Agree func(peer [32]byte) ([]byte, error)
	// Knock is HMAC-SHA256 under the cluster's knock key.
	Knock func(data []byte) [32]byte
	// Record returns our own signed node record.
	Record      func() []byte
	Ledger      Ledger
	Revocations Revocations
	Events      Events
	// Batch is handed the items of every packet that is not memberlist's. It runs
	// on whichever goroutine received them, on several at once, and must not block.
	Batch func(from *guard.Peer, kind wire.PacketType, items [][]byte)
	// Reply takes a signed reply that came by stream. An error says that it was not
	// taken, and is told to nobody. Nil takes none.
	Reply func(from *guard.Peer, raw []byte) error
	// Payload returns a payload of this digest, nil if there is none here. Nil has none.
	Payload func(digest [32]byte) []byte
	// Reported is told that a peer has said how far it is; see Seen. It must not
	// block.
	Reported func()
	// Claimed is told who is suspect or alive by what our own memberlist sends, and
	// who is alive by what it is given. It must not block. Nil is told nothing.
	Claimed func(claims []guard.Claim)
	// Convicted is told of a peer that has sealed for us what no honest member sends,
	// each time that it does. It must not block. Nil is told nothing.
	Convicted func(from *guard.Peer, err error)
	// Quarantined says of a peer that what it says about others is not believed. Nil:
	// of none.
	Quarantined func(name pki.Name) bool
	// Strangers, which may be nil, returns what strangers moved at other
	// listeners of the agent, for the summary of each minute.
	Strangers func() map[string]uint64

	Network Network
	Bind    netip.AddrPort
	Logger  *slog.Logger

	// Clock is this host's clock: what is told to others, and what knocks and
	// certificates are judged by. Nil is time.Now.
	Clock func() time.Time
	// ClusterTime is what most clocks of the cluster show, as far as that is known.
	// Nil is Clock.
	ClusterTime func() time.Time
}

// Transport implements memberlist.NodeAwareTransport.
type Transport struct {
	config   Config
	logger   *slog.Logger
	packets  PacketConn
	listener net.Listener
	sessions *sessions
	begun    time.Time
	knocks   *knockMemory
	counters counters
	untimely atomic.Int64 // how far ahead the last knock was that bore a wrong time, in ns

	packetCh chan *memberlist.Packet
	streamCh chan net.Conn

	// strangers bounds the connections that have not proved who they are,
	// members those that have. sources says where members are.
	strangers *places.Places
	members   *places.Quota[pki.Name]
	sources   *sources
	carriers  *places.Quota[pki.Name] // that we opened
	taken     *places.Quota[pki.Name] // that members opened
	replies   *places.Quota[pki.Name] // that are being read from streams
	payloads  *places.Quota[pki.Name] // that are being sent by streams

	ctx      context.Context // ends with Shutdown
	cancel   context.CancelFunc
	starting sync.Mutex // held while a goroutine is started, and while ctx ends
	running  sync.WaitGroup
	open     connSet
	close    sync.Once
}

// packetQueue is how many packets wait for memberlist: 1.2 MiB.
const packetQueue = 1024

// New opens the sockets. Start begins to receive, Shutdown ends it.
func New(config Config) (*Transport, error) {
	if config.Clock == nil {
		config.Clock = time.Now
	}
	if config.ClusterTime == nil {
		config.ClusterTime = config.Clock
	}
	packets, listener, err := listen(config.Network, config.Bind)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &Transport{
		config:   config,
		logger:   config.Logger,
		packets:  packets,
		listener: listener,
		begun:    time.Now(),
		knocks:   newKnockMemory(),
		packetCh: make(chan *memberlist.Packet, packetQueue),
		streamCh: make(chan net.Conn),
		members:  places.NewQuota[pki.Name](maxMembers, streamsPerMember),
		carriers: places.NewQuota[pki.Name](maxCarriers, 2), // one may still be closing
		taken:    places.NewQuota[pki.Name](maxTaken, takenPerMember),
		replies:  places.NewQuota[pki.Name](maxReplies, repliesPerMember),
		payloads: places.NewQuota[pki.Name](maxPayloads, payloadsPerMember),
		sources:  newSources(),
		ctx:      ctx,
		cancel:   cancel,
	}
	t.strangers = places.New(places.Limits{All: maxStrangers, Each: strangersPerSource, Reserved: strangersReserved}, t.sources.known)
	t.sessions = newSessions(config)
	return t, nil
}

// Start begins to receive. Our own record must be in the roster by then.
func (t *Transport) Start() {
	t.running.Go(t.receive)
	t.running.Go(t.accept)
	t.running.Go(t.tend)
	t.running.Go(t.summarise)
}

// background runs f, which must end soon after ctx does. It reports whether f was
// started: no more is once Shutdown has begun.
func (t *Transport) background(f func()) bool {
	t.starting.Lock()
	defer t.starting.Unlock()
	if t.ctx.Err() != nil {
		return false
	}
	t.running.Go(f)
	return true
}

// listen opens UDP and TCP on one address. With port 0 the kernel picks a port
// for TCP and the same one is asked for UDP.
func listen(network Network, bind netip.AddrPort) (PacketConn, net.Listener, error) {
	const tries = 10 // a port free for TCP may be taken for UDP
	for try := 1; ; try++ {
		listener, err := network.Listen(bind)
		if err != nil {
			return nil, nil, err
		}
		at := netip.AddrPortFrom(bind.Addr(), listener.Addr().(*net.TCPAddr).AddrPort().Port())
		packets, err := network.ListenPacket(at)
		if err == nil {
			return packets, listener, nil
		}
		listener.Close()
		if bind.Port() != 0 || try == tries {
			return nil, nil, err
		}
	}
}

// Port is the port both sockets listen on.
func (t *Transport) Port() uint16 {
	return t.listener.Addr().(*net.TCPAddr).AddrPort().Port()
}

// Counters counts what was received, sent and dropped.
func (t *Transport) Counters() map[string]uint64 { return t.counters.snapshot() }

// FinalAdvertiseAddr tells memberlist the only address it ever has for us.
func (t *Transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	virtual := guard.VirtualAddr(t.config.Trust.Cluster(), t.config.Self)
	return virtual.Addr().AsSlice(), int(virtual.Port()), nil
}

// PacketCh is where memberlist reads opened and checked packets.
func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packetCh }

// StreamCh is where memberlist reads streams that members opened.
func (t *Transport) StreamCh() <-chan net.Conn { return t.streamCh }

// SetEpochs makes the transport hold exactly these epochs and seal with primary.
// An epoch that was held and removed is not taken in again.
func (t *Transport) SetEpochs(primary uint64, held map[uint64]seal.EpochSecret) {
	if t.sessions.setEpochs(primary, held) {
		seal.Sweep()
	}
}

// PeerChanged takes note of a new or changed record in the roster.
func (t *Transport) PeerChanged(peer *guard.Peer) {
	t.sources.named(peer)
	t.sessions.setPeer(peer)
}

// Recheck shuts out at once whoever is revoked by now: its streams are closed, and
// nothing goes to it or is taken from it.
func (t *Transport) Recheck() {
	t.sessions.recheck()
	t.open.closeIf(t.revoked)
}

// revoked reports whether whoever proved itself was taken back since.
func (t *Transport) revoked(p proven) bool {
	return t.config.Trust.CheckRevoked(pki.KindNode, p.name, p.key, p.notBefore) != nil
}

// Seen is what packets to and from a peer have told about it.
type Seen struct {
	Endpoint netip.AddrPort // where it is reached; invalid if nobody said
	Epoch    uint64         // the epoch it last sealed with; 0: nothing came yet
	Blocked  bool           // UDP to it is blocked
	Carried  bool           // then: its packets go by stream; otherwise nothing gets there
	Said     State          // how far it said it is
	Synced   time.Time      // when it said so last; zero: not since either of us started
	Ahead    time.Duration  // its clock, compared with ours
	Read     time.Time      // when its clock was read; zero: not yet
}

// Seen says where a peer is reached, how, and which epoch it last sealed with.
func (t *Transport) Seen(peer *guard.Peer) (seen Seen) {
	if all := t.sessions.endpoints(peer); len(all) > 0 {
		seen.Endpoint = all[0]
	}
	if p := t.sessions.get(peer.Name); p != nil {
		seen.Epoch = p.epoch.Load()
		seen.Blocked, seen.Carried = p.path.state()
		if said := p.said.Load(); said != nil {
			seen.Said, seen.Synced = said.State, said.at
		}
		if clock := p.clock.Load(); clock != nil {
			seen.Ahead, seen.Read = clock.now().Sub(t.config.Clock()), clock.at
		}
	}
	return seen
}

// Quiet is how long ago a packet of a peer came last, in whichever way. It is false if
// none has come since either of us started.
func (t *Transport) Quiet(peer *guard.Peer) (time.Duration, bool) {
	p := t.sessions.get(peer.Name)
	if p == nil || p.last.Load() == 0 {
		return 0, false
	}
	return t.now().Sub(t.begun.Add(time.Duration(p.last.Load()))), true
}

// Sealed is the number of datagrams sealed in an epoch since we started, as long
// as it is held.
func (t *Transport) Sealed(epoch uint64) uint64 { return t.sessions.sealed(epoch) }

// WriteTo is WriteToAddress without a name.
func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// DialTimeout is DialAddressTimeout without a name.
func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// Shutdown closes the sockets and every open stream, and waits for all
// goroutines of the transport. It may be called more than once.
func (t *Transport) Shutdown() error {
	var err error
	t.close.Do(func() {
		t.starting.Lock()
		t.cancel()
		t.starting.Unlock()
		err = errors.Join(t.packets.Close(), t.listener.Close())
		t.open.closeAll()
		t.running.Wait()
		t.sessions.wipe()
	})
	return err
}

// peerAt finds the member behind one of memberlist's addresses.
func (t *Transport) peerAt(addr memberlist.Address) (*guard.Peer, error) {
	if addr.Name != "" {
		if p := t.config.Roster.Get(pki.Name(addr.Name)); p != nil {
			return p, nil
		}
		return nil, fmt.Errorf("%w: %q", guard.ErrUnknownNode, addr.Name)
	}
	at, err := netip.ParseAddrPort(addr.Addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr.Addr, err)
	}
	if p := t.config.Roster.At(at.Addr()); p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%w at %s", guard.ErrUnknownNode, at)
}
