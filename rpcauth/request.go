package rpcauth

import (
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
	"github.com/secgossip/secgossip/pki"
)

// maxMillis is the end of the year 9999, as maxSeconds.
const maxMillis = maxSeconds * 1000

// MaxLamportAhead is how far a Lamport time may be above the milliseconds at which what
// has it was issued: by as much as clocks may be apart. Who signs the end of all numbers
// would leave no time for those who come after.
const MaxLamportAhead = uint64(pki.Tolerance / time.Millisecond)

// LamportTime is the time for what is signed now and handed to a node whose clock of
// such things shows seen: the client's own milliseconds, or what the node has seen. A node
// that claims too much is followed as far as everybody takes it.
func LamportTime(now time.Time, seen uint64) uint64 {
	own := uint64(now.UnixMilli())
	return max(own, min(seen, own+MaxLamportAhead))
}

// requestKind is one of the two things that a client signs for all hosts: an event
// or a query. Each has a label of its own, so that neither passes for the other.
type requestKind struct {
	word       string // "event"; begins every error
	one        string // "an event"
	label      string // what the signature is for
	maxSize    int
	maxPayload int
	maxNodes   int
	maxLife    time.Duration
	checkName  func(string) error
	grant      func(name string) Grant // that asking for it needs
}

// requestBody is what both have in common, in their encoded form.
type requestBody struct {
	ID      []byte   `cbor:"1,keyasint"`
	Name    string   `cbor:"2,keyasint"`
	Payload []byte   `cbor:"3,keyasint,omitempty"`
	Nodes   []string `cbor:"4,keyasint,omitempty"`
	LTime   uint64   `cbor:"5,keyasint,omitempty"`
	Issued  uint64   `cbor:"6,keyasint"`
	Expires uint64   `cbor:"7,keyasint"`
	Token   []byte   `cbor:"9,keyasint"`
}

// signedBody is a whole body: eventBody or queryBody.
type signedBody interface {
	common() *requestBody
	// checkOwn checks what the kind has beyond the common part.
	checkOwn() error
}

func (b *requestBody) common() *requestBody { return b }

// newRequest fills in what both kinds have, in the one order that is signed.
func newRequest(rawToken []byte, nodes []string, now, expires time.Time) requestBody {
	nodes = slices.Clone(nodes)
	slices.Sort(nodes)
	return requestBody{
		ID:      randomID(),
		Nodes:   slices.Compact(nodes),
		Issued:  uint64(now.UnixMilli()),
		Expires: uint64(expires.UnixMilli()),
		Token:   rawToken,
	}
}

// sign signs a body with the client's key. It refuses what every node would refuse
// by its form; grants and the token's own signature are the nodes' to judge.
func (k *requestKind) sign(key crypto.Signer, cluster pki.ClusterID, body signedBody) ([]byte, error) {
	_, token, err := parseToken(body.common().Token)
	if err != nil {
		return nil, err
	}
	if public, ok := key.Public().(ed25519.PublicKey); !ok || !public.Equal(token.Key) {
		return nil, errors.New("the token is bound to another key than this client's")
	}
	if err := k.check(body); err != nil {
		return nil, err
	}
	payload, err := cose.Marshal(body)
	if err != nil {
		return nil, err
	}
	raw, err := cose.Sign(key, cose.Context(k.label, cluster), payload)
	if err != nil {
		return nil, err
	}
	if len(raw) > k.maxSize {
		return nil, fmt.Errorf("%s of %d bytes with token and signature: %d is the most; name fewer nodes, "+
			"shorten the payload, or use a token with fewer grants", k.word, len(raw), k.maxSize)
	}
	return raw, nil
}

// verify reads raw into body and returns the token of the client that signed it, if
// one of this cluster did, may do so and it is still good at now.
func (v *Verifier) verify(k *requestKind, context, raw []byte, body signedBody, now time.Time) (*Token, error) {
	m, err := k.parse(raw, body)
	if err != nil {
		return nil, err
	}
	common := body.common()
	known, err := v.knownTokenOrVerify(common.Token, now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.word, err)
	}
	token := known.token
	v.checks.Add(1)
	if err := m.Verify(token.Key, context); err != nil {
		return nil, fmt.Errorf("%s: not signed by the key of the token's client %q: %w", k.word, token.Subject, err)
	}
	if err := v.checkToken(token, now); err != nil {
		return nil, fmt.Errorf("%s: %w", k.word, err)
	}
	if err := k.checkTimes(common, now); err != nil {
		return nil, err
	}
	if err := token.Require(k.grant(common.Name)); err != nil {
		return nil, err
	}
	return token, nil
}

// parse reads a request strictly. Nothing in it may be believed yet.
func (k *requestKind) parse(raw []byte, body signedBody) (cose.Message, error) {
	if len(raw) > k.maxSize {
		return cose.Message{}, fmt.Errorf("%s of %d bytes: %w", k.word, len(raw), ErrMalformed)
	}
	m, err := cose.Parse(raw)
	if err != nil {
		return cose.Message{}, fmt.Errorf("%s: %w: %w", k.word, ErrMalformed, err)
	}
	if err := cose.Unmarshal(m.Payload, body); err != nil {
		return cose.Message{}, fmt.Errorf("%s: %w: %w", k.word, ErrMalformed, err)
	}
	if err := k.check(body); err != nil {
		return cose.Message{}, fmt.Errorf("%s: %w: %w", k.word, ErrMalformed, err)
	}
	return m, nil
}

// check refuses what sign would not have written.
func (k *requestKind) check(body signedBody) error {
	b := body.common()
	if len(b.ID) != 16 {
		return fmt.Errorf("id of %d bytes", len(b.ID))
	}
	if err := k.checkName(b.Name); err != nil {
		return err
	}
	if len(b.Payload) > k.maxPayload {
		return fmt.Errorf("payload of %d bytes: %d is the most", len(b.Payload), k.maxPayload)
	}
	if len(b.Nodes) > k.maxNodes {
		return fmt.Errorf("%d node names: %d is the most", len(b.Nodes), k.maxNodes)
	}
	for i, node := range b.Nodes {
		if _, err := pki.ParseName(node); err != nil {
			return fmt.Errorf("node %.64q: %w", node, err)
		}
		if i > 0 && b.Nodes[i-1] >= node {
			return errors.New("node names out of order")
		}
	}
	if b.Expires > maxMillis || b.Issued >= b.Expires {
		return fmt.Errorf("%s must expire after it was issued", k.one)
	}
	if most := b.Issued + MaxLamportAhead; b.LTime < 1 || b.LTime > most {
		return fmt.Errorf("lamport time %d: 1 to %d, which is %v after it was issued", b.LTime, most, pki.Tolerance)
	}
	if life := b.Expires - b.Issued; life > uint64(k.maxLife.Milliseconds()) {
		return fmt.Errorf("%s that lives for %v: %v is the most", k.one, time.Duration(life)*time.Millisecond, k.maxLife)
	}
	return body.checkOwn()
}

// checkTimes allows for a client's clock that is ahead. One that is behind only
// shortens the request's life: waking a host late is worse than not at all.
func (k *requestKind) checkTimes(b *requestBody, now time.Time) error {
	if issued := fromMillis(b.Issued); issued.After(now.Add(pki.Tolerance)) {
		return fmt.Errorf("%s %q: issued at %s: %w", k.word, b.Name, issued.Format(time.RFC3339Nano), ErrNotYetValid)
	}
	if expires := fromMillis(b.Expires); !now.Before(expires) {
		return fmt.Errorf("%s %q: ended at %s: %w", k.word, b.Name, expires.Format(time.RFC3339Nano), ErrExpired)
	}
	return nil
}

func fromMillis(ms uint64) time.Time { return time.UnixMilli(int64(ms)).UTC() }
