package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Limits on streams. Threat N08: a stranger can make us hold strangersPerSource
// connections for at most knockTimeout, and nothing else; after a right knock the
// handshake takes at most handshakeTimeout.
const (
	maxStrangers       = 256
	strangersPerSource = 16 // hosts behind one address knock again
	knockTimeout       = 2 * time.Second
	handshakeTimeout   = 5 * time.Second

	// One member has at most a push/pull, a probe, a join and a few syncs under
	// way. Each may cost a roster, 3.2 MiB: 26 MiB for one that lies.
	maxMembers       = 256
	streamsPerMember = 8

	// streamTimeout bounds a sync, and each of memberlist's steps after it.
	streamTimeout = 15 * time.Second
)

// accept takes connections until Shutdown. Beyond what strangers may have at
// once a new connection is closed without a word.
func (t *Transport) accept() {
	for {
		conn, err := t.listener.Accept()
		switch {
		case err == nil:
		case t.ctx.Err() != nil, errors.Is(err, net.ErrClosed):
			return
		default:
			// Out of descriptors, most likely. Waiting costs nothing and
			// spinning would cost a core.
			t.pause(100 * time.Millisecond)
			continue
		}
		source := sourceOf(conn.RemoteAddr())
		if !t.strangers.take(source) {
			t.counters.add(strangersDropped)
			conn.Close()
			continue
		}
		t.running.Go(func() { t.answer(conn, source) })
	}
}

// pause waits, or until Shutdown.
func (t *Transport) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ctx.Done():
	}
}

// answer deals with one incoming connection. A stranger learns nothing: without
// a knock the connection is closed without a byte.
func (t *Transport) answer(raw net.Conn, source netip.Prefix) {
	defer raw.Close() // memberlist has closed what it was given
	defer t.open.remove(raw)
	conn, peer, err := t.screen(raw)
	t.strangers.giveBack(source)
	if err != nil {
		t.counters.add(strangersDropped)
		return
	}
	if !t.members.take(peer.Name) {
		t.counters.add(streamsRefused)
		return
	}
	defer t.members.giveBack(peer.Name)
	if err := t.serveStream(conn, peer); err != nil {
		t.counters.add(streamsRefused)
		t.logger.Debug("stream refused", slog.String("node", string(peer.Name)), slog.Any("error", err))
	}
}

// screen reads the knock and shakes hands: what a stranger can make us do.
func (t *Transport) screen(raw net.Conn) (*tls.Conn, pki.Identity, error) {
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
	now := t.now()
	if !wire.CheckKnock(knock, t.config.Knock, t.config.Trust.Cluster(), t.targets(raw.LocalAddr()), now) || !t.knocks.first(knock, now) {
		return nil, pki.Identity{}, errNoKnock
	}
	if err := raw.SetDeadline(now.Add(handshakeTimeout)); err != nil {
		return nil, pki.Identity{}, err
	}
	conn := tls.Server(raw, t.config.Trust.ServerTLS(t.config.Certificate, []pki.Kind{pki.KindNode}, t.now))
	if err := conn.Handshake(); err != nil { // ended by the deadline, or by Shutdown
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
	case wire.PurposeEpoch:
		return nil
	case wire.PurposeCarrier:
		return t.serveCarrier(conn, member)
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
