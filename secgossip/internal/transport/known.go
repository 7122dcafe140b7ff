package transport

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// What members know of the cluster is issuers, revocations and node records. Each is
// signed, so it does not matter who passes it on.

// knownDigest stands for everything Issuers, Revocations and Roster frames would
// carry, in whatever order it was learned.
func (t *Transport) knownDigest() [32]byte {
	var issuers [][32]byte
	for _, der := range t.config.Trust.Issuers() {
		issuers = append(issuers, sha256.Sum256(der))
	}
	slices.SortFunc(issuers, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	h := sha256.New()
	roster := t.config.Roster.Digest()
	h.Write(roster[:])
	revoked := t.config.Revocations.Digest()
	h.Write(revoked[:])
	for _, sum := range issuers {
		h.Write(sum[:])
	}
	return [32]byte(h.Sum(nil))
}

func (t *Transport) sendKnown(conn net.Conn) error {
	issuers, err := wire.BatchIssuers.Append(nil, t.config.Trust.Issuers())
	if err != nil {
		return err
	}
	if err := wire.WriteFrame(conn, wire.FrameIssuers, issuers); err != nil {
		return err
	}
	revoked, err := wire.BatchRevoked.Append(nil, t.config.Revocations.Revocations())
	if err != nil {
		return err
	}
	if err := wire.WriteFrame(conn, wire.FrameRevocations, revoked); err != nil {
		return err
	}
	var records [][]byte
	for _, p := range t.config.Roster.Valid() {
		records = append(records, p.Raw)
	}
	roster, err := wire.BatchRoster.Append(nil, records)
	if err != nil {
		return err
	}
	return wire.WriteFrame(conn, wire.FrameRoster, roster)
}

// readKnown takes in the peer's issuers, revocations and records, in this order: what
// comes first says whom to believe of what comes after. One that does not verify is
// passed over: it says something about whoever wrote it.
func (t *Transport) readKnown(conn net.Conn) error {
	_, body, err := wire.ReadFrame(conn, wire.FrameIssuers)
	if err != nil {
		return fmt.Errorf("reading issuers: %w", err)
	}
	issuers, err := wire.BatchIssuers.Parse(body)
	if err != nil {
		return fmt.Errorf("reading issuers: %w", err)
	}
	for _, der := range issuers {
		_, err := t.config.Trust.AddIssuer(der, t.config.Clock())
		t.countForged(err)
	}
	_, body, err = wire.ReadFrame(conn, wire.FrameRevocations)
	if err != nil {
		return fmt.Errorf("reading revocations: %w", err)
	}
	revoked, err := wire.BatchRevoked.Parse(body)
	if err != nil {
		return fmt.Errorf("reading revocations: %w", err)
	}
	t.config.Revocations.Learn(revoked)
	_, body, err = wire.ReadFrame(conn, wire.FrameRoster)
	if err != nil {
		return fmt.Errorf("reading roster: %w", err)
	}
	records, err := wire.BatchRoster.Parse(body)
	if err != nil {
		return fmt.Errorf("reading roster: %w", err)
	}
	t.admit(records)
	return nil
}

// admit takes records in and counts those that nobody honest passes on.
func (t *Transport) admit(records [][]byte) {
	for _, raw := range records {
		_, err := t.config.Roster.Admit(raw, t.config.Clock())
		t.countForged(err)
	}
}

// countForged counts what was refused, unless an honest member may hold and pass
// it on: what was overtaken, has expired, or is vouched for by an issuer that we
// shall hear of only at the next sync.
func (t *Transport) countForged(err error) {
	for _, honest := range []error{
		nil, guard.ErrStale, guard.ErrFull, pki.ErrExpired, pki.ErrNotYetValid, pki.ErrRevoked,
		pki.ErrUnknownSigner,
	} {
		if errors.Is(err, honest) {
			return
		}
	}
	t.counters.add(dropForged)
}
