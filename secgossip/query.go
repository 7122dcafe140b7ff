package secgossip

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// QueryID names a query. No client can take the id of another's.
type QueryID [16]byte

// Query is a query that was verified: who asks what, and whom. Every node that has it
// has checked signature, token, grant and times itself.
type Query struct {
	ID        QueryID
	Name      string
	Payload   []byte
	LTime     uint64
	Issued    time.Time
	Expires   time.Time     // from then on no node takes it
	Timeout   time.Duration // how long a node that has it waits for replies, or gives them
	Ack       bool          // every node that it is for acknowledges it
	Ping      bool          // nothing but acks is asked for
	Relay     int           // through how many others replies go as well
	Origin    string        // the node that took it from the client and collects the replies
	Nodes     []string      // names of the nodes it is for; empty: all
	Principal string        // name of the client that signed it
	ClientKey [32]byte      // its Ed25519 key
	TokenID   [16]byte      // the token it was asked with
	Raw       []byte        // as the client signed it

	// For reports whether it is meant for a node of that name and those tags.
	For func(node string, tags map[string]string) bool

	// Deadline is when this node's time for it is over. The node sets it.
	Deadline time.Time
}

// ErrNoQuery says that no such query waits for an answer: it never came, its time is
// over, or this node has said all that it says to it.
var ErrNoQuery = errors.New("no such query waits for an answer")

// ErrOrigin says that a query was signed to be handed to another node.
var ErrOrigin = errors.New("query was signed to be handed to another node")

// refusedQuery is an error of events in the words of queries.
type refusedQuery struct {
	text string
	kind error
}

func (e *refusedQuery) Error() string { return e.text }
func (e *refusedQuery) Unwrap() error { return e.kind }

// Limits of queries.
const (
	// maxHeard is how many queries a node keeps in mind: at three seconds and the
	// grace, 300 a second.
	maxHeard = 4096

	// heardOfOne and askedOfOne are how many of these one client has at most, so that
	// there is room for others whatever it does.
	heardOfOne = maxHeard / 2
	askedOfOne = maxAsked / 2

	// maxAsked is how many queries of its clients a node collects replies for at
	// once, and maxPendingReplies what of them may wait for clients to read, in bytes.
	maxAsked          = 64
	maxPendingReplies = 64 << 20

	// maxEnded is how many queries that have ended are kept among them, to confirm
	// what is said twice.
	maxEnded = 256

	// incomingReplies bounds what was opened and not yet looked at: queries, replies
	// and what confirms them. At 0.15 ms for each, 300 ms of work.
	incomingReplies = 2048

	// lateGrace is how long a query is remembered after its time, so that a late
	// reply is known for one.
	lateGrace = 10 * time.Second

	// queryTick is how often is looked after what has to be said again or forgotten,
	// and replyAgain the first wait for somebody to say that a reply has arrived. The
	// wait grows by a quarter, up to replyAgainMax: in the six seconds that thirty nodes
	// have, a reply is said seven times.
	queryTick     = 100 * time.Millisecond
	replyAgain    = 500 * time.Millisecond
	replyAgainMax = 4 * time.Second

	// queryTimeoutMult is Serf's.
	queryTimeoutMult = 16
)

// queries are the queries that a node has in mind.
type queries struct {
	kick chan struct{} // somebody has put one in

	mu      sync.Mutex
	heard   map[QueryID]*heardQuery
	clients sharing[[32]byte] // whose those are
	asked   map[QueryID]*Asked
	pending int // bytes of replies that wait for clients
	streams int // long replies that are on their way
}

func newQueries() *queries {
	return &queries{
		kick:  make(chan struct{}, 1),
		heard: make(map[QueryID]*heardQuery),
		asked: make(map[QueryID]*Asked),
	}
}

// queryPacket is one thing about queries that came by packet.
type queryPacket struct {
	from *guard.Peer
	kind wire.PacketType
	raw  []byte
}

// QueryTimeout is how long replies are waited for unless a client says otherwise: as
// Serf has it, by how long gossip takes in a cluster of this size.
func (n *Node) QueryTimeout() time.Duration {
	digits := math.Ceil(math.Log10(float64(n.liveCount() + 1)))
	return n.settings.GossipInterval * queryTimeoutMult * time.Duration(max(1, digits))
}

// receiveQueries takes what packets say about queries. It runs where packets are
// received: it only queues. What is dropped is sent again.
func (n *Node) receiveQueries(from *guard.Peer, kind wire.PacketType, items [][]byte) {
	for _, raw := range items {
		select {
		case n.queriesIn <- queryPacket{from, kind, raw}:
		default:
			n.counts.queriesOverflow.Add(1)
		}
	}
}

// queryLoop deals with what came, and looks after what has to be said again.
func (n *Node) queryLoop() {
	var accepted recent
	var tick <-chan time.Time // nil: nothing to look after
	for {
		if tick == nil && n.queries.some() {
			tick = time.After(queryTick)
		}
		select {
		case <-n.ctx.Done():
			return
		case <-n.queries.kick:
		case <-tick:
			tick = nil
			n.tendQueries(time.Now())
		case packet := <-n.queriesIn:
			switch packet.kind {
			case wire.PacketQueries:
				digest := sha256.Sum256(packet.raw)
				if !accepted.has(digest) && n.relayQuery(packet.raw) {
					accepted.add(digest)
				}
			case wire.PacketReplies:
				_ = n.takeReply(packet.raw) // who gave it sends it again until it is told
			case wire.PacketRelay:
				n.passOnReply(packet.from, packet.raw)
			case wire.PacketTaken:
				n.hearTaken(packet.from, packet.raw)
			}
		}
	}
}

// barrier returns when whoever had not seen that the node's context has ended has
// started what it was about to.
func (q *queries) barrier() {
	q.mu.Lock()
	defer q.mu.Unlock()
}

func (q *queries) some() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.heard)+len(q.asked) > 0
}

// verifyQuery checks a query and what the core can carry of it.
func (n *Node) verifyQuery(raw []byte) (Query, error) {
	query, err := n.config.Verifier.VerifyQuery(raw, n.now())
	if err != nil {
		return Query{}, err
	}
	if len(raw) > wire.MaxQueryRaw {
		return Query{}, &refusedQuery{
			fmt.Sprintf("query is too large: %d bytes with signature and token, at most %d", len(raw), wire.MaxQueryRaw), ErrTooLarge,
		}
	}
	// What waits for it must end, whatever the clocks say.
	left := min(query.Timeout, query.Expires.Sub(n.now()))
	query.Deadline = time.Now().Add(left)
	return query, nil
}

// relayQuery verifies and accepts one query from gossip. It reports whether the query
// was authentic, and so need not be looked at again.
func (n *Node) relayQuery(raw []byte) bool {
	query, err := n.verifyQuery(raw)
	if err != nil {
		n.counts.queriesRefused.Add(1)
		return false
	}
	err = n.acceptQuery(raw, query)
	switch {
	case err == nil, errors.Is(err, ErrDuplicate):
		return true
	case errors.Is(err, ErrStale):
		n.counts.queriesRefused.Add(1)
		return true
	}
	n.counts.queriesOverflow.Add(1)
	n.logger.Debug("query not accepted", slog.String("query", query.Name), slog.Any("error", err))
	return false
}

// acceptQuery journals a verified query, and then spreads it and says to it what is to
// be said here.
//
// Threat C05: as an event a query is taken once, whoever sends it again and whenever,
// and after a loss of the journal none from before the start.
func (n *Node) acceptQuery(raw []byte, query Query) error {
	if query.Issued.Before(n.journal.Since().Add(-pki.Tolerance)) {
		return &refusedQuery{"query was asked before this node began its journal, which does not say whether it was accepted; ask again", ErrStale}
	}
	mine := query.For(string(n.config.Identity.Name), n.currentTags())
	h := &heardQuery{query: query, mine: mine}
	if (mine || query.Relay > 0) && !n.queries.hear(h) {
		return &refusedQuery{"too many queries at once; try again", ErrBusy}
	}
	fresh, err := n.journal.Accept(query.ID, query.Expires, n.now())
	if err != nil || !fresh {
		n.queries.unhear(h)
		if err == nil {
			err = &refusedQuery{"query was accepted before", ErrDuplicate}
		}
		return err
	}
	n.counts.queriesAccepted.Add(1)
	n.lamport.witness(queryClock, query.LTime, n.now())
	n.queryGossip.spread(raw)
	n.hurry()
	if mine {
		n.answerQuery(h)
	}
	return nil
}

// hear keeps a query in mind. It is false when there are too many, or it is there.
func (q *queries) hear(h *heardQuery) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if held := q.heard[h.query.ID]; held != nil {
		return true // the journal will say that it is a duplicate
	}
	if len(q.heard) >= maxHeard || !q.clients.take(h.query.ClientKey, heardOfOne) {
		return false
	}
	q.heard[h.query.ID] = h
	wake(q.kick)
	return true
}

// forgetLocked lets go of a query that is heard.
func (q *queries) forgetLocked(h *heardQuery) {
	delete(q.heard, h.query.ID)
	q.clients.give(h.query.ClientKey)
}

func (q *queries) unhear(h *heardQuery) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.heard[h.query.ID] == h {
		q.forgetLocked(h)
	}
}

// tendQueries says again what nobody confirmed, and forgets what is over.
func (n *Node) tendQueries(now time.Time) {
	q := n.queries
	var again []*heardQuery
	q.mu.Lock()
	for _, h := range q.heard {
		if now.After(h.query.Deadline) {
			q.forgetLocked(h)
			continue
		}
		again = append(again, h)
	}
	for id, a := range q.asked {
		if now.After(a.Query.Deadline.Add(lateGrace)) {
			delete(q.asked, id)
		}
	}
	q.mu.Unlock()
	for _, h := range again {
		n.sendReplies(h, now)
	}
}
