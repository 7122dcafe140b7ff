package rpcauth

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
	"github.com/secgossip/secgossip/pki"
)

// Verifier checks tokens, events and queries against what a node trusts. It is safe for
// concurrent use.
type Verifier struct {
	trust        *pki.Trust
	tokenContext []byte
	eventContext []byte
	queryContext []byte

	// A message and its key that stand in for a token without a known signer.
	decoy    cose.Message
	decoyKey ed25519.PublicKey

	mu    sync.Mutex
	known generations[[sha256.Size]byte, knownToken]

	checks atomic.Uint64 // signatures checked so far
}

// knownToken is a token whose signature verified before, and by which key.
type knownToken struct {
	token  *Token
	signer cose.KeyID
	key    ed25519.PublicKey
}

// knownTokens is how many tokens one generation remembers. A token is at most
// 1.5 kB, so 2 x 256 of them are less than a megabyte, and a cluster has fewer
// clients than that firing at once.
const knownTokens = 256

// NewVerifier returns a verifier for the cluster of trust.
func NewVerifier(trust *pki.Trust) *Verifier {
	v := &Verifier{
		trust:        trust,
		tokenContext: cose.Context(tokenLabel, trust.Cluster()),
		eventContext: cose.Context(eventLabel, trust.Cluster()),
		queryContext: cose.Context(queryLabel, trust.Cluster()),
		known:        generations[[sha256.Size]byte, knownToken]{limit: knownTokens},
	}
	// The decoy's key is no secret: what it signs is never believed.
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	raw, err := cose.Sign(key, v.tokenContext, make([]byte, 200))
	if err == nil {
		v.decoy, err = cose.Parse(raw)
	}
	if err != nil {
		panic("internal error: signing the decoy: " + err.Error())
	}
	v.decoyKey = key.Public().(ed25519.PublicKey)
	return v
}

// Cluster is the cluster whose tokens and events v verifies.
func (v *Verifier) Cluster() pki.ClusterID { return v.trust.Cluster() }

// VerifyToken returns the token in raw if it is signed by this cluster's root or
// an issuer and good at now. Errors: ErrMalformed, ErrUnknownSigner,
// ErrSignature, ErrNotYetValid, ErrExpired, pki.ErrRevoked.
func (v *Verifier) VerifyToken(raw []byte, now time.Time) (*Token, error) {
	known, err := v.verifyTokenSignature(raw, now)
	if err != nil {
		return nil, err
	}
	if err := v.checkToken(known.token, now); err != nil {
		return nil, err
	}
	return known.token, nil
}

// checkToken asks what changes while a token stays the same: the time, and whether
// its client was revoked. A client that was issued anew needs another token too.
func (v *Verifier) checkToken(t *Token, now time.Time) error {
	if err := t.checkTimes(now); err != nil {
		return err
	}
	if err := v.trust.CheckRevoked(pki.KindClient, t.Subject, t.Key, t.NotBefore); err != nil {
		return fmt.Errorf("token of %q: %w", t.Subject, err)
	}
	return nil
}

// verifyTokenSignature checks who signed a token, not when.
//
// Threat K07: it checks exactly one signature whatever raw holds, so that the
// time of a refusal does not tell noise from a token of another cluster, nor
// either from a token whose signature is wrong.
func (v *Verifier) verifyTokenSignature(raw []byte, now time.Time) (knownToken, error) {
	m, token, err := parseToken(raw)
	var key ed25519.PublicKey
	if err == nil {
		var ok bool
		if key, ok = v.trust.SignerKey(m.KeyID, now); !ok {
			err = fmt.Errorf("token: %w", ErrUnknownSigner)
		}
	}
	if err != nil {
		m, key = v.decoy, v.decoyKey
	}
	v.checks.Add(1)
	if wrong := m.Verify(key, v.tokenContext); wrong != nil && err == nil {
		err = fmt.Errorf("token: %w", wrong)
	}
	if err != nil {
		return knownToken{}, err
	}
	return knownToken{token, m.KeyID, key}, nil
}

// knownTokenOrVerify is verifyTokenSignature for a token that may come back
// with many events: a burst costs one signature check an event, not two. Whether
// its signer is trusted is asked anew each time. Not for the gate, where a
// faster answer would say that the token's owner has been here.
func (v *Verifier) knownTokenOrVerify(raw []byte, now time.Time) (knownToken, error) {
	digest := sha256.Sum256(raw)
	v.mu.Lock()
	known, ok := v.known.get(digest)
	v.mu.Unlock()
	if ok {
		if key, trusted := v.trust.SignerKey(known.signer, now); trusted && key.Equal(known.key) {
			return known, nil
		}
	}
	known, err := v.verifyTokenSignature(raw, now)
	if err != nil {
		return knownToken{}, err
	}
	v.mu.Lock()
	v.known.put(digest, known)
	v.mu.Unlock()
	return known, nil
}
