// Package cose signs and reads the one kind of signed object secgossip uses.
//
// Everything that is signed here (credentials, tokens, events, node records,
// epoch statements) is a COSE_Sign1 (RFC 9052, section 4.2) in a single, fixed
// shape, so that there is exactly one encoding of each signed thing:
//
//	18([                     tag COSE_Sign1
//	    h'A2 01 27 04 50 …', protected: {1: -8 (EdDSA), 4: key id, 16 bytes}
//	    {},                  nothing unprotected
//	    h'…',                payload: deterministic CBOR, see Marshal
//	    h'…',                Ed25519 signature, 64 bytes
//	])
//
// What the signature is for goes into the external data (RFC 9052, section
// 4.3): a label of ours and the cluster id. A credential can therefore never
// pass as an event, and nothing signed in one cluster means anything in another.
//
// A message whose bytes differ in any way from what Sign would have written is
// refused by Parse. Two encodings of one statement would let a revoked or
// already seen object come back under another hash.
package cose

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// KeyIDSize is the length of a key id in bytes.
const KeyIDSize = 16

// ErrSignature says that a message was not signed by the expected key, or not
// for the expected purpose.
var ErrSignature = errors.New("signature does not verify")

// KeyID names an Ed25519 key inside a message: the first 16 bytes of the
// SHA-256 of its 32 bytes. It finds a key; it proves nothing.
type KeyID [KeyIDSize]byte

// KeyIDOf returns the id of key.
func KeyIDOf(key ed25519.PublicKey) KeyID {
	sum := sha256.Sum256(key)
	return KeyID(sum[:KeyIDSize])
}

// Message is a parsed COSE_Sign1. Nothing in it may be believed before Verify.
type Message struct {
	KeyID     KeyID
	Payload   []byte
	Signature [ed25519.SignatureSize]byte
}

// The prefix of the protected header: a map of two, 1: -8, 4: bstr(16).
var protectedPrefix = []byte{0xa2, 0x01, 0x27, 0x04, 0x50}

// sign1 is the array inside the tag.
type sign1 struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected struct{}
	Payload     []byte
	Signature   []byte
}

// tagSign1 is the encoding of CBOR tag 18.
const tagSign1 = 0xd2

// Sign signs payload for the given purpose and returns the whole message.
// context is the external data: see Context.
func Sign(key crypto.Signer, context, payload []byte) ([]byte, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("signing needs an Ed25519 key, not %T", key.Public())
	}
	protected := protectedHeader(KeyIDOf(public))
	signature, err := key.Sign(nil, toBeSigned(protected, context, payload), crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return appendSign1(protected, payload, signature)
}

// Parse reads a message. It accepts exactly what Sign writes and nothing else.
func Parse(raw []byte) (Message, error) {
	if len(raw) == 0 || raw[0] != tagSign1 {
		return Message{}, errors.New("not a COSE_Sign1 message")
	}
	var parts sign1
	if err := Unmarshal(raw[1:], &parts); err != nil {
		return Message{}, err
	}
	if len(parts.Protected) != len(protectedPrefix)+KeyIDSize || !bytes.HasPrefix(parts.Protected, protectedPrefix) {
		return Message{}, errors.New("unexpected protected header")
	}
	if len(parts.Signature) != ed25519.SignatureSize {
		return Message{}, errors.New("unexpected signature length")
	}
	return Message{
		KeyID:     KeyID(parts.Protected[len(protectedPrefix):]),
		Payload:   parts.Payload,
		Signature: [ed25519.SignatureSize]byte(parts.Signature),
	}, nil
}

// Verify reports whether key signed the message for this purpose. The error is
// ErrSignature, without a reason: there is only one.
func (m Message) Verify(key ed25519.PublicKey, context []byte) error {
	if len(key) != ed25519.PublicKeySize || KeyIDOf(key) != m.KeyID {
		return ErrSignature
	}
	if !ed25519.Verify(key, toBeSigned(protectedHeader(m.KeyID), context, m.Payload), m.Signature[:]) {
		return ErrSignature
	}
	return nil
}

// Context builds the external data of a signature: what it is for and in which
// cluster. label is one of the constants of the package that owns the object.
func Context(label string, cluster [32]byte) []byte {
	return append([]byte(label+"\x00"), cluster[:]...)
}

func protectedHeader(id KeyID) []byte {
	return append(bytes.Clone(protectedPrefix), id[:]...)
}

// toBeSigned is the Sig_structure of RFC 9052, section 4.4.
func toBeSigned(protected, context, payload []byte) []byte {
	structure := struct {
		_           struct{} `cbor:",toarray"`
		Context     string
		Protected   []byte
		ExternalAAD []byte
		Payload     []byte
	}{Context: "Signature1", Protected: protected, ExternalAAD: context, Payload: payload}
	out, err := encoder.Marshal(structure)
	if err != nil {
		panic("internal error: encoding a Sig_structure: " + err.Error()) // byte strings always encode
	}
	return out
}

func appendSign1(protected, payload, signature []byte) ([]byte, error) {
	body, err := encoder.Marshal(sign1{Protected: protected, Payload: payload, Signature: signature})
	if err != nil {
		return nil, err
	}
	return append([]byte{tagSign1}, body...), nil
}

// The CBOR modes. They are built once and never change.
var (
	encoder = mustEncMode()
	decoder = mustDecMode()
)

func mustEncMode() cbor.EncMode {
	options := cbor.CoreDetEncOptions()
	options.TagsMd = cbor.TagsForbidden
	mode, err := options.EncMode()
	if err != nil {
		panic("internal error: CBOR encoding options: " + err.Error())
	}
	return mode
}

// Limits of a signed object's insides. The largest one is a token with 64
// grants; nothing nests deeper than a list of lists inside a map.
const (
	maxNesting  = 8
	maxElements = 4096
	maxPairs    = 64
)

func mustDecMode() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   maxNesting,
		MaxArrayElements:  maxElements,
		MaxMapPairs:       maxPairs,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		UTF8:              cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		panic("internal error: CBOR decoding options: " + err.Error())
	}
	return mode
}

// Marshal writes v in core deterministic CBOR (RFC 8949, section 4.2.1). Give
// fields integer keys: `cbor:"1,keyasint"`.
func Marshal(v any) ([]byte, error) { return encoder.Marshal(v) }

// Unmarshal reads deterministic CBOR into v, a pointer, and refuses anything
// that Marshal would have written differently: unknown or repeated keys, longer
// integers, other key orders, trailing bytes, tags, indefinite lengths.
func Unmarshal(raw []byte, v any) error {
	if err := decoder.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("decoding: %w", err)
	}
	again, err := encoder.Marshal(v)
	if err != nil {
		return fmt.Errorf("decoding: %w", err)
	}
	if !bytes.Equal(raw, again) {
		return errors.New("decoding: not in its only allowed encoding")
	}
	return nil
}
