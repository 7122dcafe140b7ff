package agent

import (
	"context"
	"encoding/hex"
	"time"

	"connectrpc.com/connect/v2"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/api/secgossip/v1/secgossipv1connect"
	"github.com/secgossip/secgossip/rpcauth"
	"github.com/secgossip/secgossip/secgossip"
)

// PrepareQuery says what a client has to know to sign a query.
func (s *service) PrepareQuery(context.Context, *secgossipv1.PrepareQueryRequest) (*secgossipv1.PrepareQueryResponse, error) {
	out := &secgossipv1.PrepareQueryResponse{
		Node:      s.node.Name(),
		TimeoutMs: uint64(s.node.QueryTimeout() / time.Millisecond),
		Ltime:     s.node.QueryTime(),
	}
	for _, m := range s.node.Members() {
		out.Members++
		if m.Status.IsLive() {
			out.Alive++
		}
	}
	return out, nil
}

// AskQuery takes in a query and passes the replies on as they come. The caller must
// have signed it itself.
func (s *service) AskQuery(ctx context.Context, req *secgossipv1.AskQueryRequest, stream secgossipv1connect.AgentServiceAskQueryServerStream) error {
	principal, ok := rpcauth.PrincipalFrom(ctx)
	if !ok {
		return connect.NewError(connect.CodeUnauthenticated, "unauthenticated")
	}
	asked, err := s.node.Ask(req.GetQuery(), principal.Key)
	if err != nil {
		return s.refusal(err)
	}
	defer asked.Discard()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	if err := stream.Send(&secgossipv1.AskQueryResponse{Start: &secgossipv1.QueryStart{
		QueryId: hex.EncodeToString(asked.Query.ID[:]), Targets: asked.Targets, Issuers: s.trust.Issuers(),
	}}); err != nil {
		return err
	}
	for {
		reply, more := asked.Next(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
		if !more {
			return stream.Send(&secgossipv1.AskQueryResponse{Summary: &secgossipv1.QuerySummary{Missing: asked.Missing()}})
		}
		if err := s.stillGood(ctx); err != nil {
			return err
		}
		// One reply may have 1 MiB, and the client takes so much in one message.
		if err := stream.Send(&secgossipv1.AskQueryResponse{Replies: []*secgossipv1.QueryReply{replyMessage(reply)}}); err != nil {
			return err
		}
	}
}

func replyMessage(r secgossip.Reply) *secgossipv1.QueryReply {
	kind := "nothing"
	switch {
	case r.Ack:
		kind = "ack"
	case r.Answer:
		kind = "answer"
	}
	return &secgossipv1.QueryReply{Node: r.Node, Kind: kind, Payload: r.Payload, Signed: r.Raw, Credential: r.Credential}
}

// RespondQuery answers a query in the name of this node. The gate has seen that the
// caller may answer something; which query that is shows only here.
func (s *service) RespondQuery(ctx context.Context, req *secgossipv1.RespondQueryRequest) (*secgossipv1.RespondQueryResponse, error) {
	principal, ok := rpcauth.PrincipalFrom(ctx)
	if !ok {
		return nil, connect.NewError(connect.CodeUnauthenticated, "unauthenticated")
	}
	id, err := parseQueryID(req.GetQueryId())
	if err != nil {
		return nil, s.refusal(err)
	}
	query, err := s.node.OpenQuery(id)
	if err != nil {
		return nil, s.refusal(err)
	}
	if err := principal.Token.Require(rpcauth.AnswerGrant(query.Name)); err != nil {
		return nil, s.refusal(err)
	}
	if err := s.node.Answer(id, req.GetPayload()); err != nil {
		return nil, s.refusal(err)
	}
	s.logger.Info("query answered by a client", "query", query.Name, "event_id", req.GetQueryId(), "principal", string(principal.Name))
	return new(secgossipv1.RespondQueryResponse), nil
}
