package transport

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/memnet"
	"github.com/secgossip/secgossip/secgossip/internal/seal"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

func TestMain(m *testing.M) {
	memnet.OneProcessor()
	os.Exit(m.Run())
}

// must fails the test on an error.
func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// cluster is what the nodes of a test share.
type cluster struct {
	t      testing.TB
	net    *memnet.Network // nil over real sockets
	bundle []byte
	root   *pki.Authority
	knock  [32]byte
	epoch  epochSecret // of epoch 1, which every node starts with
	nodes  map[string]*node
}

// epochSecret derives keys as a keyring does.
type epochSecret [32]byte

func (s epochSecret) Derive(prefix, info []byte, size int) ([]byte, error) {
	return hkdf.Key(sha256.New, slices.Concat(prefix, s[:]), nil, string(info), size)
}

func (c *cluster) mac(data []byte) (sum [32]byte) {
	h := hmac.New(sha256.New, c.knock[:])
	h.Write(data)
	return [32]byte(h.Sum(nil))
}

// inBubble runs a story in virtual time. A goroutine that is left at its end
// fails the test.
func inBubble(t *testing.T, story func(t *testing.T, c *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "demo")
		c.net = memnet.New()
		defer c.net.Close()
		defer c.close()
		story(t, c)
	})
}

func newCluster(t testing.TB, name pki.Name) *cluster {
	t.Helper()
	_, key, _ := ed25519.GenerateKey(nil)
	der := must(pki.NewRoot(name, key, time.Now()))(t)
	c := &cluster{t: t, bundle: pki.EncodeCertificates([][]byte{der}), nodes: make(map[string]*node)}
	rand.Read(c.knock[:])
	rand.Read(c.epoch[:])
	c.root = must(pki.NewAuthority(must(x509.ParseCertificate(der))(t), key, c.trust()))(t)
	return c
}

func (c *cluster) trust() *pki.Trust { return must(pki.ParseBundle(c.bundle))(c.t) }

func (c *cluster) close() {
	for _, n := range c.nodes {
		n.stop()
	}
}

// node is a machine of the cluster with its transport, and what reached it.
type node struct {
	t         testing.TB
	c         *cluster
	name      pki.Name
	addr      netip.AddrPort
	endpoints []netip.AddrPort
	signing   ed25519.PrivateKey
	agreement *ecdh.PrivateKey
	issued    *pki.Issued
	issuer    []byte // whoever issued it, if not the root
	sequence  uint64
	network   Network
	others    func() map[string]uint64
	wrong     atomic.Int64 // how far its clock is ahead, in ns

	quarantined func(pki.Name) bool

	// Of one start.
	*Transport
	boot   [wire.BootSize]byte
	roster *guard.Roster
	ledger *fakeLedger

	revoked fakeRevocations
	events  fakeEvents

	mu      sync.Mutex
	record  []byte // what it shows as its own
	batches []string
	replies [][]byte // that came by stream; guarded by mu
	held    [][]byte // payloads that it gives, whatever is asked for; guarded by mu
	asked   int      // how often; guarded by mu
	full    bool     // none is taken; guarded by mu
	log     logLines
}

// fakeRevocations are items of any kind that are passed on.
type fakeRevocations struct {
	mu    sync.Mutex
	items [][]byte
}

func (f *fakeRevocations) Revocations() [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.items)
}

func (f *fakeRevocations) Digest() [32]byte {
	return sha256.Sum256(bytes.Join(f.Revocations(), []byte{0}))
}

func (f *fakeRevocations) Learn(items [][]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, item := range items {
		if !slices.ContainsFunc(f.items, func(held []byte) bool { return bytes.Equal(held, item) }) {
			f.items = append(f.items, bytes.Clone(item))
		}
	}
}

// fakeEvents are events of one origin, of which a tally only says how many there are.
type fakeEvents struct {
	mu    sync.Mutex
	items [][]byte
	most  int // that was asked for last
}

func (f *fakeEvents) Tally() wire.Tally {
	f.mu.Lock()
	defer f.mu.Unlock()
	return wire.Tally{Entries: []wire.TallyEntry{{Next: uint32(len(f.items) + 1)}}}
}

func (f *fakeEvents) Lacking(theirs wire.Tally, most int) [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.most = most
	if len(theirs.Entries) == 0 {
		return f.items
	}
	return f.items[min(int(theirs.Entries[0].Next-1), len(f.items)):]
}

func (f *fakeEvents) Take(_ *guard.Peer, _, _ wire.Tally, items [][]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.items = append(f.items, items...)
}

// node sets a machine up. The first one is at 203.0.113.1.
func (c *cluster) node(name string) *node {
	c.t.Helper()
	_, signing, _ := ed25519.GenerateKey(nil)
	agreement := must(ecdh.X25519().GenerateKey(rand.Reader))(c.t)
	n := &node{
		t: c.t, c: c, name: pki.Name(name), signing: signing, agreement: agreement,
		addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(len(c.nodes) + 1)}), 7946),
	}
	n.issued = must(c.root.Node(nodeRequest(n)))(c.t)
	n.endpoints = []netip.AddrPort{n.addr}
	if c.net != nil {
		n.network = c.net.Host(n.addr.Addr())
	}
	c.nodes[name] = n
	return n
}

// nodeRequest is what an authority is asked to sign for a node, now.
func nodeRequest(n *node) (pki.NodeRequest, time.Time) {
	return pki.NodeRequest{
		Name: n.name, SigningKey: n.public(), AgreementKey: [32]byte(n.agreement.PublicKey().Bytes()),
	}, time.Now()
}

func (n *node) public() ed25519.PublicKey { return n.signing.Public().(ed25519.PublicKey) }

func (n *node) certificate() (*tls.Certificate, error) {
	return &tls.Certificate{Certificate: n.issued.Chain, PrivateKey: n.signing}, nil
}

// start runs the node as after a boot: with its identity and nothing else.
func (n *node) start() *node {
	n.t.Helper()
	rand.Read(n.boot[:])
	trust := n.c.trust()
	if n.issuer != nil {
		must(trust.AddIssuer(n.issuer, time.Now()))(n.t)
	}
	n.ledger = &fakeLedger{highest: 1, primary: 1, secrets: map[uint64][]byte{1: n.c.epoch[:]}}
	n.roster = guard.NewRoster(trust, func(_, now *guard.Peer) {
		if now.Name != n.name {
			n.Transport.PeerChanged(now)
		}
	})
	transport, err := New(Config{
		Self:        n.name,
		Party:       seal.Party{Key: [32]byte(n.public()), Boot: n.boot},
		Trust:       trust,
		Certificate: n.certificate,
		Roster:      n.roster,
		Agree: func(peer [32]byte) ([]byte, error) {
			key, err := ecdh.X25519().NewPublicKey(peer[:])
			if err != nil {
				return nil, err
			}
			return n.agreement.ECDH(key)
		},
		Knock:       n.c.mac,
		Record:      n.shown,
		Ledger:      n.ledger,
		Reported:    func() {},
		Revocations: &n.revoked,
		Events:      &n.events,
		Batch:       n.batch,
		Reply:       n.takeReply,
		Payload:     n.payload,
		Strangers:   n.others,
		Quarantined: n.quarantined,
		Network:     n.network,
		Bind:        n.addr,
		Clock:       func() time.Time { return time.Now().Add(time.Duration(n.wrong.Load())) },
		Logger:      slog.New(slog.NewTextHandler(&n.log, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.Transport = transport
	n.say(func(*wire.Record) {})
	n.SetEpochs(1, map[uint64]seal.EpochSecret{1: n.c.epoch})
	n.Start()
	return n
}

func (n *node) stop() {
	if n.Transport != nil {
		n.Shutdown()
		n.Transport = nil
	}
}

// restart stops the node and starts it with a new boot nonce.
func (n *node) restart() *node {
	n.t.Helper()
	n.stop()
	if n.c.net != nil {
		n.network = n.c.net.Host(n.addr.Addr())
	}
	return n.start()
}

// sign makes the node's next record.
func (n *node) sign(change func(*wire.Record)) []byte {
	n.t.Helper()
	n.sequence = max(n.sequence+1, uint64(time.Now().UnixMilli()))
	r := wire.Record{
		Name: string(n.name), Sequence: n.sequence, Boot: n.boot, Endpoints: n.endpoints, Credential: n.issued.Credential,
	}
	change(&r)
	return must(wire.SignRecord(n.signing, n.c.root.Trust().Cluster(), r))(n.t)
}

// say makes the node's next record and shows it from now on.
func (n *node) say(change func(*wire.Record)) []byte {
	n.t.Helper()
	raw := n.sign(change)
	n.show(raw)
	must(n.roster.Admit(raw, time.Now()))(n.t)
	return raw
}

func (n *node) show(raw []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.record = raw
}

func (n *node) shown() []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.record
}

// batch notes what came in packets that are not memberlist's.
func (n *node) batch(from *guard.Peer, kind wire.PacketType, items [][]byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.batches = append(n.batches, string(from.Name)+": "+string(bytes.Join(items, []byte(", "))))
}

// takeReply notes a reply that came by stream, unless it takes none.
func (n *node) takeReply(from *guard.Peer, raw []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.full {
		return ErrNotTaken
	}
	n.replies = append(n.replies, raw)
	return nil
}

// payload gives what it holds, one after the other.
func (n *node) payload([32]byte) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	if len(n.held) == 0 {
		return nil
	}
	next := n.held[0]
	n.held = n.held[1:]
	return next
}

// learn makes nodes known to this one.
func (n *node) learn(others ...*node) *node {
	n.t.Helper()
	for _, other := range others {
		must(n.roster.Admit(other.shown(), time.Now()))(n.t)
	}
	return n
}

// pair starts two nodes that know each other.
func (c *cluster) pair() (a, b *node) {
	c.t.Helper()
	a, b = c.node("a").start(), c.node("b").start()
	a.learn(b)
	b.learn(a)
	return a, b
}

// of is a peer as this node knows it.
func (n *node) of(other *node) *guard.Peer { return n.roster.Get(other.name) }

// to is how memberlist names a member.
func (n *node) to() memberlist.Address {
	return memberlist.Address{Name: string(n.name), Addr: guard.VirtualAddr(n.c.root.Trust().Cluster(), n.name).String()}
}

// gossip sends a memberlist packet and lets it arrive.
func (n *node) gossip(other *node, packet []byte) {
	n.t.Helper()
	if _, err := n.WriteToAddress(packet, other.to()); err != nil {
		n.t.Errorf("%s to %s: %v", n.name, other.name, err)
	}
	synctest.Wait()
}

// delivered takes out of the transport what memberlist would read now.
func (n *node) delivered() [][]byte {
	var all [][]byte
	for {
		select {
		case p := <-n.PacketCh():
			all = append(all, p.Buf)
		default:
			return all
		}
	}
}

// nothingHappened checks that nothing was delivered and nothing logged.
func (n *node) nothingHappened(what string) {
	n.t.Helper()
	n.mu.Lock()
	batches := n.batches
	n.mu.Unlock()
	if got := n.delivered(); len(got) != 0 || len(batches) != 0 {
		n.t.Errorf("%s: %s was given %x and %q", what, n.name, got, batches)
	}
	n.nothingLogged(what)
}

func (n *node) nothingLogged(what string) {
	n.t.Helper()
	if text := n.log.String(); text != "" {
		n.t.Errorf("%s: %s logged\n%s", what, n.name, text)
	}
}

// counts checks that exactly these counters moved since before. Path checks come
// by themselves and count only where they are asked for.
func (n *node) counts(what string, before map[string]uint64, want map[string]uint64) {
	n.t.Helper()
	for name, now := range n.Counters() {
		if _, asked := want[name]; name == "checks_received" && !asked {
			continue
		}
		if got := now - before[name]; got != want[name] {
			n.t.Errorf("%s: %s moved by %d at %s, want %d", what, name, got, n.name, want[name])
		}
	}
}

// logLines is a log.
type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logLines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// fakeLedger is a Ledger without signatures.
type fakeLedger struct {
	mu               sync.Mutex
	highest, primary uint64
	secrets          map[uint64][]byte
	wanted           []wire.SecretRequest
	handed           [][]byte // what Secret returned
}

func (l *fakeLedger) Statements() [][]byte { return nil }

func (l *fakeLedger) Learn([][]byte) []wire.SecretRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wanted
}

func (l *fakeLedger) Secret(of wire.SecretRequest) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if secret, ok := l.secrets[of.Number]; ok {
		l.handed = append(l.handed, bytes.Clone(secret))
		return l.handed[len(l.handed)-1], nil
	}
	return nil, errors.New("no such epoch")
}

func (l *fakeLedger) Install(asked wire.SecretRequest, secret []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.secrets[asked.Number] = bytes.Clone(secret)
	l.highest = max(l.highest, asked.Number)
	l.wanted = nil
	clear(secret)
	return nil
}

func (l *fakeLedger) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return State{Lowest: l.primary, Highest: l.highest, Primary: l.primary}
}

// dialFrom opens a bare stream to a node, as a stranger at an address does.
func dialFrom(t testing.TB, c *cluster, from string, to *node) net.Conn {
	t.Helper()
	conn, err := c.net.Host(netip.MustParseAddr(from)).Dial(context.Background(), to.addr)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// knockFor is a knock that the cluster's nodes open to, at the address of a node.
func (c *cluster) knockFor(to *node, when time.Time) []byte {
	var random [8]byte
	rand.Read(random[:])
	return wire.MakeKnock(c.mac, c.root.Trust().Cluster(), wire.EndpointTarget(to.addr), when, random).Append(nil)
}

// validKnock is a knock for the node, of now.
func (n *node) validKnock() []byte { return n.c.knockFor(n, time.Now()) }
