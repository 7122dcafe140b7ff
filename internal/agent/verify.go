package agent

import (
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
	"github.com/secgossip/secgossip/secgossip"
)

// eventVerifier lets the gossip core ask rpcauth, which it does not know.
type eventVerifier struct{ verifier *rpcauth.Verifier }

// VerifyQuery implements secgossip.Verifier.
func (v eventVerifier) VerifyQuery(raw []byte, now time.Time) (secgossip.Query, error) {
	q, err := v.verifier.VerifyQuery(raw, now)
	if err != nil {
		return secgossip.Query{}, err
	}
	return secgossip.Query{
		ID:        secgossip.QueryID(q.ID),
		Name:      q.Name,
		Payload:   q.Payload,
		LTime:     q.LTime,
		Issued:    q.Issued,
		Expires:   q.Expires,
		Timeout:   q.Timeout,
		Raw:       raw,
		Ack:       q.Ack,
		Ping:      q.Name == rpcauth.PingQuery,
		Relay:     int(q.Relay),
		Origin:    string(q.Origin),
		Nodes:     q.Nodes,
		Principal: string(q.Token.Subject),
		ClientKey: [32]byte(q.Token.Key),
		TokenID:   q.Token.ID,
		For:       func(node string, tags map[string]string) bool { return q.For(pki.Name(node), tags) },
	}, nil
}

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
		Raw:       raw,
		Digest:    e.Digest,
		Size:      e.Size,
		For:       func(node string, tags map[string]string) bool { return e.For(pki.Name(node), tags) },
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
