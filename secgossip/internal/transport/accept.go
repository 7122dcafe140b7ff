package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/secgossip/secgossip/internal/places"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Limits on streams. Threat N08: a stranger can make us hold strangersPerSource
// connections for at most knockTimeout, and nothing else; after a right knock the
// handshake takes at most handshakeTimeout. Nobody stays unproven for more than
// the 6 seconds of both.
//
// The reserve is for sources at which members are: 64 sources that are not can
// take no place of it, whatever they do. Who shares an address with a member can,
// up to 16; then both have the chance that package places argues for, which is
// good against everybody who cannot knock. A thief of the knock secret behind the
// address of a member could keep that member's streams to us out by knocking 16
// times in each of its handshakes; ours to it, and datagrams, are not affected.
const (
	maxStrangers       = 256
	strangersReserved  = 64
	strangersPerSource = 16 // hosts behind one address knock again
	knockTimeout       = 2 * time.Second
	handshakeTimeout   = 4 * time.Second

	// One member has at most a push/pull, a probe, a join and a few syncs under
	// way. Each may cost a roster, 3.2 MiB: 26 MiB for one that lies.
	maxMembers       = 256
	streamsPerMember = 8

	// streamTimeout bounds a sync, and each of memberlist's steps after it.
	streamTimeout = 15 * time.Second
)

// Descriptors is how many descriptors a transport may hold: strangers' and
// members' streams, those we open, and its three or so sockets and the poller.
// We open streams for 16 syncs of a rotation, one catch-up, one rejoin, one
// push/pull, and memberlist's probes over TCP, one a second for as long as one
// takes: 32 in all, with room. Carriers have a limit of their own.
const Descriptors = maxStrangers + maxMembers + maxCarriers + 32 + 4

// accept takes connections until Shutdown.
func (t *Transport) accept() {
	refused := func() { t.counters.add(strangersDropped) }
	t.strangers.Serve(t.ctx, t.listener, refused, t.answer)
}

// answer deals with one incoming connection. A stranger learns nothing: without
// a knock the connection is closed without a byte.
func (t *Transport) answer(raw *places.Conn) {
	defer raw.Close() // memberlist has closed what it was given
	defer t.open.remove(raw)
	conn, peer, err := t.screen(raw)
	if held := raw.GiveBack(); err != nil || !held {
		t.counters.add(strangersDropped)
		return
	}
	if !t.members.Take(peer.Name) {
		t.counters.add(streamsRefused)
		return
	}
	defer t.members.GiveBack(peer.Name)
	t.sources.seen(peer.Name, raw.Source())
	if err := t.serveStream(conn, peer); err != nil {
		t.counters.add(streamsRefused)
		t.logger.Debug("stream refused", slog.String("node", string(peer.Name)), slog.Any("error", err))
	}
}

// screen reads the knock and shakes hands: what a stranger can make us do.
func (t *Transport) screen(raw *places.Conn) (*tls.Conn, pki.Identity, error) {
	if !t.open.add(raw) {
		return nil, pki.Identity{}, net.ErrClosed
	}
	if err := raw.SetDeadline(t.now().Add(knockTimeout)); err != nil {
		return nil, pki.Identity{}, err
	}
	var first [wire.KnockSize]byte
	if _, err := io.ReadFull(raw, first[:]); err != nil {
		return nil, pki.Identity{}, err
	}
	knock, err := wire.ParseKnock(first[:])
	if err != nil {
		return nil, pki.Identity{}, err
	}
	now := t.config.Clock()
	if !knock.IsFor(t.targets(raw.LocalAddr()), t.config.Knock, t.config.Trust.Cluster()) {
		return nil, pki.Identity{}, errNoKnock
	}
	if ahead := knock.Ahead(now); ahead.Abs() > wire.KnockTolerance {
		t.counters.add(knocksUntimely)
		t.untimely.Store(int64(ahead))
		return nil, pki.Identity{}, errNoKnock
	}
	if !t.knocks.first(knock, now) {
		return nil, pki.Identity{}, errNoKnock
	}
	raw.Heard()
	ctx, cancel := context.WithTimeout(t.ctx, handshakeTimeout)
	defer cancel()
	conn, err := raw.Handshake(ctx, t.config.Trust.ServerTLS(t.config.Certificate, []pki.Kind{pki.KindNode}, t.config.Clock))
	if err != nil {
		return nil, pki.Identity{}, err
	}
	peer, err := t.provenBy(conn)
	if err != nil {
		return nil, pki.Identity{}, err
	}
	return conn, peer, nil
}

var errNoKnock = errors.New("no knock")

// serveStream syncs with a proven member and hands a gossip stream to
// memberlist. It returns when memberlist has closed it; any other stream its
// caller closes.
func (t *Transport) serveStream(conn *tls.Conn, peer pki.Identity) error {
	if err := conn.SetDeadline(t.now().Add(streamTimeout)); err != nil {
		return err
	}
	purpose, member, err := t.syncAsListener(conn, peer)
	if err != nil {
		return err
	}
	t.counters.add(streamsAccepted)
	switch purpose {
	case wire.PurposeEpoch, wire.PurposeRepair:
		return nil
	case wire.PurposeCarrier:
		return t.serveCarrier(conn, member)
	case wire.PurposeReply:
		return t.serveReply(conn, member)
	case wire.PurposePayload:
		return t.servePayload(conn, member)
	}
	stream, err := t.memberStream(conn, member)
	if err != nil {
		return err
	}
	patience := time.NewTimer(streamTimeout)
	defer patience.Stop()
	select {
	case t.streamCh <- stream:
		<-stream.done // memberlist sets deadlines of its own, and Shutdown closes raw
		return nil
	case <-patience.C:
		return errors.New("memberlist takes no stream")
	case <-t.ctx.Done():
		return nil
	}
}
