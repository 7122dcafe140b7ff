package rpc

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/secgossip/secgossip/internal/places"
)

// Limits on connections. Threat N08: before its handshake is done a stranger can
// make us hold strangersPerSource connections for handshakeTimeout and
// farewellTimeout. A handshake
// has 30 kB, and what it may read, 32 KiB, up to twice: all of them 6 MB.
const (
	maxStrangers       = 64
	strangersReserved  = 16 // for sources from which a client was let in lately
	strangersPerSource = 8
	handshakeTimeout   = 5 * time.Second
	farewellTimeout    = 500 * time.Millisecond

	// A client has a connection for each command under way; a program of its own
	// needs one, whatever it does. With 16 each, eight clients together could
	// hold all, and each of them has a certificate of this cluster.
	maxConnections       = 128
	connectionsPerClient = 16
)

// Descriptors is how many descriptors a listener may hold, its own included.
const Descriptors = maxStrangers + maxConnections + 1

// Listener accepts TLS connections of clients: Accept returns only those whose
// handshake is done, which http.Server then serves by HTTP/2 or HTTP/1.1 as the
// handshake has settled. Whoever is beyond a limit is closed without a byte.
type Listener struct {
	inner   net.Listener
	config  *tls.Config
	places  *places.Places
	known   places.Recent
	clients *places.Quota[clientKey]
	ready   chan net.Conn

	accepted, dropped, refused atomic.Uint64

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// clientKey is the key of a client's certificate.
type clientKey [ed25519.PublicKeySize]byte

// NewListener returns a listener on top of inner, which it closes at its end.
// config comes from pki.Trust.ServerTLS. Handshakes begin at once; who is through
// has the rest of its time to wait for Accept.
func NewListener(inner net.Listener, config *tls.Config) *Listener {
	l := &Listener{
		inner:   inner,
		config:  config.Clone(),
		clients: places.NewQuota[clientKey](maxConnections, connectionsPerClient),
		ready:   make(chan net.Conn),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.config.NextProtos = []string{"h2", "http/1.1"}
	l.config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		hello.Conn.(*places.Conn).Heard()
		return nil, nil // as it is
	}
	limits := places.Limits{All: maxStrangers, Each: strangersPerSource, Reserved: strangersReserved}
	l.places = places.New(limits, func(source netip.Prefix) bool { return l.known.Has(source, time.Now()) })
	l.running.Go(func() {
		l.places.Serve(l.ctx, l.inner, func() { l.dropped.Add(1) }, l.answer)
	})
	return l
}

// Accept returns the next client's connection, a *tls.Conn.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.ready:
		return conn, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close ends the listener and every handshake under way. Connections that Accept
// has returned go on.
func (l *Listener) Close() error {
	l.cancel()
	err := l.inner.Close()
	l.running.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil // http.Server and the agent both close it
	}
	return err
}

// Addr is where it listens.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Counters counts who came. A stranger moves strangers_dropped and nothing else.
func (l *Listener) Counters() map[string]uint64 {
	return map[string]uint64{
		"connections":          uint64(l.clients.InUse()),
		"connections_accepted": l.accepted.Load(),
		"connections_refused":  l.refused.Load(), // of clients, too many at once
		"strangers_dropped":    l.dropped.Load(), // no certificate, or too many at once
	}
}

// answer shakes hands and hands on whoever proves to be a client.
func (l *Listener) answer(raw *places.Conn) {
	ctx, cancel := context.WithTimeout(l.ctx, handshakeTimeout)
	defer cancel()
	conn, err := raw.Handshake(ctx, l.config)
	if err != nil {
		sayWhy(raw)
	}
	if held := raw.GiveBack(); err != nil || !held {
		raw.Close()
		l.dropped.Add(1)
		return
	}
	client, ok := keyOf(conn.ConnectionState())
	if !ok || !l.clients.Take(client) {
		raw.Close()
		l.refused.Add(1)
		return
	}
	raw.AtClose(func() { l.clients.GiveBack(client) })
	l.known.Add(raw.Source(), time.Now())
	select {
	case l.ready <- conn:
		l.accepted.Add(1)
	case <-ctx.Done():
		raw.Close()
	}
}

// sayWhy lets the alert arrive that TLS has sent to whoever it refused. A client
// has sent its first request by then, and the kernel takes back what it has not
// delivered yet when a connection is closed with bytes unread. It takes
// farewellTimeout at most, still in the stranger's place.
func sayWhy(raw *places.Conn) {
	tcp, ok := raw.Conn.(*net.TCPConn)
	if !ok || tcp.CloseWrite() != nil || tcp.SetReadDeadline(time.Now().Add(farewellTimeout)) != nil {
		return // it is closed already
	}
	_, _ = io.CopyN(io.Discard, tcp, MaxRequest)
}

// keyOf is the key of the certificate that the other end holds.
func keyOf(state tls.ConnectionState) (clientKey, bool) {
	if len(state.PeerCertificates) == 0 {
		return clientKey{}, false
	}
	key, ok := state.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PublicKeySize {
		return clientKey{}, false
	}
	return clientKey(key), true
}
