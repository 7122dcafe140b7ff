package wire

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
)

const (
	// revocationLabel is what a revocation's signature is for.
	revocationLabel = "secgossip/1 revocation"

	// subjectLabel begins what a subject is hashed from.
	subjectLabel = "secgossip/1 subject\x00"
)

// Verb is what a keeper does to an identity.
type Verb uint8

// The verbs.
const (
	VerbEvict Verb = 1 // void is what was issued before; it may be issued anew
	VerbBan   Verb = 2 // void is whatever was or will be issued
	VerbUnban Verb = 3 // ends a ban; what was issued before stays void
)

func (v Verb) String() string {
	switch v {
	case VerbEvict:
		return "evict"
	case VerbBan:
		return "ban"
	case VerbUnban:
		return "unban"
	}
	return fmt.Sprintf("verb %d", uint8(v))
}

// Kind is whose identity is meant, with the numbers that credentials have.
type Kind uint8

// The kinds.
const (
	KindNode   Kind = 1
	KindClient Kind = 2
)

// Forever is the end of a ban: later than anything is issued.
var Forever = time.UnixMilli(maxUnixSeconds * 1000).UTC()

// A Subject is whom a revocation is about. A key of zeros is none: the name alone
// is meant.
type Subject struct {
	Kind Kind
	Name string
	Key  [32]byte
}

// Hash names a subject in an epoch statement.
func (s Subject) Hash() (hash [SubjectSize]byte) {
	sum := sha256.Sum256([]byte(subjectLabel + string([]byte{byte(s.Kind)}) + string(s.Key[:]) + s.Name))
	copy(hash[:], sum[:])
	return hash
}

// A Revocation is what a keeper says about an identity: void is what was issued to
// this name, or with this key, before a time. Protocol 3.8.
type Revocation struct {
	Verb Verb
	Subject
	Before time.Time // in whole milliseconds, as Issued
	Keeper string    // name of the node that signs
	Issued time.Time
	Reason string // 1 to MaxReason bytes
}

// revocationBody is the signed CBOR map.
type revocationBody struct {
	Verb   uint8    `cbor:"1,keyasint"`
	Kind   uint8    `cbor:"2,keyasint"`
	Name   string   `cbor:"3,keyasint"`
	Key    [32]byte `cbor:"4,keyasint"`
	Before uint64   `cbor:"5,keyasint"` // Unix milliseconds
	Keeper string   `cbor:"6,keyasint"`
	Issued uint64   `cbor:"7,keyasint"` // Unix milliseconds
	Reason string   `cbor:"8,keyasint"`
}

// A SignedRevocation is a revocation as it travels. It proves nothing before
// Verify, and only a keeper's key counts.
type SignedRevocation struct {
	Revocation
	Raw    []byte   // the whole message, in memory of its own
	Digest [32]byte // SHA-256 of Raw

	message cose.Message
}

// SignRevocation signs r with the keeper's node key, for one cluster.
func SignRevocation(key crypto.Signer, cluster [32]byte, r Revocation) ([]byte, error) {
	payload, err := r.encode()
	if err != nil {
		return nil, fmt.Errorf("revocation: %w", err)
	}
	return cose.Sign(key, cose.Context(revocationLabel, cluster), payload)
}

// ParseRevocation reads a signed revocation. It does not verify it, and keeps
// nothing of raw.
func ParseRevocation(raw []byte) (SignedRevocation, error) {
	var body revocationBody
	message, err := parseSigned(raw, MaxRevocation, &body)
	if err != nil {
		return SignedRevocation{}, fmt.Errorf("revocation: %w", err)
	}
	r := Revocation{
		Verb:    Verb(body.Verb),
		Subject: Subject{Kind: Kind(body.Kind), Name: body.Name, Key: body.Key},
		Before:  time.UnixMilli(int64(body.Before)).UTC(), // what overflows is negative, and refused
		Keeper:  body.Keeper,
		Issued:  time.UnixMilli(int64(body.Issued)).UTC(),
		Reason:  body.Reason,
	}
	if err := r.check(); err != nil {
		return SignedRevocation{}, fmt.Errorf("revocation: %w", err)
	}
	return SignedRevocation{Revocation: r, Raw: bytes.Clone(raw), Digest: sha256.Sum256(raw), message: message}, nil
}

// Verify checks that key signed the revocation, for this cluster. The error is
// cose.ErrSignature. Whether key is a keeper's is for its credential to say.
func (r SignedRevocation) Verify(key ed25519.PublicKey, cluster [32]byte) error {
	return r.message.Verify(key, cose.Context(revocationLabel, cluster))
}

func (r Revocation) encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	return cose.Marshal(revocationBody{
		Verb:   uint8(r.Verb),
		Kind:   uint8(r.Kind),
		Name:   r.Name,
		Key:    r.Key,
		Before: uint64(r.Before.UnixMilli()),
		Keeper: r.Keeper,
		Issued: uint64(r.Issued.UnixMilli()),
		Reason: r.Reason,
	})
}

func (r Revocation) check() error {
	if r.Verb < VerbEvict || r.Verb > VerbUnban {
		return fmt.Errorf("unknown %v", r.Verb)
	}
	if r.Kind != KindNode && r.Kind != KindClient {
		return fmt.Errorf("unknown kind %d", r.Kind)
	}
	for _, name := range []string{r.Name, r.Keeper} {
		if err := checkName(name); err != nil {
			return err
		}
	}
	for _, at := range []time.Time{r.Before, r.Issued} {
		if ms := at.UnixMilli(); ms <= 0 || ms > maxUnixSeconds*1000 {
			return errors.New("time out of range")
		}
	}
	if (r.Verb == VerbBan) != r.Before.Equal(Forever) {
		return errors.New("a ban, and nothing else, is for ever")
	}
	if len(r.Reason) == 0 || len(r.Reason) > MaxReason {
		return fmt.Errorf("a reason of %d bytes, want 1 to %d", len(r.Reason), MaxReason)
	}
	return nil
}

// A Named revocation is one that an epoch's install statement names: nobody gets
// the epoch's secret from a member that does not know it, or a later one about the
// same subject.
type Named struct {
	Subject [SubjectSize]byte
	Issued  time.Time // in whole milliseconds
}

func (n Named) encode() []byte {
	return binary.BigEndian.AppendUint64(bytes.Clone(n.Subject[:]), uint64(n.Issued.UnixMilli()))
}

func parseNamed(raw []byte) (Named, error) {
	if len(raw) != NamedSize {
		return Named{}, fmt.Errorf("a named revocation of %d bytes, want %d", len(raw), NamedSize)
	}
	issued := binary.BigEndian.Uint64(raw[SubjectSize:])
	return Named{Subject: [SubjectSize]byte(raw), Issued: time.UnixMilli(int64(issued)).UTC()}, nil
}

// checkNamed checks the revocations in a statement: a digest of all there are, and
// the newest, each subject once, ascending.
func (s Statement) checkNamed() error {
	if (len(s.Named) > 0 || s.Revoked != [RevokedSize]byte{}) && s.Action != ActionInstall {
		return errors.New("revocations in a statement that installs nothing")
	}
	if len(s.Named) > MaxNamed {
		return fmt.Errorf("%d revocations are named, at most %d", len(s.Named), MaxNamed)
	}
	if len(s.Named) > 0 && s.Revoked == ([RevokedSize]byte{}) {
		return errors.New("revocations are named where there are none")
	}
	for i, named := range s.Named {
		if ms := named.Issued.UnixMilli(); ms <= 0 || ms > maxUnixSeconds*1000 {
			return errors.New("time of a named revocation out of range")
		}
		if i > 0 && bytes.Compare(s.Named[i-1].Subject[:], named.Subject[:]) >= 0 {
			return errors.New("named revocations out of order")
		}
	}
	return nil
}
