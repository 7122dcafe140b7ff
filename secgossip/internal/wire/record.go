package wire

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/secgossip/secgossip/internal/cose"
)

// recordLabel is what a node record's signature is for.
const recordLabel = "secgossip/1 node record"

// A Record is what a node says about itself: who it is, where it is, and which
// of its lives this is. Protocol 3.5.
type Record struct {
	Name       string
	Sequence   uint64 // milliseconds since 1970, growing with every record of this node
	Boot       [BootSize]byte
	Endpoints  []netip.AddrPort // 1 to MaxEndpoints, the preferred one first
	Credential []byte           // see pki; at most MaxCredential bytes, opaque here
	Leaving    bool             // the node's last words: it leaves, nobody declared it failed
}

// recordBody is the signed CBOR map.
type recordBody struct {
	Name       string         `cbor:"1,keyasint"`
	Sequence   uint64         `cbor:"2,keyasint"`
	Boot       [BootSize]byte `cbor:"3,keyasint"`
	Endpoints  [][]byte       `cbor:"4,keyasint"`
	Credential []byte         `cbor:"5,keyasint"`
	Leaving    bool           `cbor:"6,keyasint,omitempty"`
}

// A SignedRecord is a record as it travels. It proves nothing before Verify.
type SignedRecord struct {
	Record
	Raw    []byte   // the whole message, in memory of its own
	Digest [32]byte // SHA-256 of Raw

	message cose.Message
}

// SignRecord signs r with the node's key, for one cluster.
func SignRecord(key crypto.Signer, cluster [32]byte, r Record) ([]byte, error) {
	payload, err := r.encode()
	if err != nil {
		return nil, fmt.Errorf("node record: %w", err)
	}
	return cose.Sign(key, cose.Context(recordLabel, cluster), payload)
}

// ParseRecord reads a signed record. It does not verify it, and keeps nothing
// of raw.
func ParseRecord(raw []byte) (SignedRecord, error) {
	var body recordBody
	message, err := parseSigned(raw, MaxRecord, &body)
	if err != nil {
		return SignedRecord{}, fmt.Errorf("node record: %w", err)
	}
	r := Record{Name: body.Name, Sequence: body.Sequence, Boot: body.Boot, Credential: body.Credential, Leaving: body.Leaving}
	for _, packed := range body.Endpoints {
		endpoint, err := parseEndpoint(packed)
		if err != nil {
			return SignedRecord{}, fmt.Errorf("node record: %w", err)
		}
		r.Endpoints = append(r.Endpoints, endpoint)
	}
	if err := r.check(); err != nil {
		return SignedRecord{}, fmt.Errorf("node record: %w", err)
	}
	return SignedRecord{Record: r, Raw: bytes.Clone(raw), Digest: sha256.Sum256(raw), message: message}, nil
}

// Verify checks that key signed the record, for this cluster. The error is
// cose.ErrSignature. Whether key is the node's is for the credential to say.
func (r SignedRecord) Verify(key ed25519.PublicKey, cluster [32]byte) error {
	return r.message.Verify(key, cose.Context(recordLabel, cluster))
}

func (r Record) encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	body := recordBody{Name: r.Name, Sequence: r.Sequence, Boot: r.Boot, Credential: r.Credential, Leaving: r.Leaving}
	for _, endpoint := range r.Endpoints {
		body.Endpoints = append(body.Endpoints, appendEndpoint(nil, endpoint))
	}
	return cose.Marshal(body)
}

func (r Record) check() error {
	if err := checkName(r.Name); err != nil {
		return err
	}
	// Zero is what a node has of which nothing is known; more than an int64
	// would turn negative as a time.
	if r.Sequence == 0 || r.Sequence > math.MaxInt64 {
		return errors.New("sequence out of range")
	}
	if r.Boot == ([BootSize]byte{}) {
		return errors.New("boot nonce is zero")
	}
	if len(r.Endpoints) == 0 || len(r.Endpoints) > MaxEndpoints {
		return fmt.Errorf("%d endpoints, want 1 to %d", len(r.Endpoints), MaxEndpoints)
	}
	for i, endpoint := range r.Endpoints {
		if err := checkEndpoint(endpoint); err != nil {
			return err
		}
		if slices.Contains(r.Endpoints[:i], endpoint) {
			return fmt.Errorf("endpoint %v twice", endpoint)
		}
	}
	if local := countLoopback(r.Endpoints); local > 0 && local < len(r.Endpoints) {
		return errors.New("a loopback endpoint beside others")
	}
	if len(r.Credential) == 0 || len(r.Credential) > MaxCredential {
		return fmt.Errorf("a credential of %d bytes, want 1 to %d", len(r.Credential), MaxCredential)
	}
	return nil
}
