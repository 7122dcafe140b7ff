package wire

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
)

// epochLabel is what an epoch statement's signature is for.
const epochLabel = "secgossip/1 epoch"

// Action is what a keeper wants done with an epoch. The three are Serf's verbs.
type Action uint8

// The actions, in the order of an epoch's life.
const (
	ActionInstall Action = 1 // fetch the secret and open with it
	ActionUse     Action = 2 // seal with it from now on
	ActionRemove  Action = 3 // forget it
)

func (a Action) String() string {
	switch a {
	case ActionInstall:
		return "install"
	case ActionUse:
		return "use"
	case ActionRemove:
		return "remove"
	}
	return fmt.Sprintf("action %d", uint8(a))
}

// A Statement is what a keeper says about an epoch. All statements about one
// epoch repeat its number, its predecessor and its commitment, so that each says
// by itself which epoch it means, even when two keepers took the same number.
// Protocol 3.6.
type Statement struct {
	Action     Action
	Number     uint64   // 1 is the cluster's first
	Previous   [32]byte // Digest of the install statement before it; zero for number 1
	Commitment [32]byte // which secret; see keyring
	Keeper     string   // name of the node that signs
	Issued     time.Time
	Reason     string // 1 to MaxReason bytes: "init", "operator", ...

	// Of an install alone: the digest of the revocations that its keeper knew,
	// zeros for none, and the newest of them.
	Revoked [RevokedSize]byte
	Named   []Named
}

// statementBody is the signed CBOR map.
type statementBody struct {
	Action     uint8    `cbor:"1,keyasint"`
	Number     uint64   `cbor:"2,keyasint"`
	Previous   [32]byte `cbor:"3,keyasint"`
	Commitment [32]byte `cbor:"4,keyasint"`
	Keeper     string   `cbor:"5,keyasint"`
	Issued     uint64   `cbor:"6,keyasint"` // Unix seconds
	Reason     string   `cbor:"7,keyasint"`
	Revoked    []byte   `cbor:"8,keyasint,omitempty"`
	Named      [][]byte `cbor:"9,keyasint,omitempty"`
}

// A SignedStatement is a statement as it travels. It proves nothing before
// Verify, and only a keeper's key counts.
type SignedStatement struct {
	Statement
	Raw    []byte   // the whole message, in memory of its own
	Digest [32]byte // SHA-256 of Raw

	message cose.Message
}

// SignStatement signs s with the keeper's node key, for one cluster. Issued is
// kept in whole seconds.
func SignStatement(key crypto.Signer, cluster [32]byte, s Statement) ([]byte, error) {
	payload, err := s.encode()
	if err != nil {
		return nil, fmt.Errorf("epoch statement: %w", err)
	}
	return cose.Sign(key, cose.Context(epochLabel, cluster), payload)
}

// ParseStatement reads a signed statement. It does not verify it, and keeps
// nothing of raw.
func ParseStatement(raw []byte) (SignedStatement, error) {
	var body statementBody
	message, err := parseSigned(raw, MaxEpochStatement, &body)
	if err != nil {
		return SignedStatement{}, fmt.Errorf("epoch statement: %w", err)
	}
	s := Statement{
		Action:     Action(body.Action),
		Number:     body.Number,
		Previous:   body.Previous,
		Commitment: body.Commitment,
		Keeper:     body.Keeper,
		Issued:     time.Unix(int64(body.Issued), 0).UTC(), // what overflows is negative, and refused
		Reason:     body.Reason,
	}
	if err := s.readNamed(body); err != nil {
		return SignedStatement{}, fmt.Errorf("epoch statement: %w", err)
	}
	if err := s.check(); err != nil {
		return SignedStatement{}, fmt.Errorf("epoch statement: %w", err)
	}
	return SignedStatement{Statement: s, Raw: bytes.Clone(raw), Digest: sha256.Sum256(raw), message: message}, nil
}

// Verify checks that key signed the statement, for this cluster. The error is
// cose.ErrSignature. Whether key is a keeper's is for its credential to say.
func (s SignedStatement) Verify(key ed25519.PublicKey, cluster [32]byte) error {
	return s.message.Verify(key, cose.Context(epochLabel, cluster))
}

func (s Statement) encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	body := statementBody{
		Action:     uint8(s.Action),
		Number:     s.Number,
		Previous:   s.Previous,
		Commitment: s.Commitment,
		Keeper:     s.Keeper,
		Issued:     uint64(s.Issued.Unix()),
		Reason:     s.Reason,
	}
	if s.Revoked != ([RevokedSize]byte{}) {
		body.Revoked = s.Revoked[:]
	}
	for _, named := range s.Named {
		body.Named = append(body.Named, named.encode())
	}
	return cose.Marshal(body)
}

// readNamed reads what a statement says about revocations. What is absent is zero,
// and zeros are never written.
func (s *Statement) readNamed(body statementBody) error {
	if len(body.Revoked) > 0 {
		if len(body.Revoked) != RevokedSize || bytes.Equal(body.Revoked, s.Revoked[:]) {
			return errors.New("the digest of revocations is none")
		}
		s.Revoked = [RevokedSize]byte(body.Revoked)
	}
	for _, raw := range body.Named {
		named, err := parseNamed(raw)
		if err != nil {
			return err
		}
		s.Named = append(s.Named, named)
	}
	return nil
}

func (s Statement) check() error {
	if s.Action < ActionInstall || s.Action > ActionRemove {
		return fmt.Errorf("unknown %v", s.Action)
	}
	if s.Number == 0 {
		return errors.New("number is zero")
	}
	if first := s.Number == 1; first != (s.Previous == [32]byte{}) {
		return errors.New("the first epoch, and no other, has no previous one")
	}
	if s.Commitment == ([32]byte{}) {
		return errors.New("no commitment")
	}
	if err := checkName(s.Keeper); err != nil {
		return err
	}
	if issued := s.Issued.Unix(); issued <= 0 || issued > maxUnixSeconds {
		return errors.New("time out of range")
	}
	if len(s.Reason) == 0 || len(s.Reason) > MaxReason {
		return fmt.Errorf("a reason of %d bytes, want 1 to %d", len(s.Reason), MaxReason)
	}
	return s.checkNamed()
}
