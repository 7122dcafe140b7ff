// Package reply is what a node says to a query, signed with the node's key.
//
// A reply goes to the node that collects for the client, perhaps through others,
// and from there to the client. None of them can make or alter one: the client
// itself checks who signed it.
package reply

import (
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/secgossip/secgossip/internal/cose"
)

// label is what a reply's signature is for.
const label = "secgossip/1 reply"

// Limits of replies. Around its payload a reply has 100 bytes of COSE, 1 map, 18
// query, 66 node, 2 kind and 6 in front of the payload: 193.
const (
	MaxPayload = 1 << 20
	MaxSize    = MaxPayload + 256
	maxNode    = 63
)

// Kind is what a reply says.
type Kind uint8

// The kinds. A node says each at most once to a query, and of the last two only one.
const (
	Ack     Kind = 1 // the query has arrived
	Answer  Kind = 2 // the payload
	Nothing Kind = 3 // no answer will come from this node: nobody there has one
)

func (k Kind) String() string {
	switch k {
	case Ack:
		return "ack"
	case Answer:
		return "answer"
	case Nothing:
		return "nothing"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Reply is what a node says to a query.
type Reply struct {
	Query   [16]byte // its id
	Node    string   // the name of the node that signs
	Kind    Kind
	Payload []byte // of an answer; nil when empty
}

// body is the signed CBOR map.
type body struct {
	Query   [16]byte `cbor:"1,keyasint"`
	Node    string   `cbor:"2,keyasint"`
	Kind    uint8    `cbor:"3,keyasint"`
	Payload []byte   `cbor:"4,keyasint,omitempty"`
}

// Signed is a reply as it travels. It proves nothing before Verify.
type Signed struct {
	Reply
	message cose.Message
}

// ErrTooLarge says that an answer is longer than MaxPayload.
var ErrTooLarge = errors.New("answer is too large")

// Sign signs r with the node's key, for one cluster.
func Sign(key crypto.Signer, cluster [32]byte, r Reply) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("reply: %w", err)
	}
	payload, err := cose.Marshal(body{Query: r.Query, Node: r.Node, Kind: uint8(r.Kind), Payload: r.Payload})
	if err != nil {
		return nil, fmt.Errorf("reply: %w", err)
	}
	return cose.Sign(key, cose.Context(label, cluster), payload)
}

// Parse reads a signed reply. It does not verify it.
func Parse(raw []byte) (Signed, error) {
	if len(raw) > MaxSize {
		return Signed{}, fmt.Errorf("reply of %d bytes: %w", len(raw), ErrTooLarge)
	}
	message, err := cose.Parse(raw)
	if err != nil {
		return Signed{}, fmt.Errorf("reply: %w", err)
	}
	var b body
	if err := cose.Unmarshal(message.Payload, &b); err != nil {
		return Signed{}, fmt.Errorf("reply: %w", err)
	}
	s := Signed{Reply{Query: b.Query, Node: b.Node, Kind: Kind(b.Kind), Payload: b.Payload}, message}
	if err := s.check(); err != nil {
		return Signed{}, fmt.Errorf("reply: %w", err)
	}
	return s, nil
}

// Verify reports whether key, which must be that of the node s.Node, signed it.
func (s Signed) Verify(key ed25519.PublicKey, cluster [32]byte) error {
	return s.message.Verify(key, cose.Context(label, cluster))
}

func (r Reply) check() error {
	switch {
	case r.Node == "" || len(r.Node) > maxNode:
		return fmt.Errorf("a name of %d bytes, want 1 to %d", len(r.Node), maxNode)
	case r.Kind < Ack || r.Kind > Nothing:
		return fmt.Errorf("unknown %v", r.Kind)
	case r.Kind != Answer && len(r.Payload) > 0:
		return fmt.Errorf("%v with a payload", r.Kind)
	case len(r.Payload) > MaxPayload:
		return fmt.Errorf("a payload of %d bytes, %d is the most: %w", len(r.Payload), MaxPayload, ErrTooLarge)
	}
	return nil
}
