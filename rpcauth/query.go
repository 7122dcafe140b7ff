package rpcauth

import (
	"cmp"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/secgossip/secgossip/pki"
)

const (
	// queryLabel is what a query's signature is for.
	queryLabel = "secgossip/1 query"

	// queryIDLabel begins what the id of a query is hashed from.
	queryIDLabel = "secgossip/1 query id\x00"
)

// Limits of queries.
const (
	MaxQueryPayload = 512
	MaxQueryNodes   = 64
	MaxQueryRelay   = 255 // as in Serf

	// MaxQuerySize is what the core takes: a query always rides in gossip.
	MaxQuerySize = 1100

	// MinQueryTimeout is less than any answer takes, and MaxQueryTimeout the longest
	// that a node keeps a query in mind.
	MinQueryTimeout = 10 * time.Millisecond
	MaxQueryTimeout = 10 * time.Minute
)

// QueryID names a query: 16 bytes hashed from the key of its client and what that
// has chosen at random. So no client can take the id of another's query.
type QueryID [16]byte

func (id QueryID) String() string { return hex.EncodeToString(id[:]) }

func queryIDOf(client ed25519.PublicKey, chosen []byte) QueryID {
	h := sha256.New()
	h.Write([]byte(queryIDLabel))
	h.Write(client)
	h.Write(chosen)
	return QueryID(h.Sum(nil)[:16])
}

// Query is a verified query: what a client asks hosts.
type Query struct {
	ID      QueryID
	Name    string
	Payload []byte      // at most 512 bytes, nil when empty
	Nodes   []string    // for these nodes only, ascending; none means all
	Tags    []TagFilter // for nodes only that all of these fit
	LTime   uint64      // its Lamport time; see LamportTime
	Issued  time.Time
	Expires time.Time     // the first millisecond at which no node takes it any more
	Timeout time.Duration // how long replies are waited for, once a node has it
	Ack     bool
	Relay   uint8
	Origin  pki.Name // the node that takes it from the client and collects the replies
	Token   *Token   // whose query it is; shared, do not change it

	matcher tagMatcher
}

// For reports whether the query is meant for a node of that name and those tags.
func (q *Query) For(node pki.Name, tags map[string]string) bool {
	return (len(q.Nodes) == 0 || slices.Contains(q.Nodes, string(node))) && q.matcher.match(tags)
}

// queryBody is the encoded form; the package comment explains the numbers.
type queryBody struct {
	requestBody
	Ack     bool        `cbor:"8,keyasint,omitempty"`
	Tags    []TagFilter `cbor:"10,keyasint,omitempty"`
	Relay   uint8       `cbor:"11,keyasint,omitempty"`
	Timeout uint64      `cbor:"12,keyasint"` // milliseconds
	Origin  string      `cbor:"13,keyasint"`
}

func (b *queryBody) checkOwn() error {
	if err := checkTagFilters(b.Tags); err != nil {
		return err
	}
	timeout := time.Duration(min(b.Timeout, uint64(time.Hour.Milliseconds()))) * time.Millisecond
	if timeout < MinQueryTimeout || timeout > MaxQueryTimeout {
		return fmt.Errorf("timeout of %v: %v to %v are allowed", timeout, MinQueryTimeout, MaxQueryTimeout)
	}
	// Whoever has the query must not take it long after replies were waited for:
	// nobody hears what is then answered.
	if life := b.Expires - b.Issued; life < b.Timeout || life > b.Timeout+uint64(pki.Tolerance.Milliseconds()) {
		return fmt.Errorf("the query must expire at its timeout, or up to %v after it", pki.Tolerance)
	}
	if _, err := pki.ParseName(b.Origin); err != nil {
		return fmt.Errorf("origin: %w", err)
	}
	if b.Name == PingQuery && (!b.Ack || len(b.Payload) > 0) {
		return errors.New("a query that only asks for acks has no payload and wants acks")
	}
	return nil
}

// queryKind is what makes a signed request a query.
var queryKind = requestKind{
	word:       "query",
	one:        "a query",
	label:      queryLabel,
	maxSize:    MaxQuerySize,
	maxPayload: MaxQueryPayload,
	maxNodes:   MaxQueryNodes,
	maxLife:    MaxQueryTimeout + pki.Tolerance,
	checkName:  CheckQueryName,
	grant:      QueryGrant,
}

// QueryRequest says what a query is to hold.
type QueryRequest struct {
	Cluster pki.ClusterID // the only cluster in which the query means anything
	Name    string
	Payload []byte
	Nodes   []string    // for these nodes only; none means all
	Tags    []TagFilter // for nodes only that all of these fit
	LTime   uint64      // see LamportTime; zero for the time of now
	Timeout time.Duration
	Ack     bool
	Relay   int      // 0 to MaxQueryRelay
	Origin  pki.Name // the node that it is handed to
}

// Check refuses what no node would take, before anybody is asked anything. A zero
// Timeout and an empty Origin pass: whoever signs may have to ask for them first.
func (r *QueryRequest) Check() error {
	probe := *r
	if probe.Timeout == 0 {
		probe.Timeout = MinQueryTimeout
	}
	if probe.Origin == "" {
		probe.Origin = "n"
	}
	probe.LTime = 0 // the agent has a say in it
	_, err := probe.body(nil, time.UnixMilli(1))
	return err
}

// body makes the body of the query and checks it.
func (r *QueryRequest) body(rawToken []byte, now time.Time) (*queryBody, error) {
	if r.Relay < 0 || r.Relay > MaxQueryRelay {
		return nil, fmt.Errorf("relay factor %d: 0 to %d are allowed", r.Relay, MaxQueryRelay)
	}
	if _, err := compileTagFilters(r.Tags); err != nil {
		return nil, err
	}
	if r.Timeout < MinQueryTimeout || r.Timeout > MaxQueryTimeout {
		return nil, fmt.Errorf("timeout of %v: %v to %v are allowed", r.Timeout, MinQueryTimeout, MaxQueryTimeout)
	}
	expires := now.Add(r.Timeout.Truncate(time.Millisecond) + pki.Tolerance)
	body := &queryBody{
		requestBody: newRequest(rawToken, r.Nodes, now, expires),
		Ack:         r.Ack,
		Tags:        sortTagFilters(r.Tags),
		Relay:       uint8(r.Relay),
		Timeout:     uint64(r.Timeout.Milliseconds()),
		Origin:      string(r.Origin),
	}
	body.Name, body.Payload, body.LTime = r.Name, r.Payload, cmp.Or(r.LTime, LamportTime(now, 0))
	return body, queryKind.check(body)
}

// SignQuery signs a query with the client's key. It refuses what every node would
// refuse by its form; grants and the token's own signature are the nodes' to judge.
func SignQuery(key crypto.Signer, rawToken []byte, req QueryRequest, now time.Time) ([]byte, QueryID, error) {
	body, err := req.body(rawToken, now)
	if err != nil {
		return nil, QueryID{}, err
	}
	raw, err := queryKind.sign(key, req.Cluster, body)
	if err != nil {
		return nil, QueryID{}, err
	}
	return raw, queryIDOf(key.Public().(ed25519.PublicKey), body.ID), nil // sign refuses other keys
}

// VerifyQuery returns the query in raw if a client of this cluster signed it, may
// ask it and it is still good at now. Whether it was seen before and whether it is
// meant for this node is the caller's to ask. Errors are those of VerifyEvent.
func (v *Verifier) VerifyQuery(raw []byte, now time.Time) (*Query, error) {
	var body queryBody
	token, err := v.verify(&queryKind, v.queryContext, raw, &body, now)
	if err != nil {
		return nil, err
	}
	matcher, err := compileTagFilters(body.Tags)
	if err != nil {
		return nil, fmt.Errorf("query: %w: %w", ErrMalformed, err)
	}
	return &Query{
		ID:      queryIDOf(token.Key, body.ID),
		Name:    body.Name,
		Payload: body.Payload,
		Nodes:   body.Nodes,
		Tags:    body.Tags,
		LTime:   body.LTime,
		Issued:  fromMillis(body.Issued),
		Expires: fromMillis(body.Expires),
		Timeout: time.Duration(body.Timeout) * time.Millisecond,
		Ack:     body.Ack,
		Relay:   body.Relay,
		Origin:  pki.Name(body.Origin),
		Token:   token,
		matcher: matcher,
	}, nil
}
