package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// The part of a sync that is about epochs: statements both ways, then secrets.
// Whoever lacks an epoch asks whoever has it. Protocol: catch-up.

func (t *Transport) sendStatements(conn net.Conn) error {
	body, err := wire.BatchStatements.Append(nil, t.config.Ledger.Statements())
	if err != nil {
		return err
	}
	return wire.WriteFrame(conn, wire.FrameEpochs, body)
}

func (t *Transport) readStatements(conn net.Conn) (wanted []wire.SecretRequest, err error) {
	_, body, err := wire.ReadFrame(conn, wire.FrameEpochs)
	if err != nil {
		return nil, fmt.Errorf("reading epoch statements: %w", err)
	}
	items, err := wire.BatchStatements.Parse(body)
	if err != nil {
		return nil, fmt.Errorf("reading epoch statements: %w", err)
	}
	return t.config.Ledger.Learn(items), nil
}

// fetch asks for each wanted secret and says how far we then are. A peer that
// has dropped the epoch meanwhile refuses, which is no error: the next member
// asked has it. Nor is it one that we cannot keep a secret, on a full disk say:
// we stay a member with the epochs we have.
func (t *Transport) fetch(conn secured, wanted []wire.SecretRequest) error {
	for _, request := range wanted {
		if err := wire.WriteFrame(conn, wire.FrameSecretRequest, request.Append(nil)); err != nil {
			return err
		}
		kind, body, err := wire.ReadFrame(conn, wire.FrameSecret, wire.FrameRefusal)
		if err != nil {
			return fmt.Errorf("reading the secret of epoch %d: %w", request.Number, err)
		}
		if kind == wire.FrameRefusal {
			continue
		}
		if err := mask(conn, request, body); err != nil {
			return fmt.Errorf("reading the secret of epoch %d: %w", request.Number, err)
		}
		if err := t.config.Ledger.Install(request, body); err != nil && !errors.Is(err, ErrNotKept) {
			t.logger.Error("epoch not installed", slog.Uint64("epoch", request.Number), slog.Any("error", err))
		}
	}
	return wire.WriteFrame(conn, wire.FrameAck, t.state())
}

// state is what we say of how far we are.
func (t *Transport) state() []byte {
	state := t.config.Ledger.State()
	state.Sealed = t.sessions.sealed(state.Primary)
	return wire.Ack(state).Append(nil)
}

// Report tells a peer by packet how far we are. What does not arrive it asks for.
func (t *Transport) Report(peer *guard.Peer) error {
	return t.Send(peer, wire.PacketState, t.state())
}

// takeState notes how far a peer says it is.
func (t *Transport) takeState(from *guard.Peer, payload []byte) error {
	ack, err := wire.ParseAck(payload)
	if err != nil {
		return err
	}
	t.synced(from, State(ack))
	return nil
}

func (t *Transport) synced(peer *guard.Peer, state State) {
	t.sessions.synced(peer, state)
	t.config.Reported()
}

// serve answers the peer's requests until it says how far it is. It has proved
// to be a member; it may have what every member has.
func (t *Transport) serve(conn secured, member *guard.Peer) (State, error) {
	for range wire.MaxEpochs + 1 {
		kind, body, err := wire.ReadFrame(conn, wire.FrameSecretRequest, wire.FrameAck)
		if err != nil {
			return State{}, fmt.Errorf("serving epochs: %w", err)
		}
		if kind == wire.FrameAck {
			ack, err := wire.ParseAck(body)
			if err != nil {
				return State{}, fmt.Errorf("serving epochs: %w", err)
			}
			return State(ack), nil
		}
		request, err := wire.ParseSecretRequest(body)
		if err != nil {
			return State{}, fmt.Errorf("serving epochs: %w", err)
		}
		// It may have been revoked since it proved itself.
		if t.config.Roster.Revoked(member) {
			return State{}, fmt.Errorf("serving epoch %d: %w", request.Number, pki.ErrRevoked)
		}
		if err := t.serveSecret(conn, request); err != nil {
			return State{}, fmt.Errorf("serving epoch %d: %w", request.Number, err)
		}
	}
	return State{}, errors.New("serving epochs: too many requests")
}

func (t *Transport) serveSecret(conn secured, request wire.SecretRequest) error {
	secret, err := t.config.Ledger.Secret(request)
	if err != nil {
		refusal, err := wire.Refusal{Code: wire.RefusedUnknown}.Append(nil)
		if err != nil {
			return err
		}
		return wire.WriteFrame(conn, wire.FrameRefusal, refusal)
	}
	defer clear(secret)
	if err := mask(conn, request, secret); err != nil {
		return err
	}
	return wire.WriteFrame(conn, wire.FrameSecret, secret)
}

// maskLabel is what the mask of a secret is exported for.
const maskLabel = "secgossip/1 mask"

// secured is a stream inside TLS.
type secured interface {
	io.ReadWriter
	ConnectionState() tls.ConnectionState
}

// mask puts the mask of an epoch on its secret, or takes it off: bytes that only
// the two ends of this connection have, from TLS (RFC 8446, section 7.5).
//
// Threat L03: TLS keeps what it received last in a buffer that nobody can reach to
// wipe, and that outlived retired epochs there. Under the mask it keeps bytes that
// are not the secret. Protocol 7.5.
func mask(conn secured, of wire.SecretRequest, secret []byte) error {
	state := conn.ConnectionState()
	pad, err := state.ExportKeyingMaterial(maskLabel, of.Append(nil), wire.SecretSize)
	if err != nil {
		return fmt.Errorf("exporting a mask: %w", err)
	}
	defer clear(pad)
	if len(secret) != len(pad) {
		return fmt.Errorf("a secret of %d bytes, want %d", len(secret), len(pad))
	}
	for i := range secret { // one at a time: whole registers would keep half of the secret
		secret[i] ^= pad[i]
	}
	return nil
}
