package transport

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Payloads of events that no datagram holds are pulled by streams of their own: after
// the sync the dialler sends a digest, and the listener that payload, or a refusal.
//
// maxPayloads of them are sent at once, 1 MiB of memory each, and few to one member,
// which then sees one more than it pulls. Whoever is refused tries another member, or
// later.
const (
	maxPayloads       = 8
	payloadsPerMember = 2

	// payloadTimeout bounds a pull from the dialling to the last byte, and so how long
	// a slow one holds a place: 1 MiB comes at 280 kbit/s.
	payloadTimeout = 30 * time.Second
)

var errOtherPayload = errors.New("it is another payload")

// Pull fetches the payload of this digest and size from a member. It takes
// payloadTimeout at most, and no more memory than size. A wire.Refusal says that the
// member has no such payload, or no place.
func (t *Transport) Pull(ctx context.Context, from *guard.Peer, digest [32]byte, size int) (payload []byte, err error) {
	err = t.visit(ctx, from, wire.PurposePayload, payloadTimeout, func(conn *tls.Conn) error {
		if err := wire.WriteFrame(conn, wire.FramePayloadRequest, digest[:]); err != nil {
			return err
		}
		_, body, err := wire.ReadFrameUpTo(conn, size, wire.FramePayload)
		if err != nil {
			return fmt.Errorf("reading a payload: %w", err)
		}
		if len(body) != size || sha256.Sum256(body) != digest {
			return errOtherPayload
		}
		payload = body
		return nil
	})
	return payload, err
}

// servePayload sends one payload to a member. It may hold a megabyte of ours only while
// it has a place.
func (t *Transport) servePayload(conn *tls.Conn, member *guard.Peer) error {
	_, request, err := wire.ReadFrame(conn, wire.FramePayloadRequest) // by the deadline of the sync
	if err != nil {
		return fmt.Errorf("reading a request for a payload: %w", err)
	}
	if len(request) != wire.PayloadRequestSize {
		return refuse(conn, wire.RefusedMalformed)
	}
	if t.config.Payload == nil || !t.payloads.Take(member.Name) {
		return refuse(conn, wire.RefusedBusy)
	}
	defer t.payloads.GiveBack(member.Name)
	if err := conn.SetDeadline(t.now().Add(payloadTimeout)); err != nil {
		return err
	}
	payload := t.config.Payload([32]byte(request))
	if payload == nil {
		return refuse(conn, wire.RefusedUnknown)
	}
	return wire.WriteFrame(conn, wire.FramePayload, payload)
}
