package agent

import (
	"time"

	"github.com/secgossip/secgossip/rpcauth"
	"github.com/secgossip/secgossip/secgossip"
)

// eventVerifier lets the gossip core ask rpcauth, which it does not know.
type eventVerifier struct{ verifier *rpcauth.Verifier }

// VerifyEvent implements secgossip.Verifier.
func (v eventVerifier) VerifyEvent(raw []byte, now time.Time) (secgossip.Event, error) {
	e, err := v.verifier.VerifyEvent(raw, now)
	if err != nil {
		return secgossip.Event{}, err
	}
	return secgossip.Event{
		ID:        e.ID,
		Name:      e.Name,
		Payload:   e.Payload,
		LTime:     e.LTime,
		Issued:    e.Issued,
		Expires:   e.Expires,
		Coalesce:  e.Coalesce,
		Nodes:     e.Nodes,
		Principal: string(e.Token.Subject),
		ClientKey: [32]byte(e.Token.Key),
		TokenID:   e.Token.ID,
	}, nil
}

// VerifyRemoval implements secgossip.Verifier.
func (v eventVerifier) VerifyRemoval(raw []byte, now time.Time) (secgossip.Removal, error) {
	r, err := v.verifier.VerifyRemoval(raw, now)
	if err != nil {
		return secgossip.Removal{}, err
	}
	return secgossip.Removal{
		Node: string(r.Node), Key: r.Key, Sequence: r.Sequence, Prune: r.Prune, Issued: r.Issued,
		Principal: string(r.Token.Subject), ClientKey: [32]byte(r.Token.Key),
	}, nil
}
