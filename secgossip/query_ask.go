package secgossip

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"slices"
	"time"

	"github.com/secgossip/secgossip/internal/reply"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Asked is a query of a client of this node, for which the node collects replies: at
// most an ack and an answer of each node that was alive and meant when it was asked.
type Asked struct {
	Query   Query
	Targets []string // the nodes that are waited for, ascending

	node    *Node
	absent  []string // named by the client and not alive
	replies chan Reply
	timer   *time.Timer

	// Guarded by queries.mu.
	from  map[string]*target
	left  int // targets that have not said all
	ended bool

	missing []string // once it has ended
}

// target is a node that is asked.
type target struct {
	said [reply.Nothing + 1]bool // by kind
}

// done reports whether a node has said all that it will.
func (t *target) done(q *Query) bool {
	return (t.said[reply.Ack] || !q.Ack) && (q.Ping || t.said[reply.Answer] || t.said[reply.Nothing])
}

// Reply is what a node said to a query, verified.
type Reply struct {
	Node       string
	Ack        bool   // the query has arrived there
	Answer     bool   // Payload is the answer; of neither, no answer will come
	Payload    []byte // nil when empty
	Raw        []byte // the reply as its node signed it
	Credential []byte // of the node that signed it
}

// Why a reply is not taken.
var (
	errNotAsked    = errors.New("nobody here asked that of this node")
	errPendingFull = errors.New("too many replies wait for clients")
)

// Ask takes in a query from the client with the given key, spreads it and collects the
// replies. On return the query is on disk and on its way. Errors: ErrNotYours,
// ErrOrigin, ErrChoosing, ErrBusy, ErrDuplicate, ErrStale, ErrTooLarge and what the verifier says.
func (n *Node) Ask(raw []byte, client ed25519.PublicKey) (*Asked, error) {
	query, err := n.verifyQuery(raw)
	if err != nil {
		n.counts.queriesRefused.Add(1)
		return nil, err
	}
	if !client.Equal(ed25519.PublicKey(query.ClientKey[:])) {
		return nil, &refusedQuery{"query was signed by another client", ErrNotYours}
	}
	if query.Origin != string(n.config.Identity.Name) {
		return nil, ErrOrigin
	}
	a, err := n.targetsOf(query)
	if err != nil {
		return nil, err
	}
	q := n.queries
	q.mu.Lock()
	running, own := 0, 0
	for id, other := range q.asked {
		if !other.ended {
			running++
			if other.Query.ClientKey == query.ClientKey {
				own++
			}
		} else if len(q.asked) > maxEnded {
			delete(q.asked, id) // what is still said to it is confirmed to nobody
		}
	}
	if running >= maxAsked || own >= askedOfOne {
		q.mu.Unlock()
		return nil, &refusedQuery{"too many queries at once; try again", ErrBusy}
	}
	if q.asked[query.ID] != nil {
		q.mu.Unlock()
		return nil, &refusedQuery{"query was accepted before", ErrDuplicate}
	}
	q.asked[query.ID] = a
	a.timer = time.AfterFunc(time.Until(query.Deadline), a.Close)
	q.mu.Unlock()
	wake(q.kick)
	if err := n.acceptQuery(raw, query); err != nil {
		a.Close()
		q.mu.Lock()
		delete(q.asked, query.ID)
		q.mu.Unlock()
		return nil, err
	}
	if len(a.Targets) == 0 {
		a.Close()
	}
	return a, nil
}

// targetsOf finds whom a query is for, as this node knows the members now.
func (n *Node) targetsOf(query Query) (a *Asked, err error) {
	a = &Asked{Query: query, node: n, from: make(map[string]*target)}
	if a.Targets, a.absent, err = n.targets(query.Nodes, query.For); err != nil {
		return nil, err
	}
	for _, name := range a.Targets {
		a.from[name] = new(target)
	}
	a.left = len(a.Targets)
	// Whatever they say fits: nothing ever waits for the client.
	a.replies = make(chan Reply, int(reply.Nothing)*len(a.Targets))
	return a, nil
}

// Next returns the next reply. It is false when there are no more, because all have
// said all or the time is over, or when ctx ends.
func (a *Asked) Next(ctx context.Context) (Reply, bool) {
	select {
	case r, ok := <-a.replies:
		if ok {
			a.node.queries.mu.Lock()
			a.node.queries.pending -= len(r.Raw)
			a.node.queries.mu.Unlock()
		}
		return r, ok
	case <-ctx.Done():
		return Reply{}, false
	}
}

// Missing names the nodes that have said nothing at all, and those that the client
// named and that were not alive, ascending. It is complete when Next was false.
func (a *Asked) Missing() []string {
	a.node.queries.mu.Lock()
	defer a.node.queries.mu.Unlock()
	return a.missing
}

// Close ends the collecting. What comes later is counted as late.
func (a *Asked) Close() {
	a.node.queries.mu.Lock()
	defer a.node.queries.mu.Unlock()
	a.endLocked()
}

func (a *Asked) endLocked() {
	if !a.ended {
		a.ended = true
		a.timer.Stop()
		close(a.replies)
		a.missing = slices.Clone(a.absent)
		for name, t := range a.from {
			if !slices.Contains(t.said[:], true) {
				a.missing = append(a.missing, name)
			}
		}
		slices.Sort(a.missing)
	}
}

// Discard drops what nobody will read. It is for whoever stops before Next is false.
func (a *Asked) Discard() {
	a.Close()
	for {
		if _, ok := a.Next(context.Background()); !ok {
			return
		}
	}
}

// takeReply takes a reply to a query of ours, whoever brought it, and confirms it to
// the node that gave it. An error says that it was not taken, and may be sent again.
//
// Threat K03: what counts is the signature of the node that was asked. Who passes a
// reply on, and who can send us packets, can make and alter none.
func (n *Node) takeReply(raw []byte) error {
	s, err := reply.Parse(raw)
	if err != nil {
		n.counts.repliesRefused.Add(1)
		return err
	}
	q := n.queries
	q.mu.Lock()
	a := q.asked[s.Query]
	known, again := false, false
	if a != nil {
		if t := a.from[s.Node]; t != nil {
			known, again = true, t.said[s.Kind]
		}
	}
	q.mu.Unlock()
	peer := n.roster.Get(pki.Name(s.Node))
	if !known || peer == nil {
		n.counts.repliesRefused.Add(1)
		return errNotAsked
	}
	if again {
		n.confirmReply(peer, s.Reply) // the first counts, and it has not heard so
		return nil
	}
	if err := s.Verify(peer.Credential.SigningKey, n.config.Trust.Cluster()); err != nil {
		n.counts.repliesRefused.Add(1)
		return err
	}
	if n.roster.Revoked(peer) {
		n.counts.repliesRefused.Add(1)
		return pki.ErrRevoked
	}
	if err := a.take(s.Reply, Reply{
		Node: s.Node, Ack: s.Kind == reply.Ack, Answer: s.Kind == reply.Answer, Payload: bytes.Clone(s.Payload),
		Raw: bytes.Clone(raw), Credential: peer.Record.Credential,
	}); err != nil {
		return err
	}
	n.confirmReply(peer, s.Reply)
	return nil
}

// take notes a verified reply and hands it to the client.
func (a *Asked) take(said reply.Reply, r Reply) error {
	n := a.node
	n.queries.mu.Lock()
	defer n.queries.mu.Unlock()
	t := a.from[said.Node]
	final := said.Kind != reply.Ack
	switch {
	case t.said[said.Kind], final && (t.said[reply.Answer] || t.said[reply.Nothing]):
		return nil // two brought it at once, or it says one thing and the other
	case a.ended:
		n.counts.repliesLate.Add(1)
		t.said[said.Kind] = true
		return nil
	case n.queries.pending+len(r.Raw) > maxPendingReplies:
		return errPendingFull
	}
	n.queries.pending += len(r.Raw)
	n.counts.repliesTaken.Add(1)
	t.said[said.Kind] = true
	a.replies <- r // as much room as there can be replies
	if t.done(&a.Query) {
		if a.left--; a.left == 0 {
			a.endLocked()
		}
	}
	return nil
}

// confirmReply tells the node that gave a reply that it has arrived.
func (n *Node) confirmReply(peer *guard.Peer, r reply.Reply) {
	if peer.Name == n.config.Identity.Name {
		return
	}
	// If it gets lost the reply comes again.
	_ = n.transport.Send(peer, wire.PacketTaken, wire.Taken{Query: r.Query, Kind: uint8(r.Kind)}.Append(nil))
}

// replyByStream takes a long reply, which came from the node that gave it.
func (n *Node) replyByStream(_ *guard.Peer, raw []byte) error { return n.takeReply(raw) }
