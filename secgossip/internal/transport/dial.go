package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// now is for what we wait for. What time it is, others are told by config.Clock.
func (t *Transport) now() time.Time { return time.Now() }

// DialAddressTimeout opens a stream for memberlist. An address with a name, or a
// virtual address, is a member of the roster; any other address is a seed to
// join by, which may be any node of the cluster.
func (t *Transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	t.doubtPath(addr)
	conn, member, _, err := t.dial(ctx, addr, wire.PurposeGossip)
	if err != nil {
		return nil, dialError(err)
	}
	stream, err := t.memberStream(conn, member)
	if err != nil { // it was closed meanwhile
		t.hangUp(conn)
		return nil, dialError(err)
	}
	return stream, nil
}

// doubtPath has the path to a member checked now. memberlist dials a member when
// it has heard nothing by UDP of a probe; the other streams, a sync of its own
// every half minute, are so few that they need not be told apart.
func (t *Transport) doubtPath(addr memberlist.Address) {
	if peer, err := t.peerAt(addr); err == nil {
		if p := t.sessions.get(peer.Name); p != nil {
			p.path.doubt()
		}
	}
}

// Sync brings us and one member up to date with each other and returns how far
// it is. It takes streamTimeout at most.
func (t *Transport) Sync(ctx context.Context, addr memberlist.Address) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	conn, _, state, err := t.dial(ctx, addr, wire.PurposeEpoch)
	if err != nil {
		return State{}, err
	}
	t.hangUp(conn)
	return state, nil
}

// visit opens a stream to a member for one purpose, and hangs up when what is done there
// is done. All of it takes limit at most. An endpoint has its share of that for the dial,
// as any; what is done has all that is left.
func (t *Transport) visit(ctx context.Context, member *guard.Peer, purpose wire.Purpose, limit time.Duration, do func(conn *tls.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	conn, _, _, err := t.dial(ctx, memberlist.Address{Name: string(member.Name)}, purpose)
	if err != nil {
		return err
	}
	defer t.hangUp(conn)
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	return do(conn)
}

func (t *Transport) hangUp(conn *tls.Conn) {
	conn.Close() // all there was to say is said
	t.open.remove(conn.NetConn())
}

// dialError is the form memberlist knows for "the other end failed": with any
// other error it would never come to suspect the member.
func dialError(err error) error {
	if op, ok := err.(*net.OpError); ok && op.Op == "dial" {
		return op
	}
	return &net.OpError{Op: "dial", Net: "tcp", Err: err}
}

// dial connects to a member or seed, proves who we are, checks who it is, and
// runs the sync. ctx has a deadline. What lies below the connection it returns
// is in t.open.
func (t *Transport) dial(ctx context.Context, addr memberlist.Address, purpose wire.Purpose) (*tls.Conn, *guard.Peer, State, error) {
	var want pki.Name
	var endpoints []netip.AddrPort
	if peer, err := t.peerAt(addr); err == nil {
		want, endpoints = peer.Name, t.sessions.endpoints(peer)
	} else if seed, parseErr := netip.ParseAddrPort(addr.Addr); addr.Name == "" && parseErr == nil {
		endpoints = []netip.AddrPort{netip.AddrPortFrom(seed.Addr().Unmap(), seed.Port())}
	} else {
		return nil, nil, State{}, err
	}
	if len(endpoints) == 0 {
		return nil, nil, State{}, fmt.Errorf("node %q is on another host and tells only loopback addresses", want)
	}
	var problems []error
	for i, endpoint := range endpoints {
		attempt, cancel := shareOf(ctx, len(endpoints)-i)
		conn, member, state, err := t.dialEndpoint(attempt, endpoint, want, purpose)
		cancel()
		if err == nil {
			t.counters.add(streamsOpened)
			t.sessions.reached(member, endpoint)
			t.sessions.synced(member, state)
			return conn, member, state, nil
		}
		if len(endpoints) == 1 {
			return nil, nil, State{}, err
		}
		problems = append(problems, fmt.Errorf("%s: %w", endpoint, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, nil, State{}, errors.Join(problems...)
}

// shareOf gives an attempt its part of the time when so many are left: a first
// endpoint that swallows packets must not use up the time of those after it. As
// in net.Dialer a part is no shorter than two seconds.
func shareOf(ctx context.Context, left int) (context.Context, context.CancelFunc) {
	deadline, _ := ctx.Deadline()
	part := time.Until(deadline) / time.Duration(left)
	return context.WithTimeout(ctx, max(part, 2*time.Second)) // never beyond ctx
}

func (t *Transport) dialEndpoint(ctx context.Context, endpoint netip.AddrPort, want pki.Name, purpose wire.Purpose) (*tls.Conn, *guard.Peer, State, error) {
	raw, err := t.config.Network.Dial(ctx, endpoint)
	if err != nil {
		return nil, nil, State{}, err
	}
	if !t.open.add(raw) {
		return nil, nil, State{}, net.ErrClosed
	}
	clock := t.clockOf(want)
	conn, member, state, err := t.greet(ctx, raw, t.knock(want, endpoint, clock), want, purpose)
	if err != nil {
		if errors.Is(err, errNoAnswer) {
			t.forgetClock(want, clock)
		}
		t.open.remove(raw)
		raw.Close()
		return nil, nil, State{}, err
	}
	return conn, member, state, nil
}

// greet knocks, shakes hands and syncs, until the deadline of ctx.
func (t *Transport) greet(ctx context.Context, raw net.Conn, knock wire.Knock, want pki.Name, purpose wire.Purpose) (*tls.Conn, *guard.Peer, State, error) {
	deadline, _ := ctx.Deadline()
	if err := raw.SetDeadline(deadline); err != nil {
		return nil, nil, State{}, err
	}
	if _, err := raw.Write(knock.Append(nil)); err != nil {
		return nil, nil, State{}, err
	}
	conn := tls.Client(raw, t.config.Trust.ClientTLS(t.config.Certificate, want, t.config.Clock))
	if err := conn.HandshakeContext(ctx); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
			err = errNoAnswer
		}
		return nil, nil, State{}, fmt.Errorf("handshake: %w", err)
	}
	peer, err := t.provenBy(conn)
	if err != nil {
		return nil, nil, State{}, err
	}
	member, state, err := t.syncAsDialler(conn, purpose, peer)
	if err != nil {
		return nil, nil, State{}, err
	}
	return conn, member, state, nil
}

// errNoAnswer says why a listener may have closed without a byte. It tells nobody
// the reason; these are the ones an operator can do something about.
var errNoAnswer = fmt.Errorf("closed without a word: it is no node of this cluster, or its clock is more than %v from ours, "+
	"or it is dialled at an address that it does not advertise", wire.KnockTolerance)

// provenBy reads the verified identity off a finished handshake, notes whose stream
// it is, and learns the
// issuer that vouched for it: what the peer signed can then be verified.
func (t *Transport) provenBy(conn *tls.Conn) (pki.Identity, error) {
	state := conn.ConnectionState()
	identity, err := pki.PeerIdentity(state, t.config.Trust.ClusterName())
	if err != nil {
		return pki.Identity{}, err
	}
	if identity.Kind != pki.KindNode {
		return pki.Identity{}, fmt.Errorf("%q is not a node", identity.Name)
	}
	t.open.belongs(conn.NetConn(), proven{identity.Name, identity.Key, state.PeerCertificates[0].NotBefore})
	for _, issuer := range state.PeerCertificates[1:] {
		// The chain is verified. What is not learned all the same is the root,
		// which needs no learning, or one issuer too many: then the peer's
		// credential does not verify, and the sync says so.
		_, _ = t.config.Trust.AddIssuer(issuer.Raw, t.config.Clock())
	}
	return identity, nil
}
