package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Replies to queries that are longer than a datagram come by a stream of their own:
// after the sync the dialler sends the one reply, and the listener says that it took
// it, or refuses.
//
// maxReplies of them are read at once, 1 MiB each, and few from one member: it has at
// most an answer to each of some queries. Whoever is refused tries again.
const (
	maxReplies       = 16
	repliesPerMember = 4
)

// ErrNotTaken says that the node that collects replies did not take one, perhaps
// because too many came at once.
var ErrNotTaken = errors.New("reply was not taken")

// SendReply brings one signed reply to a member by stream. It takes streamTimeout at
// most.
func (t *Transport) SendReply(ctx context.Context, to *guard.Peer, raw []byte) error {
	return t.visit(ctx, to, wire.PurposeReply, streamTimeout, func(conn *tls.Conn) error {
		// A listener that has no place for it does not read it, and closes.
		err := wire.WriteFrame(conn, wire.FrameReply, raw)
		if err == nil {
			_, _, err = wire.ReadFrame(conn, wire.FrameTaken)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotTaken, err)
		}
		return nil
	})
}

// serveReply takes one reply from a member. It may hold a megabyte of ours only while
// it has a place.
func (t *Transport) serveReply(conn *tls.Conn, member *guard.Peer) error {
	if t.config.Reply == nil || !t.replies.Take(member.Name) {
		return refuse(conn, wire.RefusedBusy)
	}
	defer t.replies.GiveBack(member.Name)
	if err := conn.SetDeadline(t.now().Add(streamTimeout)); err != nil {
		return err
	}
	_, raw, err := wire.ReadFrame(conn, wire.FrameReply)
	if err != nil {
		return fmt.Errorf("reading a reply: %w", err)
	}
	if err := t.config.Reply(member, raw); err != nil {
		return errors.Join(err, refuse(conn, wire.RefusedBusy))
	}
	return wire.WriteFrame(conn, wire.FrameTaken, nil)
}

// refuse tells a member that it is not served, and so that it may try again.
func refuse(conn *tls.Conn, code wire.RefusalCode) error {
	body, err := wire.Refusal{Code: code}.Append(nil)
	if err != nil {
		return err
	}
	return wire.WriteFrame(conn, wire.FrameRefusal, body)
}
