package secgossip

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/secgossip/secgossip/internal/reply"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// heardQuery is a query that this node has taken, as long as its time lasts.
type heardQuery struct {
	query Query
	mine  bool // it is for this node

	// Guarded by queries.mu.
	over   bool // an answer was given, or it was said that none comes
	out    []*outgoing
	passed map[passedReply]bool // what was passed on for others; three at most for each node
}

// passedReply is a reply that was passed on.
type passedReply struct {
	node string
	kind reply.Kind
}

// outgoing is a reply of ours that nobody has confirmed yet.
type outgoing struct {
	kind reply.Kind
	raw  []byte
	next time.Time     // when it is said again
	wait time.Duration // and how long is waited after that
	busy bool          // it is on its way by stream
	sent int           // how often it was sent
}

// relays is how often a reply goes through others as well. A client can ask for 255 of
// them, and an origin that has died confirms nothing.
const relays = 2

// maxReplyStreams is how many long replies of ours are on their way at once.
const maxReplyStreams = 4

// answerQuery says to a query that is for us what the node says itself, and asks the
// observer for the rest.
func (n *Node) answerQuery(h *heardQuery) {
	if h.query.Ack {
		n.reply(h, reply.Ack, nil)
	}
	if h.query.Ping {
		return
	}
	query := h.query
	n.notify(func(o Observer) { o.Query(query) })
}

// Answer gives this node's answer to a query that Observer.Query was told of: the
// first one counts. Errors: ErrNoQuery, and that it is too large.
func (n *Node) Answer(id QueryID, payload []byte) error {
	if len(payload) > reply.MaxPayload {
		return &refusedQuery{fmt.Sprintf("answer of %d bytes: %d is the most", len(payload), reply.MaxPayload), ErrTooLarge}
	}
	return n.conclude(id, reply.Answer, payload)
}

// NoAnswer says that no answer to a query will come from this node, so that nobody
// waits for it. Errors: ErrNoQuery.
func (n *Node) NoAnswer(id QueryID) error { return n.conclude(id, reply.Nothing, nil) }

// OpenQuery returns a query that this node may still answer. The error is ErrNoQuery.
func (n *Node) OpenQuery(id QueryID) (Query, error) {
	n.queries.mu.Lock()
	defer n.queries.mu.Unlock()
	h := n.queries.heard[id]
	if !h.open(time.Now()) {
		return Query{}, ErrNoQuery
	}
	return h.query, nil
}

// open reports whether this node may answer, with queries.mu held. Of none it is false.
func (h *heardQuery) open(now time.Time) bool {
	return h != nil && h.mine && !h.over && !h.query.Ping && !now.After(h.query.Deadline)
}

func (n *Node) conclude(id QueryID, kind reply.Kind, payload []byte) error {
	q := n.queries
	q.mu.Lock()
	h := q.heard[id]
	if !h.open(time.Now()) {
		q.mu.Unlock()
		return ErrNoQuery
	}
	h.over = true
	q.mu.Unlock()
	n.reply(h, kind, payload)
	return nil
}

// reply signs a reply and sends it, until it is confirmed or the time is over.
func (n *Node) reply(h *heardQuery, kind reply.Kind, payload []byte) {
	raw, err := reply.Sign(n.config.Identity.Signing, n.config.Trust.Cluster(), reply.Reply{
		Query: h.query.ID, Node: string(n.config.Identity.Name), Kind: kind, Payload: payload,
	})
	if err != nil { // the key may be gone when the agent stops
		n.logger.Error("reply not signed", slog.String("query", h.query.Name), slog.Any("error", err))
		return
	}
	n.queries.mu.Lock()
	h.out = append(h.out, &outgoing{kind: kind, raw: raw, wait: replyAgain})
	n.queries.mu.Unlock()
	n.sendReplies(h, time.Now())
	wake(n.queries.kick)
}

// sendReplies sends what is due to the origin.
func (n *Node) sendReplies(h *heardQuery, now time.Time) {
	for _, out := range n.queries.due(h, now) {
		switch {
		case h.query.Origin == string(n.config.Identity.Name):
			if n.takeReply(out.raw) == nil {
				n.queries.confirm(h.query.ID, out.kind)
			}
		case len(out.raw) <= wire.MaxPacketReply:
			n.sendReply(h, out.raw, out.relay)
		default:
			n.streamReply(h, out.outgoing)
		}
	}
}

// dueReply is a reply that is to be sent now.
type dueReply struct {
	*outgoing
	relay int // through so many others as well
}

// due takes the replies that are to be sent now.
func (q *queries) due(h *heardQuery, now time.Time) []dueReply {
	q.mu.Lock()
	defer q.mu.Unlock()
	var due []dueReply
	for _, out := range h.out {
		if out.busy || now.Before(out.next) {
			continue
		}
		out.next = now.Add(out.wait)
		out.wait = min(out.wait+out.wait/4, replyAgainMax)
		relay := h.query.Relay
		if out.sent++; out.sent > relays {
			relay = 0
		}
		due = append(due, dueReply{out, relay})
	}
	return due
}

// sendReply sends a short reply straight to the origin and through so many others.
// Whatever of it fails is tried again.
func (n *Node) sendReply(h *heardQuery, raw []byte, relay int) {
	payload, err := wire.BatchReplies.Append(nil, [][]byte{raw})
	if err != nil {
		panic("internal error: a reply that was measured does not fit: " + err.Error())
	}
	origin := n.roster.Get(pki.Name(h.query.Origin))
	if origin != nil {
		_ = n.transport.Send(origin, wire.PacketReplies, payload)
	}
	if relay == 0 {
		return
	}
	others := n.randomPeers(relay + 1) // one of them may be the origin
	others = slices.DeleteFunc(others, func(p *guard.Peer) bool { return string(p.Name) == h.query.Origin })
	for _, other := range others[:min(len(others), relay)] {
		_ = n.transport.Send(other, wire.PacketRelay, payload)
	}
}

// streamReply sends a long reply by a stream of its own, which it does not wait for.
func (n *Node) streamReply(h *heardQuery, out *outgoing) {
	origin := n.roster.Get(pki.Name(h.query.Origin))
	q := n.queries
	q.mu.Lock()
	defer q.mu.Unlock()
	if origin == nil || q.streams >= maxReplyStreams || n.ctx.Err() != nil {
		return
	}
	q.streams++
	out.busy = true
	n.running.Go(func() {
		ctx, cancel := context.WithDeadline(n.ctx, h.query.Deadline)
		defer cancel()
		err := n.transport.SendReply(ctx, origin, out.raw)
		q.mu.Lock()
		q.streams--
		out.busy = false
		q.mu.Unlock()
		if err == nil {
			q.confirm(h.query.ID, out.kind)
			return
		}
		n.logger.Debug("reply by stream", slog.String("node", string(origin.Name)), slog.Any("error", err))
	})
}

// confirm ends a reply of ours: it has arrived.
func (q *queries) confirm(id QueryID, kind reply.Kind) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if h := q.heard[id]; h != nil {
		h.out = slices.DeleteFunc(h.out, func(out *outgoing) bool { return out.kind == kind })
	}
}

// hearTaken hears that a reply of ours has arrived. Only its receiver can say so.
func (n *Node) hearTaken(from *guard.Peer, payload []byte) {
	taken, err := wire.ParseTaken(payload)
	if err != nil {
		return // transport has parsed it
	}
	n.queries.mu.Lock()
	h := n.queries.heard[taken.Query]
	n.queries.mu.Unlock()
	if h != nil && h.query.Origin == string(from.Name) {
		n.queries.confirm(taken.Query, reply.Kind(taken.Kind))
	}
}

// passOnReply passes a reply of another node on to the origin of its query, and to
// nobody else.
//
// Threat C08: nobody can have us send where they want. It is passed on only for a query
// that a client signed and that asks for it, from the node that signed it, as long as
// that query's time lasts, and once for each kind.
func (n *Node) passOnReply(from *guard.Peer, raw []byte) {
	s, err := reply.Parse(raw)
	if err != nil || s.Node != string(from.Name) {
		n.counts.repliesRefused.Add(1)
		return
	}
	q := n.queries
	q.mu.Lock()
	h := q.heard[s.Query]
	if h == nil || h.query.Relay == 0 || time.Now().After(h.query.Deadline) || h.passed[passedReply{s.Node, s.Kind}] {
		q.mu.Unlock()
		return // it came late, or again: nothing to say about its sender
	}
	q.mu.Unlock()
	if s.Verify(from.Credential.SigningKey, n.config.Trust.Cluster()) != nil || n.roster.Revoked(from) {
		n.counts.repliesRefused.Add(1)
		return
	}
	q.mu.Lock()
	if h.passed == nil {
		h.passed = make(map[passedReply]bool)
	}
	h.passed[passedReply{s.Node, s.Kind}] = true
	q.mu.Unlock()
	origin := n.roster.Get(pki.Name(h.query.Origin))
	payload, err := wire.BatchReplies.Append(nil, [][]byte{raw})
	if origin == nil || err != nil {
		return
	}
	n.counts.repliesRelayed.Add(1)
	_ = n.transport.Send(origin, wire.PacketReplies, payload) // who gave it has other ways
}
