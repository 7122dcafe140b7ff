package rpcauth

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
	"github.com/secgossip/secgossip/pki"
)

// removalLabel is what a removal's signature is for.
const removalLabel = "secgossip/1 removal"

// RemovalLife is how long after it was signed nodes take a removal. What it says
// holds for good, but of one life of one node only.
const RemovalLife = 5 * time.Minute

// Removal is a verified removal: what a client says about a member that is gone. It
// holds for records of the named node up to a sequence, under one key, so that it says
// nothing about a later life of the node; and the node itself refutes it by a newer
// record.
type Removal struct {
	Node     pki.Name
	Key      [32]byte // SHA-256 of the node's Ed25519 key
	Sequence uint64
	Prune    bool // forget it, and not only count it as left
	Issued   time.Time
	Token    *Token // whose removal it is; shared, do not change it
}

type removalBody struct {
	Node     string `cbor:"1,keyasint"`
	Key      []byte `cbor:"2,keyasint"`
	Sequence uint64 `cbor:"3,keyasint"`
	Prune    bool   `cbor:"4,keyasint,omitempty"`
	Issued   uint64 `cbor:"5,keyasint"`
	Token    []byte `cbor:"6,keyasint"`
}

// RemovalRequest says what a removal is to hold.
type RemovalRequest struct {
	Cluster  pki.ClusterID
	Node     string
	Key      [32]byte
	Sequence uint64
	Prune    bool
}

// SignRemoval signs a removal with the client's key. It refuses what every node would
// refuse by its form.
func SignRemoval(key crypto.Signer, rawToken []byte, req RemovalRequest, now time.Time) ([]byte, error) {
	_, token, err := parseToken(rawToken)
	if err != nil {
		return nil, err
	}
	if public, ok := key.Public().(ed25519.PublicKey); !ok || !public.Equal(token.Key) {
		return nil, errors.New("the token is bound to another key than this client's")
	}
	body := removalBody{
		Node: req.Node, Key: req.Key[:], Sequence: req.Sequence, Prune: req.Prune, Issued: uint64(now.UnixMilli()), Token: rawToken,
	}
	if err := body.check(); err != nil {
		return nil, err
	}
	payload, err := cose.Marshal(body)
	if err != nil {
		return nil, err
	}
	return cose.Sign(key, cose.Context(removalLabel, req.Cluster), payload)
}

// VerifyRemoval returns the removal in raw if a client of this cluster signed it, may
// have members removed, and it is fresh at now. Whom it still says something about is
// the caller's to ask. Errors: as VerifyEvent.
func (v *Verifier) VerifyRemoval(raw []byte, now time.Time) (*Removal, error) {
	if len(raw) > MaxEventSize {
		return nil, fmt.Errorf("removal of %d bytes: %w", len(raw), ErrMalformed)
	}
	m, err := cose.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("removal: %w: %w", ErrMalformed, err)
	}
	var body removalBody
	if err := cose.Unmarshal(m.Payload, &body); err != nil {
		return nil, fmt.Errorf("removal: %w: %w", ErrMalformed, err)
	}
	if err := body.check(); err != nil {
		return nil, fmt.Errorf("removal: %w: %w", ErrMalformed, err)
	}
	known, err := v.knownTokenOrVerify(body.Token, now)
	if err != nil {
		return nil, fmt.Errorf("removal: %w", err)
	}
	v.checks.Add(1)
	if err := m.Verify(known.token.Key, cose.Context(removalLabel, v.trust.Cluster())); err != nil {
		return nil, fmt.Errorf("removal: not signed by the key of the token's client %q: %w", known.token.Subject, err)
	}
	if err := v.checkToken(known.token, now); err != nil {
		return nil, fmt.Errorf("removal: %w", err)
	}
	issued := time.UnixMilli(int64(body.Issued)).UTC()
	switch {
	case issued.After(now.Add(pki.Tolerance)):
		return nil, fmt.Errorf("removal of %q: issued at %s: %w", body.Node, issued.Format(time.RFC3339Nano), ErrNotYetValid)
	case !now.Before(issued.Add(RemovalLife)):
		return nil, fmt.Errorf("removal of %q: issued at %s: %w", body.Node, issued.Format(time.RFC3339Nano), ErrExpired)
	}
	if err := known.token.Require(Grant(NodeLeave)); err != nil {
		return nil, err
	}
	return &Removal{
		Node: pki.Name(body.Node), Key: [32]byte(body.Key), Sequence: body.Sequence, Prune: body.Prune, Issued: issued, Token: known.token,
	}, nil
}

// check refuses what SignRemoval would not have written.
func (b *removalBody) check() error {
	if _, err := pki.ParseName(b.Node); err != nil {
		return err
	}
	if len(b.Key) != sha256.Size {
		return fmt.Errorf("key digest of %d bytes", len(b.Key))
	}
	if b.Sequence == 0 || b.Issued > maxMillis {
		return errors.New("a removal names a record and a time")
	}
	return nil
}
