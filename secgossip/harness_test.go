package secgossip

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
	"github.com/secgossip/secgossip/secgossip/internal/memnet"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

var nodeLog = flag.Bool("nodelog", false, "write what the nodes of a story log")

// The locked memory must exist before any bubble: what is made inside one
// belongs to it.
func TestMain(m *testing.M) {
	memnet.OneProcessor()
	secret, err := keyring.NewSecret()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	secret.Destroy()
	os.Exit(m.Run())
}

// cluster is a test's cluster on a network in memory, inside a bubble.
type cluster struct {
	t      *testing.T
	net    *memnet.Network
	bundle []byte
	root   *pki.Authority
	ring   *keyring.Keyring // what the founder made; homes are given a copy of its file
	hosts  map[string]*host
	logger *slog.Logger
}

// host is one machine of the cluster: what survives a restart, and the node that
// runs there.
type host struct {
	c        *cluster
	name     string
	addr     netip.AddrPort
	identity Identity
	issued   *pki.Issued
	keyring  string // path
	locker   *keyring.Locker
	state    string
	seen     *recorder
	node     *Node
	file     *keyring.File
	settings func(*Config) // changes what the node is started with; nil: nothing
	spreads  uint32        // events that it gossiped as spread does
}

// recorder is an Observer that writes everything down.
type recorder struct {
	mu      sync.Mutex
	members []string
	epochs  []string
	events  []Event
	queries []Query

	answer func(Query) // what the host does with a query; nil: nothing
}

func (r *recorder) MemberEvent(kind string, m Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members = append(r.members, kind+" "+m.Name)
}

func (r *recorder) EpochEvent(e EpochEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epochs = append(r.epochs, fmt.Sprintf("%s %d by %q for %q", e.Action, e.Number, e.Keeper, e.Reason))
}

func (r *recorder) UserEvent(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) Query(q Query) {
	r.mu.Lock()
	r.queries = append(r.queries, q)
	answer := r.answer
	r.mu.Unlock()
	if answer != nil {
		answer(q)
	}
}

func (r *recorder) asked() []Query {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.queries)
}

// forget forgets the queries so far.
func (r *recorder) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queries = nil
}

func (r *recorder) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, e := range r.events {
		names = append(names, e.Name+":"+string(e.Payload))
	}
	return names
}

func (r *recorder) memberEvents() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.members)
}

func (r *recorder) epochEvents() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.epochs)
}

// inBubble runs a story in virtual time with a cluster of its own.
func inBubble(t *testing.T, story func(t *testing.T, c *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "demo")
		defer c.close()
		story(t, c)
	})
}

func newCluster(t *testing.T, name pki.Name) *cluster {
	t.Helper()
	key := must(keyring.NewSigningKey())(t)
	der := must(pki.NewRoot(name, key, time.Now()))(t)
	c := &cluster{
		t:      t,
		net:    memnet.New(memnet.Seed(1)),
		bundle: pki.EncodeCertificates([][]byte{der}),
		hosts:  make(map[string]*host),
		logger: slog.New(slog.DiscardHandler),
	}
	if *nodeLog {
		c.logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	c.root = must(pki.NewAuthority(must(x509.ParseCertificate(der))(t), key, c.trust()))(t)
	return c
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

func (c *cluster) trust() *pki.Trust { return must(pki.ParseBundle(c.bundle))(c.t) }

// close stops every node and the network.
func (c *cluster) close() {
	for _, h := range c.hosts {
		h.stop()
	}
	c.net.Close()
	// memberlist does not wait for its own goroutines: a probe may still be
	// waiting for its answer.
	time.Sleep(time.Minute)
}

// host sets a machine up: keys, credential, and a keyring with what the cluster
// has now. The first one founds the cluster and is a keeper.
func (c *cluster) host(name string, roles ...pki.Role) *host {
	t := c.t
	t.Helper()
	dir := t.TempDir()
	signing, agreement := must(keyring.NewSigningKey())(t), must(keyring.NewAgreementKey())(t)
	founder := len(c.hosts) == 0
	if founder {
		roles = append(roles, pki.RoleKeeper)
	}
	issued := must(c.root.Node(pki.NodeRequest{
		Name:         pki.Name(name),
		SigningKey:   signing.Public().(ed25519.PublicKey),
		AgreementKey: agreement.Public(),
		Roles:        roles,
	}, time.Now()))(t)
	own := &tls.Certificate{Certificate: issued.Chain, PrivateKey: signing}
	h := &host{
		c:    c,
		name: name,
		addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, byte((len(c.hosts) + 1) >> 8), 113, byte(len(c.hosts) + 1)}), 7946),
		identity: Identity{
			Name:        pki.Name(name),
			Credential:  issued.Credential,
			Certificate: func() (*tls.Certificate, error) { return own, nil },
			Signing:     signing,
			Agreement:   agreement,
		},
		issued:  issued,
		keyring: filepath.Join(dir, "keyring.age"),
		state:   dir,
		seen:    new(recorder),
	}
	h.locker = must(keyring.NewMachineLocker(filepath.Join(dir, "unlock.key")))(t)
	if founder {
		c.ring = must(Found(h.identity, c.trust(), time.Now()))(t)
	}
	must(keyring.CreateFile(h.keyring, h.locker, c.ring))(t)
	c.hosts[name] = h
	return h
}

// start runs the host's node. A host that ran before comes back as after a
// reboot: with its files and nothing else.
func (h *host) start(tags ...string) *host {
	h.c.t.Helper()
	h.node = must(New(h.config(tags...)))(h.c.t)
	return h
}

// config is what a host's node is started with.
func (h *host) config(tags ...string) Config {
	h.c.t.Helper()
	h.file = must(keyring.OpenFile(h.keyring, h.locker))(h.c.t)
	trust := h.c.trust()
	all := map[string]string{}
	for i := 0; i+1 < len(tags); i += 2 {
		all[tags[i]] = tags[i+1]
	}
	config := Config{
		Identity: h.identity,
		Trust:    trust,
		Keyring:  h.file,
		Verifier: testVerifier{rpcauth.NewVerifier(trust)},
		Observer: h.seen,
		Bind:     h.addr,
		Profile:  ProfileLAN,
		Tags:     all,
		StateDir: h.state,
		Network:  h.c.net.Host(h.addr.Addr()),
		Logger:   h.c.logger.With("at", h.name),
	}
	if h.settings != nil {
		h.settings(&config)
	}
	return config
}

// stop ends the node without a word to the others.
func (h *host) stop() {
	if h.node != nil {
		h.node.Close()
		h.node = nil
		h.file.Keyring().Destroy()
	}
}

// crash ends the node as a power cut does: nothing it meant to send leaves.
func (h *host) crash() {
	h.c.net.Host(h.addr.Addr()).Kill()
	h.stop()
}

func (h *host) join(other *host) *host {
	h.c.t.Helper()
	if _, err := h.node.Join(h.c.t.Context(), []string{other.addr.String()}); err != nil {
		h.c.t.Fatalf("%s joining %s: %v", h.name, other.name, err)
	}
	return h
}

// three starts three joined hosts, the first of which is the keeper.
func (c *cluster) three() (a, b, d *host) {
	c.t.Helper()
	a, b, d = c.host("a"), c.host("b"), c.host("d")
	a.start()
	b.start().join(a)
	d.start().join(a)
	c.settle()
	return a, b, d
}

// settle lets gossip do its work: two seconds of virtual time.
func (c *cluster) settle() { time.Sleep(2 * time.Second) }

// statuses is what a host thinks of everybody: "a alive, b failed".
func (h *host) statuses() string {
	var out string
	for _, m := range h.node.Members() {
		if out != "" {
			out += ", "
		}
		out += m.Name + " " + string(m.Status)
	}
	return out
}

// client is somebody who fires events.
type client struct {
	c     *cluster
	key   *keyring.SigningKey
	token []byte
}

func (c *cluster) client(name string, grants ...rpcauth.Grant) *client {
	c.t.Helper()
	key := must(keyring.NewSigningKey())(c.t)
	_, token, err := rpcauth.Mint(c.root, rpcauth.TokenRequest{
		Subject: pki.Name(name), Key: key.Public().(ed25519.PublicKey), Grants: grants,
	}, time.Now())
	if err != nil {
		c.t.Fatal(err)
	}
	return &client{c: c, key: key, token: token}
}

func (c *client) public() ed25519.PublicKey { return c.key.Public().(ed25519.PublicKey) }

// sign signs an event.
func (c *client) sign(name, payload string, nodes ...string) []byte {
	c.c.t.Helper()
	return must(rpcauth.SignEvent(c.key, c.token, rpcauth.EventRequest{
		Cluster: c.c.root.Trust().Cluster(), Name: name, Payload: []byte(payload), Nodes: nodes,
		LTime: uint64(time.Now().UnixMilli()),
	}, time.Now()))(c.c.t)
}

// fire hands an event to a host's node.
func (c *client) fire(at *host, name, payload string, nodes ...string) error {
	_, err := at.node.Fire(c.sign(name, payload, nodes...), c.public())
	return err
}

// ticks fires so many more events called tick at a host, numbered on, with a pause after
// each, and returns all their names so far.
func (c *client) ticks(at *host, before []string, count int, pause time.Duration) []string {
	c.c.t.Helper()
	for range count {
		number := len(before)
		before = append(before, fmt.Sprintf("tick:%d", number))
		if err := c.fire(at, "tick", fmt.Sprint(number)); err != nil {
			c.c.t.Fatal(err)
		}
		time.Sleep(pause)
	}
	return before
}

// spread has a member put anything into gossip as an event that it took in, under a
// genuine mark of a start that it made up.
func (h *host) spread(raw []byte) {
	h.c.t.Helper()
	h.spreads++
	h.spreadAs(h.spreads, raw)
}

func (h *host) spreadAs(sequence uint32, raw []byte) {
	h.c.t.Helper()
	h.node.eventGossip.spread(h.mark(sequence, raw))
	h.node.hurry()
}

func (h *host) mark(sequence uint32, raw []byte) []byte {
	h.c.t.Helper()
	origin := h.node.selfOrigin()
	origin.Start = 99
	return must(wire.MarkEvent(h.identity.Signing, h.c.root.Trust().Cluster(), wire.Mark{Origin: origin, Sequence: sequence}, raw))(h.c.t)
}

// testVerifier is what an agent puts between the core and rpcauth.
type testVerifier struct{ *rpcauth.Verifier }

func (v testVerifier) VerifyEvent(raw []byte, now time.Time) (Event, error) {
	e, err := v.Verifier.VerifyEvent(raw, now)
	if err != nil {
		return Event{}, err
	}
	return Event{
		ID: e.ID, Name: e.Name, Payload: e.Payload, LTime: e.LTime, Issued: e.Issued, Expires: e.Expires,
		Nodes: e.Nodes, Principal: string(e.Token.Subject), ClientKey: [32]byte(e.Token.Key), TokenID: e.Token.ID,
		Digest: e.Digest, Size: e.Size,
		For: func(node string, tags map[string]string) bool { return e.For(pki.Name(node), tags) },
	}, nil
}

func (v testVerifier) VerifyQuery(raw []byte, now time.Time) (Query, error) {
	q, err := v.Verifier.VerifyQuery(raw, now)
	if err != nil {
		return Query{}, err
	}
	return Query{
		ID: QueryID(q.ID), Name: q.Name, Payload: q.Payload, LTime: q.LTime, Issued: q.Issued, Expires: q.Expires,
		Timeout: q.Timeout, Ack: q.Ack, Ping: q.Name == rpcauth.PingQuery, Relay: int(q.Relay), Origin: string(q.Origin),
		Nodes: q.Nodes, Principal: string(q.Token.Subject), ClientKey: [32]byte(q.Token.Key), TokenID: q.Token.ID,
		For: func(node string, tags map[string]string) bool { return q.For(pki.Name(node), tags) },
	}, nil
}

func (v testVerifier) VerifyRemoval(raw []byte, now time.Time) (Removal, error) {
	r, err := v.Verifier.VerifyRemoval(raw, now)
	if err != nil {
		return Removal{}, err
	}
	return Removal{
		Node: string(r.Node), Key: r.Key, Sequence: r.Sequence, Prune: r.Prune, Issued: r.Issued,
		Principal: string(r.Token.Subject), ClientKey: [32]byte(r.Token.Key),
	}, nil
}
