package pki

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func clock() time.Time { return testNow }

func own(issued *Issued, key crypto.Signer) func() (*tls.Certificate, error) {
	return func() (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: issued.Chain, PrivateKey: key}, nil
	}
}

// handshake joins two ends and returns what each of them thinks. As the protocol
// does, the listener sends one byte when it is content and the dialler waits for
// it: under TLS 1.3 only that tells the dialler.
func handshake(t testing.TB, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	_, _, serverErr, clientErr = connect(t, server, client)
	return serverErr, clientErr
}

func connect(t testing.TB, server, client *tls.Config) (listener, dialler *tls.Conn, serverErr, clientErr error) {
	t.Helper()
	a, b := socketPair()
	listener, dialler = tls.Server(a, server), tls.Client(b, client)
	done := make(chan error, 1)
	go func() {
		err := listener.Handshake()
		if err == nil {
			_, err = listener.Write([]byte{1})
		}
		_ = a.Close()
		done <- err
	}()
	clientErr = dialler.Handshake()
	if clientErr == nil {
		_, clientErr = io.ReadFull(dialler, make([]byte, 1))
	}
	_ = b.Close()
	return listener, dialler, <-done, clientErr
}

// socketPair is net.Pipe with the buffers that sockets have. Without them a
// listener that sends its alert while the dialler still sends its flight would
// wait for the dialler, and the dialler for the listener.
func socketPair() (a, b net.Conn) {
	one, two := net.Pipe() // for the methods that do not matter
	ab, ba := newStream(), newStream()
	return &socket{one, ba, ab}, &socket{two, ab, ba}
}

type socket struct {
	net.Conn
	in, out *stream
}

func (s *socket) Read(p []byte) (int, error)  { return s.in.read(p) }
func (s *socket) Write(p []byte) (int, error) { return s.out.write(p) }
func (s *socket) Close() error                { s.out.end(); return nil }

// stream is one direction: what was written before the end can still be read.
type stream struct {
	mu    sync.Mutex
	news  *sync.Cond
	bytes bytes.Buffer
	ended bool
}

func newStream() *stream {
	s := &stream{}
	s.news = sync.NewCond(&s.mu)
	return s
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.bytes.Len() == 0 && !s.ended {
		s.news.Wait()
	}
	return s.bytes.Read(p) // io.EOF when nothing is left
}

func (s *stream) write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.news.Broadcast()
	return s.bytes.Write(p)
}

func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.news.Broadcast()
}

func TestNodesAndClientsAreLetIn(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	node, client := own(mustNode(t, c.issuer), testKey(seedNode)), own(mustClient(t, c.issuer), testKey(seedClient))
	listener, dialler, serverErr, clientErr := connect(t,
		c.trust.ServerTLS(node, []Kind{KindNode, KindClient}, clock), c.trust.ClientTLS(client, "web-1", clock))
	if serverErr != nil || clientErr != nil {
		t.Fatalf("server %v, client %v", serverErr, clientErr)
	}
	for _, end := range []struct {
		conn *tls.Conn
		want string
		key  ed25519.PublicKey
	}{
		{listener, "spiffe://prod/client/alice", publicOf(testKey(seedClient))},
		{dialler, "spiffe://prod/node/web-1", publicOf(testKey(seedNode))},
	} {
		state := end.conn.ConnectionState()
		id, err := PeerIdentity(state, "prod")
		if err != nil || id.String() != end.want || !id.Key.Equal(end.key) {
			t.Errorf("peer: got %v, %v, want %s", id, err, end.want)
		}
		if state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 {
			t.Errorf("got version %x, curve %s", state.Version, state.CurveID)
		}
		if _, err := PeerIdentity(state, "test"); !errors.Is(err, ErrForeign) {
			t.Errorf("as a peer of another cluster: got %v, want ErrForeign", err)
		}
		state.HandshakeComplete = false
		if id, err := PeerIdentity(state, "prod"); err == nil {
			t.Errorf("before the handshake is complete: got %v", id)
		}
	}
	if _, err := PeerIdentity(tls.ConnectionState{HandshakeComplete: true}, "prod"); err == nil {
		t.Error("a connection without certificates has a peer")
	}
	if got := listener.ConnectionState().ServerName; got != "" {
		t.Errorf("the dialler sent the name %q in the clear", got)
	}
}

// The good certificates here belong to the wrong peers.
func TestHandshakeWithTheWrongPeerFails(t *testing.T) {
	c, twin, far := newCluster(t, "prod", seedRoot), newCluster(t, "prod", seedOther), newCluster(t, "test", seedOther)
	node, client := own(mustNode(t, c.issuer), testKey(seedNode)), own(mustClient(t, c.issuer), testKey(seedClient))
	nodes, clients, both := []Kind{KindNode}, []Kind{KindClient}, []Kind{KindNode, KindClient}
	none := func() (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	noFile := errors.New("no certificate file")
	broken := func() (*tls.Certificate, error) { return nil, noFile }
	in := func(d time.Duration) func() time.Time { return func() time.Time { return testNow.Add(d) } }

	for _, test := range []struct {
		name           string
		server, client *tls.Config
		wantServer     error // nil: any error
		wantClient     error
	}{
		{"client of a cluster with our name", c.trust.ServerTLS(node, both, clock), c.trust.ClientTLS(own(mustClient(t, twin.issuer), testKey(seedClient)), "", clock), ErrForeign, nil},
		{"node of another cluster dials", c.trust.ServerTLS(node, both, clock), c.trust.ClientTLS(own(mustNode(t, far.issuer), testKey(seedNode)), "", clock), ErrForeign, nil},
		{"node of a cluster with our name listens", twin.trust.ServerTLS(own(mustNode(t, twin.issuer), testKey(seedNode)), both, clock), c.trust.ClientTLS(client, "", clock), nil, ErrForeign},
		{"another node answers", c.trust.ServerTLS(node, both, clock), c.trust.ClientTLS(client, "web-2", clock), nil, ErrMismatch},
		{"a client answers", c.trust.ServerTLS(client, both, clock), c.trust.ClientTLS(node, "", clock), nil, ErrMismatch},
		{"a client with the node's name answers", c.trust.ServerTLS(client, both, clock), c.trust.ClientTLS(node, "alice", clock), nil, ErrMismatch},
		{"a client where nodes are wanted", c.trust.ServerTLS(node, nodes, clock), c.trust.ClientTLS(client, "", clock), ErrMismatch, nil},
		{"a node where clients are wanted", c.trust.ServerTLS(node, clients, clock), c.trust.ClientTLS(node, "", clock), ErrMismatch, nil},
		{"nobody is wanted", c.trust.ServerTLS(node, nil, clock), c.trust.ClientTLS(node, "", clock), ErrMismatch, nil},
		{"no certificate", c.trust.ServerTLS(node, both, clock), c.trust.ClientTLS(none, "", clock), nil, nil},
		{"no certificate file, dialling", c.trust.ServerTLS(node, both, clock), c.trust.ClientTLS(broken, "", clock), nil, noFile},
		{"no certificate file, listening", c.trust.ServerTLS(broken, both, clock), c.trust.ClientTLS(node, "", clock), noFile, nil},
		{"certificate without its key", c.trust.ServerTLS(node, both, clock), c.trust.ClientTLS(own(mustNode(t, c.issuer), testKey(seedSpare)), "", clock), nil, nil},
		{"key of the certificate copied off the wire", c.trust.ServerTLS(own(mustNode(t, c.issuer), testKey(seedSpare)), both, clock), c.trust.ClientTLS(node, "", clock), nil, nil},
		{"dialler expired by the listener's clock", c.trust.ServerTLS(node, both, in(NodeLife+3*time.Minute)), c.trust.ClientTLS(node, "", clock), ErrExpired, nil},
		{"listener expired by the dialler's clock", c.trust.ServerTLS(node, both, clock), c.trust.ClientTLS(client, "", in(NodeLife+3*time.Minute)), nil, ErrExpired},
		{"listener's clock behind", c.trust.ServerTLS(node, both, in(-8*time.Minute)), c.trust.ClientTLS(node, "", clock), ErrNotYetValid, nil},
		{"dialler with another key exchange", c.trust.ServerTLS(node, both, clock), onlyP256(c.trust.ClientTLS(node, "", clock)), nil, nil},
		{"listener with another key exchange", onlyP256(c.trust.ServerTLS(node, both, clock)), c.trust.ClientTLS(node, "", clock), nil, nil},
		{"TLS 1.2 listener", only12(c.trust.ServerTLS(node, both, clock)), c.trust.ClientTLS(node, "", clock), nil, nil},
		{"TLS 1.2 dialler", c.trust.ServerTLS(node, both, clock), only12(c.trust.ClientTLS(node, "", clock)), nil, nil},
	} {
		serverErr, clientErr := handshake(t, test.server, test.client)
		if serverErr == nil || test.wantServer != nil && !errors.Is(serverErr, test.wantServer) {
			t.Errorf("%s: server: got %v, want %v", test.name, serverErr, test.wantServer)
		}
		if clientErr == nil || test.wantClient != nil && !errors.Is(clientErr, test.wantClient) {
			t.Errorf("%s: client: got %v, want %v", test.name, clientErr, test.wantClient)
		}
	}
}

func only12(config *tls.Config) *tls.Config {
	config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	return config
}

func onlyP256(config *tls.Config) *tls.Config {
	config.CurvePreferences = []tls.CurveID{tls.CurveP256}
	return config
}

// The peer is told that it was refused, and nothing that helps it.
func TestRefusedPeersAllSeeTheSameAlert(t *testing.T) {
	c, other := newCluster(t, "prod", seedRoot), newCluster(t, "prod", seedOther)
	node := own(mustNode(t, c.issuer), testKey(seedNode))
	texts := map[string]bool{}
	for _, certificate := range []func() (*tls.Certificate, error){
		own(mustNode(t, other.issuer), testKey(seedNode)),
		own(mustClient(t, c.issuer), testKey(seedClient)),
		own(&Issued{Chain: mustNode(t, c.issuer).Chain[:1]}, testKey(seedNode)),
	} {
		_, err := handshake(t, c.trust.ServerTLS(node, []Kind{KindNode}, clock), c.trust.ClientTLS(certificate, "", clock))
		texts[err.Error()] = true
	}
	if len(texts) != 1 || !texts["remote error: tls: bad certificate"] {
		t.Errorf("got %d different texts, want 1: %v", len(texts), texts)
	}
}

func TestRenewedCertificateIsUsedWithoutARestart(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	current := mustNode(t, c.issuer)
	changing := func() (*tls.Certificate, error) { return own(current, testKey(seedNode))() }
	now := testNow
	server := c.trust.ServerTLS(changing, []Kind{KindNode}, func() time.Time { return now })
	client := c.trust.ClientTLS(changing, "web-1", func() time.Time { return now })
	now = testNow.Add(NodeLife + day)
	if serverErr, clientErr := handshake(t, server, client); serverErr == nil || clientErr == nil {
		t.Errorf("with the old certificate: server %v, client %v", serverErr, clientErr)
	}
	renewed, err := c.issuer.Node(nodeRequest(), now)
	current = mustIssue(t, renewed, err)
	if serverErr, clientErr := handshake(t, server, client); serverErr != nil || clientErr != nil {
		t.Errorf("with the renewed one: server %v, client %v", serverErr, clientErr)
	}
}

func TestNothingIsLearnedFromAHandshake(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	node := own(mustNode(t, c.issuer), testKey(seedNode))
	if serverErr, clientErr := handshake(t, c.trust.ServerTLS(node, []Kind{KindNode}, clock), c.trust.ClientTLS(node, "", clock)); serverErr != nil || clientErr != nil {
		t.Fatalf("server %v, client %v", serverErr, clientErr)
	}
	if got := len(c.trust.Issuers()); got != 0 {
		t.Errorf("%d issuers were learned", got)
	}
}

func TestNoSessionIsResumed(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	node := own(mustNode(t, c.issuer), testKey(seedNode))
	server, client := c.trust.ServerTLS(node, []Kind{KindNode}, clock), c.trust.ClientTLS(node, "", clock)
	server.Time, client.Time = clock, clock // or the certificates are too old for it
	client.SessionTicketsDisabled = false   // a dialler that tries
	client.ServerName = "web-1"             // the key of the cache
	client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	for i := range 2 {
		_, dialler, serverErr, clientErr := connect(t, server, client)
		if serverErr != nil || clientErr != nil {
			t.Fatalf("server %v, client %v", serverErr, clientErr)
		}
		if dialler.ConnectionState().DidResume {
			t.Errorf("connection %d was resumed", i+1)
		}
	}
}

// Virtual time begins in the year 2000.
func TestIdentitiesWorkInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClusterAt(t, "prod", seedRoot, time.Now())
		issued, err := c.issuer.Node(nodeRequest(), time.Now())
		node := own(mustIssue(t, issued, err), testKey(seedNode))
		server, client := c.trust.ServerTLS(node, []Kind{KindNode}, time.Now), c.trust.ClientTLS(node, "web-1", time.Now)
		if serverErr, clientErr := handshake(t, server, client); serverErr != nil || clientErr != nil {
			t.Errorf("at first: server %v, client %v", serverErr, clientErr)
		}
		time.Sleep(NodeLife + time.Hour)
		// The dialler is the first to see a certificate.
		if serverErr, clientErr := handshake(t, server, client); !errors.Is(clientErr, ErrExpired) {
			t.Errorf("a week later: server %v, client %v, want ErrExpired", serverErr, clientErr)
		}
	})
}
