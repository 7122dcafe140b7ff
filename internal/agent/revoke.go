package agent

import (
	"context"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/rpcauth"
	"github.com/secgossip/secgossip/secgossip"
)

// Revoke takes an identity back. What was begun is finished when the caller goes away.
func (s *service) Revoke(ctx context.Context, req *secgossipv1.RevokeRequest) (*secgossipv1.RevokeResponse, error) {
	principal, ok := rpcauth.PrincipalFrom(ctx)
	if !ok {
		return nil, connect.NewError(connect.CodeUnauthenticated, "unauthenticated")
	}
	verb := secgossip.Verb(req.GetVerb())
	if req.GetClient() && verb != secgossip.VerbUnban && req.GetName() == string(principal.Name) {
		return nil, connect.NewError(connect.CodeOutOfRange, "a client cannot take itself back; another client with this grant can")
	}
	type outcome struct {
		revoked secgossip.Revoked
		err     error
	}
	done := make(chan outcome, 1)
	started := s.start(func() {
		revoked, err := s.node.Revoke(s.ctx, secgossip.Order{
			Verb: verb, Client: req.GetClient(), Name: req.GetName(), Reason: req.GetReason(),
		})
		done <- outcome{revoked, err}
	})
	if !started {
		return nil, connect.NewError(connect.CodeUnavailable, "agent is stopping")
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case end := <-done:
		if end.err != nil {
			return nil, s.refusal(end.err)
		}
		r := end.revoked
		return &secgossipv1.RevokeResponse{
			Revocations: revocationMessages(r.Revocations), Confirmed: r.Confirmed, Missing: r.Missing,
			Epoch: r.Epoch, Fingerprint: r.Fingerprint,
		}, nil
	}
}

// ListRevocations lists the identities that were taken back.
func (s *service) ListRevocations(context.Context, *secgossipv1.ListRevocationsRequest) (*secgossipv1.ListRevocationsResponse, error) {
	return &secgossipv1.ListRevocationsResponse{Revocations: revocationMessages(s.node.Revocations())}, nil
}

func revocationMessages(all []secgossip.Revocation) []*secgossipv1.Revocation {
	var out []*secgossipv1.Revocation
	for _, r := range all {
		message := &secgossipv1.Revocation{
			Verb: string(r.Verb), Client: r.Client, Name: r.Name, Before: timestamppb.New(r.Before),
			Keeper: r.Keeper, Issued: timestamppb.New(r.Issued), Reason: r.Reason,
		}
		if r.Key != ([32]byte{}) {
			message.PrincipalKey = keyDigest(r.Key)
		}
		out = append(out, message)
	}
	return out
}
