package wire

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/secgossip/secgossip/internal/cose"
)

// markLabel is what a mark's signature is for.
const markLabel = "secgossip/1 origin mark"

// An Origin is one start of the node that took an event in from its client. Its
// sequences begin at 1, so that a restart, however it came about and whatever of
// the state it lost, uses none of them again.
type Origin struct {
	Node  [8]byte // OriginHint of the node's signing key
	Start uint32  // the first 4 bytes of its boot nonce
}

// OriginHint is what stands for a node's signing key in a mark: the first 8 bytes
// of its SHA-256. It finds the key; the signature proves it.
func OriginHint(key [32]byte) [8]byte {
	sum := sha256.Sum256(key[:])
	return [8]byte(sum[:8])
}

// OriginStart is what stands for a boot nonce in a mark.
func OriginStart(boot [BootSize]byte) uint32 { return binary.BigEndian.Uint32(boot[:]) }

// A Mark says that an origin took in an event, and as which of its events. It is
// not COSE: beside an event 80 bytes are free. Protocol 5.2.
type Mark struct {
	Origin
	Sequence uint32
}

// A MarkedEvent is an event behind its mark, as it travels. It proves nothing
// before Verify, and then nothing about the event but its origin.
type MarkedEvent struct {
	Mark
	Event     []byte // the signed event
	Signature [ed25519.SignatureSize]byte
}

// MarkEvent puts a mark, signed with the origin's key, in front of an event.
func MarkEvent(key crypto.Signer, cluster [32]byte, mark Mark, event []byte) ([]byte, error) {
	if mark.Sequence == 0 || len(event) == 0 || len(event) > MaxEventRaw {
		return nil, fmt.Errorf("mark of event %d with %d bytes: out of range", mark.Sequence, len(event))
	}
	signature, err := key.Sign(nil, mark.toBeSigned(cluster, event), crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("signing an origin mark: %w", err)
	}
	return append(append(mark.append(nil), signature...), event...), nil
}

// ParseMarkedEvent reads a mark and the event behind it, which shares the memory
// of raw.
func ParseMarkedEvent(raw []byte) (MarkedEvent, error) {
	if len(raw) <= MarkSize {
		return MarkedEvent{}, errors.New("marked event: cut short")
	}
	if len(raw) > MaxMarkedEvent {
		return MarkedEvent{}, fmt.Errorf("marked event: %w", ErrTooLarge)
	}
	m := MarkedEvent{Event: raw[MarkSize:], Signature: [ed25519.SignatureSize]byte(raw[16:MarkSize])}
	copy(m.Node[:], raw)
	m.Start, m.Sequence = binary.BigEndian.Uint32(raw[8:]), binary.BigEndian.Uint32(raw[12:])
	if m.Sequence == 0 {
		return MarkedEvent{}, errors.New("marked event: sequence zero")
	}
	return m, nil
}

// Verify checks that key signed the mark, for this event and this cluster. The
// error is cose.ErrSignature.
func (m MarkedEvent) Verify(key [32]byte, cluster [32]byte) error {
	if OriginHint(key) != m.Node || !ed25519.Verify(key[:], m.toBeSigned(cluster, m.Event), m.Signature[:]) {
		return cose.ErrSignature
	}
	return nil
}

func (m Mark) append(b []byte) []byte {
	b = append(b, m.Node[:]...)
	b = binary.BigEndian.AppendUint32(b, m.Start)
	return binary.BigEndian.AppendUint32(b, m.Sequence)
}

func (m Mark) toBeSigned(cluster [32]byte, event []byte) []byte {
	digest := sha256.Sum256(event)
	return m.append(append(cose.Context(markLabel, cluster), digest[:]...))
}
