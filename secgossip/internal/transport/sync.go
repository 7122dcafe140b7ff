package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Ledger is what the transport asks about gossip epochs. It lets any two members
// who meet on a stream bring each other up to date (Protocol: catch-up).
type Ledger interface {
	// Statements returns the signed statements worth passing on.
	Statements() [][]byte
	// Learn takes statements in and returns the epochs whose secrets we lack.
	Learn(items [][]byte) (wanted []wire.SecretRequest)
	// Secret returns the 32-byte secret of an epoch for a verified member. The
	// transport wipes it once it is sent.
	Secret(of wire.SecretRequest) ([]byte, error)
	// Install takes the secret of an epoch asked for. On return it is on disk, if the
	// node keeps epochs there.
	// It wipes secret. ErrNotKept: it could not be written, which the ledger has said.
	Install(asked wire.SecretRequest, secret []byte) error
	// State says how far we are.
	State() State
}

// Revocations is what the transport asks about identities that were taken back.
// Members tell each other before they speak of epochs.
type Revocations interface {
	// Revocations returns all that are held, each with the credential of the
	// keeper that signed it.
	Revocations() [][]byte
	// Digest identifies them.
	Digest() [32]byte
	// Learn takes revocations in. They hold on return.
	Learn(items [][]byte)
}

// Events is what the transport asks about events. It lets two members who meet on a
// stream bring each other what one of them lacks.
type Events interface {
	// Tally says what we have of all origins.
	Tally() wire.Tally
	// Lacking returns the marked events that a member lacks by its tally, most bytes
	// of them at most.
	Lacking(theirs wire.Tally, most int) [][]byte
	// Take takes in what a member brought when it was told mine. It waits for a second
	// at most.
	Take(from *guard.Peer, mine, theirs wire.Tally, items [][]byte)
}

// ErrNotKept says that a secret could not be kept. Every stream brings it again, so
// it is the ledger that says so, and not each of them.
var ErrNotKept = errors.New("secret not kept")

// State is how far a member is, as it says itself at the end of a sync and whenever
// that changes.
type State struct {
	Lowest  uint64 // the lowest epoch it holds
	Highest uint64 // the highest epoch it holds
	Primary uint64 // the epoch it seals with
	Sealed  uint64 // datagrams it has sealed with that one since it started
}

// The sync: what two members tell each other at the start of every stream.
//
//	dialler              listener
//	Hello            ->
//	                 <-  Hello          this is the accept: the dialler waits for it
//	Issuers,                            only when the digests in the hellos differ
//	Revocations,
//	Roster           ->
//	                 <-  Issuers, Revocations, Roster
//	Epochs           ->
//	                 <-  Epochs
//	SecretRequest    ->                 for each epoch the dialler lacks
//	                 <-  Secret
//	Ack, Tally       ->                 tallies and repairs: see Purpose.Repairs
//	                 <-  SecretRequest  for each epoch the listener lacks
//	Secret           ->
//	                 <-  Ack, Tally, Repair
//	Repair           ->
//
// One side speaks at a time, so two full pipes cannot wait for each other.

// syncAsDialler runs the dialler's side. The peer it returns has proved by TLS
// that it is the subject of its record.
func (t *Transport) syncAsDialler(conn *tls.Conn, purpose wire.Purpose, peer pki.Identity) (*guard.Peer, State, error) {
	mine := t.hello(purpose)
	sent := time.Now()
	if err := t.sendHello(conn, mine); err != nil {
		return nil, State{}, err
	}
	theirs, member, err := t.readHello(conn, peer)
	if err != nil {
		return nil, State{}, err
	}
	t.sessions.readClock(member, theirs.Time, sent)
	if theirs.Roster != mine.Roster {
		if err := t.sendKnown(conn); err != nil {
			return nil, State{}, err
		}
		if err := t.readKnown(conn); err != nil {
			return nil, State{}, err
		}
	}
	if err := t.sendStatements(conn); err != nil {
		return nil, State{}, err
	}
	wanted, err := t.readStatements(conn)
	if err != nil {
		return nil, State{}, err
	}
	if err := t.fetch(conn, wanted); err != nil {
		return nil, State{}, err
	}
	own, err := t.sendTally(conn, purpose)
	if err != nil {
		return nil, State{}, err
	}
	state, err := t.serve(conn, member)
	if err != nil || !purpose.Repairs() {
		return member, state, err
	}
	tally, err := t.readTally(conn)
	if err != nil {
		return nil, State{}, err
	}
	items, err := t.readRepair(conn)
	if err != nil {
		return nil, State{}, err
	}
	if err := t.sendRepair(conn, purpose, tally); err != nil {
		return nil, State{}, err
	}
	t.config.Events.Take(member, own, tally, items)
	return member, state, nil
}

// syncAsListener runs the listener's side.
func (t *Transport) syncAsListener(conn *tls.Conn, peer pki.Identity) (wire.Purpose, *guard.Peer, error) {
	theirs, member, err := t.readHello(conn, peer)
	if err != nil {
		return 0, nil, err
	}
	t.sessions.readClock(member, theirs.Time, time.Now())
	mine := t.hello(theirs.Purpose)
	if err := t.sendHello(conn, mine); err != nil {
		return 0, nil, err
	}
	if theirs.Roster != mine.Roster {
		if err := t.readKnown(conn); err != nil {
			return 0, nil, err
		}
		if err := t.sendKnown(conn); err != nil {
			return 0, nil, err
		}
	}
	wanted, err := t.readStatements(conn)
	if err != nil {
		return 0, nil, err
	}
	if err := t.sendStatements(conn); err != nil {
		return 0, nil, err
	}
	state, err := t.serve(conn, member)
	if err != nil {
		return 0, nil, err
	}
	t.synced(member, state)
	var tally wire.Tally
	if theirs.Purpose.Repairs() {
		if tally, err = t.readTally(conn); err != nil {
			return 0, nil, err
		}
	}
	if err := t.fetch(conn, wanted); err != nil {
		return 0, nil, err
	}
	if !theirs.Purpose.Repairs() {
		return theirs.Purpose, member, nil
	}
	own, err := t.sendTally(conn, theirs.Purpose)
	if err != nil {
		return 0, nil, err
	}
	if err := t.sendRepair(conn, theirs.Purpose, tally); err != nil {
		return 0, nil, err
	}
	items, err := t.readRepair(conn)
	if err != nil {
		return 0, nil, err
	}
	t.config.Events.Take(member, own, tally, items)
	return theirs.Purpose, member, nil
}

func (t *Transport) hello(purpose wire.Purpose) wire.Hello {
	state := t.config.Ledger.State()
	return wire.Hello{
		Purpose: purpose, Record: t.config.Record(), Roster: t.knownDigest(), Highest: state.Highest, Primary: state.Primary,
		Time: t.config.Clock(),
	}
}

func (t *Transport) sendHello(conn net.Conn, h wire.Hello) error {
	body, err := h.Append(nil)
	if err != nil {
		return err
	}
	return wire.WriteFrame(conn, wire.FrameHello, body)
}

// readHello reads the peer's hello and holds the record in it against the
// certificate: the peer must be the node the record is about.
func (t *Transport) readHello(conn net.Conn, peer pki.Identity) (wire.Hello, *guard.Peer, error) {
	_, body, err := wire.ReadFrame(conn, wire.FrameHello)
	if err != nil {
		return wire.Hello{}, nil, fmt.Errorf("reading hello: %w", err)
	}
	hello, err := wire.ParseHello(body)
	if err != nil {
		return wire.Hello{}, nil, fmt.Errorf("reading hello: %w", err)
	}
	member, err := t.config.Roster.Admit(hello.Record, t.config.Clock())
	// A record older than the one held is the peer's own mistake after a
	// restart with its clock set back; the roster tells it, it signs a newer one.
	if err != nil && !errors.Is(err, guard.ErrStale) {
		return wire.Hello{}, nil, fmt.Errorf("peer %q: %w", peer.Name, err)
	}
	if member.Name != peer.Name || !member.Credential.SigningKey.Equal(peer.Key) {
		return wire.Hello{}, nil, fmt.Errorf("%w: peer %q shows the record of %q", guard.ErrForged, peer.Name, member.Name)
	}
	// Whoever was revoked between its handshake and here would not be looked for
	// among the streams that were proven before.
	if t.config.Roster.Revoked(member) {
		return wire.Hello{}, nil, fmt.Errorf("peer %q: %w", peer.Name, pki.ErrRevoked)
	}
	return hello, member, nil
}
