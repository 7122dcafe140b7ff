package agent

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"connectrpc.com/connect/v2"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/internal/discover"
	"github.com/secgossip/secgossip/rpcauth"
	"github.com/secgossip/secgossip/secgossip"
)

// Limits of what a client may ask.
const (
	maxJoinAddresses = 64
	maxAddress       = discover.MaxAddress
	maxTagFilters    = 32
)

// Join contacts addresses.
func (s *service) Join(ctx context.Context, req *secgossipv1.JoinRequest) (*secgossipv1.JoinResponse, error) {
	addresses := req.GetAddresses()
	if len(addresses) == 0 || len(addresses) > maxJoinAddresses {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Sprintf("%d addresses: 1 to %d", len(addresses), maxJoinAddresses))
	}
	for _, address := range addresses {
		if address == "" || len(address) > maxAddress {
			return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Sprintf("address %.64q: 1 to %d bytes", address, maxAddress))
		}
		// Whoever may call an agent must not choose what its host runs.
		if _, _, ok := discover.Provider(address); ok {
			return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Sprintf("address %.64q: %v", address, discover.ErrNoPrograms))
		}
	}
	out := new(secgossipv1.JoinResponse)
	for _, address := range addresses {
		found, err := discover.Finder{}.Find(ctx, []string{address})
		if err == nil {
			_, err = s.node.Join(ctx, found)
		}
		if err != nil {
			out.Failures = append(out.Failures, &secgossipv1.JoinFailure{Address: address, Reason: err.Error()})
			continue
		}
		out.Contacted++
	}
	return out, nil
}

// UpdateTags changes the node's tags.
func (s *service) UpdateTags(_ context.Context, req *secgossipv1.UpdateTagsRequest) (*secgossipv1.UpdateTagsResponse, error) {
	tags, err := s.retag(req.GetSet(), req.GetDelete())
	if errors.Is(err, secgossip.ErrTags) {
		return nil, connect.NewError(connect.CodeInvalidArgument, err.Error())
	}
	if err != nil {
		return nil, s.refusal(err)
	}
	return &secgossipv1.UpdateTagsResponse{Tags: tags}, nil
}

// UpdateTags changes tags and what handlers are told of them.
func (a *Agent) UpdateTags(set map[string]string, deleted []string) (map[string]string, error) {
	a.retagging.Lock()
	defer a.retagging.Unlock()
	tags, err := a.node.UpdateTags(set, deleted)
	if err == nil {
		err = a.setTags(tags)
	}
	return tags, err
}

// ForceLeave takes in a removal. The caller must have signed it itself.
func (s *service) ForceLeave(ctx context.Context, req *secgossipv1.ForceLeaveRequest) (*secgossipv1.ForceLeaveResponse, error) {
	principal, ok := rpcauth.PrincipalFrom(ctx)
	if !ok {
		return nil, connect.NewError(connect.CodeUnauthenticated, "unauthenticated")
	}
	status, err := s.node.ForceLeave(req.GetRemoval(), principal.Key)
	switch {
	case errors.Is(err, secgossip.ErrUnknownMember):
		return nil, connect.NewError(connect.CodeNotFound, err.Error())
	case errors.Is(err, secgossip.ErrAlive):
		return nil, connect.NewError(connect.CodeFailedPrecondition, err.Error())
	case err != nil:
		return nil, s.refusal(err)
	}
	return &secgossipv1.ForceLeaveResponse{Status: string(status)}, nil
}

// chooser is what a client asks of members.
type chooser struct {
	name, status *regexp.Regexp
	tags         map[string]*regexp.Regexp
}

func newChooser(req *secgossipv1.ListMembersRequest) (c chooser, err error) {
	if c.name, err = rpcauth.WholeMatch("name", req.GetName()); err != nil {
		return c, err
	}
	if c.status, err = rpcauth.WholeMatch("status", req.GetStatus()); err != nil {
		return c, err
	}
	if len(req.GetTags()) > maxTagFilters {
		return c, fmt.Errorf("expressions for %d tags: at most %d", len(req.GetTags()), maxTagFilters)
	}
	c.tags = make(map[string]*regexp.Regexp)
	for name, expression := range req.GetTags() {
		if c.tags[name], err = rpcauth.WholeMatch(fmt.Sprintf("tag %.64q", name), expression); err != nil {
			return c, err
		}
	}
	return c, nil
}

// choosing is how long members are chosen at most: in a large cluster many expressions
// that are slow each could hold a processor for minutes.
const choosing = 5 * time.Second

func (c chooser) choose(ctx context.Context, members []secgossip.Member) (chosen []secgossip.Member, err error) {
	ctx, cancel := context.WithTimeout(ctx, choosing)
	defer cancel()
	for _, m := range members {
		if ctx.Err() != nil {
			return nil, connect.NewError(connect.CodeResourceExhausted, fmt.Sprintf("choosing members took more than %v: use fewer or simpler expressions", choosing))
		}
		if c.wants(m) {
			chosen = append(chosen, m)
		}
	}
	return chosen, nil
}

func (c chooser) wants(m secgossip.Member) bool {
	if !c.name.MatchString(m.Name) || !c.status.MatchString(string(m.Status)) {
		return false
	}
	for name, expression := range c.tags {
		if value, ok := m.Tags[name]; !ok || !expression.MatchString(value) {
			return false
		}
	}
	return true
}
