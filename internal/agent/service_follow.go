package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect/v2"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/api/secgossip/v1/secgossipv1connect"
	"github.com/secgossip/secgossip/rpcauth"
)

var errFollow = errors.New("1 ms to 1 h are allowed")

// FollowEvent says which members have an event, as they say it themselves. The caller
// must have signed it.
func (s *service) FollowEvent(ctx context.Context, req *secgossipv1.FollowEventRequest, stream secgossipv1connect.AgentServiceFollowEventServerStream) error {
	principal, ok := rpcauth.PrincipalFrom(ctx)
	if !ok {
		return connect.NewError(connect.CodeUnauthenticated, "unauthenticated")
	}
	timeout := time.Duration(min(req.GetTimeoutMs(), uint64(24*time.Hour/time.Millisecond))) * time.Millisecond
	if timeout < time.Millisecond || timeout > rpcauth.MaxEventLife {
		return s.refusal(fmt.Errorf("timeout of %v: %w", timeout, errFollow))
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	var unsent error
	missing, err := s.node.Follow(ctx, req.GetEvent(), principal.Key, func(targets []string) {
		unsent = stream.Send(&secgossipv1.FollowEventResponse{Targets: targets})
	}, func(node string) error {
		if err := errors.Join(unsent, s.stillGood(ctx)); err != nil {
			return err
		}
		return stream.Send(&secgossipv1.FollowEventResponse{Confirmed: []string{node}})
	})
	if err := errors.Join(unsent, s.ctx.Err()); err != nil {
		return err
	}
	if err != nil {
		return s.refusal(err)
	}
	return stream.Send(&secgossipv1.FollowEventResponse{Summary: &secgossipv1.FollowSummary{Missing: missing}})
}
