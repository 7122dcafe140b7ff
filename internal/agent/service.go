package agent

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/api/secgossip/v1/secgossipv1connect"
	"github.com/secgossip/secgossip/handler"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
	"github.com/secgossip/secgossip/secgossip"
)

// service is the RPC contract on top of a running node. The gate has already
// checked certificate, token and verb of every caller.
type service struct {
	secgossipv1connect.UnimplementedAgentServiceHandler
	node   *secgossip.Node
	runner *remote
	layers []handler.Layer // what confines this process
	hub    *hub
	logs   *logHub
	rpc    func() map[string]uint64 // counters of the listener
	trust  *pki.Trust
	tags   func() map[string]string
	retag  func(set map[string]string, deleted []string) (map[string]string, error)
	asked  func() map[string]string // how each provider fares
	leave  func()                   // starts leaving; the agent stops after
	ctx    context.Context

	coalesced func() uint64 // events for which a later one stood

	start  func(func()) bool // runs something that the agent waits for at its end
	logger *slog.Logger
}

// PrepareEvent says what a client has to know to sign an event.
func (s *service) PrepareEvent(context.Context, *secgossipv1.PrepareEventRequest) (*secgossipv1.PrepareEventResponse, error) {
	return &secgossipv1.PrepareEventResponse{Ltime: s.node.EventTime()}, nil
}

// FireEvent takes in an event. The caller must have signed it itself: nobody
// hands in what others signed.
func (s *service) FireEvent(ctx context.Context, req *secgossipv1.FireEventRequest) (*secgossipv1.FireEventResponse, error) {
	principal, ok := rpcauth.PrincipalFrom(ctx)
	if !ok {
		return nil, connect.NewError(connect.CodeUnauthenticated, "unauthenticated")
	}
	event, err := s.node.FireLarge(req.GetEvent(), req.GetPayload(), principal.Key)
	if err != nil {
		return nil, s.refusal(err)
	}
	return &secgossipv1.FireEventResponse{EventId: hex.EncodeToString(event.ID[:]), Ltime: event.LTime}, nil
}

// refusal gives an error of the core the code a client can act on.
func (s *service) refusal(err error) error {
	code := connect.CodeInternal
	switch {
	case errors.Is(err, rpcauth.ErrGrant), errors.Is(err, secgossip.ErrNotYours):
		code = connect.CodePermissionDenied
	case errors.Is(err, secgossip.ErrNoQuery):
		code = connect.CodeNotFound
	case errors.Is(err, secgossip.ErrDuplicate):
		code = connect.CodeAlreadyExists
	case errors.Is(err, secgossip.ErrBusy), errors.Is(err, secgossip.ErrUnwritten), errors.Is(err, secgossip.ErrChoosing):
		code = connect.CodeResourceExhausted
	case errors.Is(err, secgossip.ErrNotKeeper), errors.Is(err, secgossip.ErrNoEpoch),
		errors.Is(err, secgossip.ErrRotating), errors.Is(err, secgossip.ErrClock), errors.Is(err, secgossip.ErrStale):
		code = connect.CodeFailedPrecondition
	case errors.Is(err, secgossip.ErrStep), errors.Is(err, secgossip.ErrRevoke), errors.Is(err, secgossip.ErrRevocations):
		code = connect.CodeOutOfRange
	case errors.Is(err, secgossip.ErrTooLarge), errors.Is(err, secgossip.ErrPayload), errors.Is(err, errFollow), errors.Is(err, secgossip.ErrOrigin), errors.Is(err, errQueryID), isRefusal(err):
		code = connect.CodeInvalidArgument
	default:
		s.logger.Error("rpc failed", "error", err)
	}
	return connect.NewError(code, err.Error())
}

// isRefusal reports whether an event was refused for what it is.
func isRefusal(err error) bool {
	for _, target := range []error{
		rpcauth.ErrMalformed, rpcauth.ErrSignature, rpcauth.ErrExpired, rpcauth.ErrNotYetValid, rpcauth.ErrUnknownSigner,
		pki.ErrRevoked,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// ListMembers lists the members that a client wants.
func (s *service) ListMembers(ctx context.Context, req *secgossipv1.ListMembersRequest) (*secgossipv1.ListMembersResponse, error) {
	chooser, err := newChooser(req)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err.Error())
	}
	out := new(secgossipv1.ListMembersResponse)
	chosen, err := chooser.choose(ctx, s.node.Members())
	if err != nil {
		return nil, err
	}
	for _, m := range chosen {
		out.Members = append(out.Members, memberMessage(m))
	}
	return out, nil
}

// GetInfo reports the agent's figures, in Serf's sections.
func (s *service) GetInfo(context.Context, *secgossipv1.GetInfoRequest) (*secgossipv1.GetInfoResponse, error) {
	sections := map[string]map[string]string{
		"runtime": {
			"os":         runtime.GOOS,
			"arch":       runtime.GOARCH,
			"version":    runtime.Version(),
			"max_procs":  fmt.Sprint(runtime.GOMAXPROCS(0)),
			"goroutines": fmt.Sprint(runtime.NumGoroutine()),
			"cpu_count":  fmt.Sprint(runtime.NumCPU()),
		},
		"tags":           s.tags(),
		"event_handlers": {},
		"sandbox":        {},
		"confinement":    {},
		"rpc":            {},
		"providers":      s.asked(),
	}
	for name, count := range s.rpc() {
		sections["rpc"][name] = fmt.Sprint(count)
	}
	for _, layer := range s.layers {
		sections["confinement"][layer.Name] = fmt.Sprintf("enforced: %t (%s)", layer.Enforced, layer.Detail)
	}
	for name, values := range s.node.Info() {
		sections[name] = values
	}
	sections["gossip"]["events_coalesced"] = fmt.Sprint(s.coalesced())
	for _, h := range s.runner.fares().handlers {
		for _, layer := range h.Layers {
			sections["sandbox"][fmt.Sprintf("%d %s", h.Number, layer.Name)] = fmt.Sprintf("enforced: %t (%s)", layer.Enforced, layer.Detail)
		}
		sections["event_handlers"][fmt.Sprintf("%d %s", h.Number, h.Spec)] =
			fmt.Sprintf("%d runs, %d failures, %d waiting, %d dropped%s", h.Runs, h.Failures, h.Waiting, h.Dropped, degradedText(h))
	}
	out := &secgossipv1.GetInfoResponse{Sections: make(map[string]*secgossipv1.InfoSection)}
	for name, values := range sections {
		out.Sections[name] = &secgossipv1.InfoSection{Values: values}
	}
	return out, nil
}

// Leave answers, then leaves.
func (s *service) Leave(context.Context, *secgossipv1.LeaveRequest) (*secgossipv1.LeaveResponse, error) {
	s.leave()
	return new(secgossipv1.LeaveResponse), nil
}

// ListKeys lists the epochs, newest first.
func (s *service) ListKeys(context.Context, *secgossipv1.ListKeysRequest) (*secgossipv1.ListKeysResponse, error) {
	out := &secgossipv1.ListKeysResponse{
		Keeper: s.node.ActingKeeper(), RotateEveryS: uint64(s.node.RotateEvery() / time.Second),
	}
	for _, m := range s.node.Members() {
		if m.Status != secgossip.StatusLeft && m.Status != secgossip.StatusEvicted {
			out.Nodes = append(out.Nodes, &secgossipv1.NodeEpoch{Node: m.Name, Status: string(m.Status), Epoch: m.Epoch})
		}
	}
	epochs := s.node.Epochs()
	var primary uint64
	for _, e := range epochs {
		if e.Primary {
			primary = e.Number
		}
	}
	for i := len(epochs) - 1; i >= 0; i-- {
		e := epochs[i]
		state := "installed"
		switch {
		case e.Primary:
			state = "primary"
		case e.Number < primary:
			state = "retiring"
		}
		out.Epochs = append(out.Epochs, &secgossipv1.Epoch{
			Number:      e.Number,
			Primary:     e.Primary,
			State:       state,
			Created:     timestamppb.New(e.Created),
			Fingerprint: e.Fingerprint,
			HeldBy:      uint32(e.HeldBy),
			Sealed:      e.Sealed,
		})
	}
	return out, nil
}

// StreamEvents sends what happens from now on.
func (s *service) StreamEvents(ctx context.Context, req *secgossipv1.StreamEventsRequest, stream secgossipv1connect.AgentServiceStreamEventsServerStream) error {
	filters, err := parseFilters(req.GetFilters())
	if err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err.Error())
	}
	subscriber, ok := s.hub.subscribe(filters)
	if !ok {
		return connect.NewError(connect.CodeResourceExhausted, "too many streams are open")
	}
	defer s.hub.unsubscribe(subscriber)
	if principal, ok := rpcauth.PrincipalFrom(ctx); ok {
		s.logger.Debug("stream opened", "principal", string(principal.Name))
	}
	if err := stream.Send(new(secgossipv1.StreamEventsResponse)); err != nil {
		return err
	}
	recheck := time.NewTicker(streamRecheck)
	defer recheck.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.ctx.Done():
			// What was gathered until the agent stopped is still told.
			records, dropped := subscriber.take()
			if len(records) == 0 || s.stillGood(ctx) != nil {
				return nil
			}
			return stream.Send(&secgossipv1.StreamEventsResponse{Records: records, Dropped: dropped})
		case <-recheck.C:
			if err := s.stillGood(ctx); err != nil {
				return err
			}
			continue
		case <-subscriber.wake:
		}
		if err := s.stillGood(ctx); err != nil {
			return err
		}
		records, dropped := subscriber.take()
		if err := stream.Send(&secgossipv1.StreamEventsResponse{Records: records, Dropped: dropped}); err != nil {
			return err
		}
	}
}

// streamRecheck is how soon a stream ends that has nothing to say and whose client
// was revoked.
const streamRecheck = 5 * time.Second

// stillGood asks again about the client of a stream: the gate saw it only when the
// stream began.
func (s *service) stillGood(ctx context.Context) error {
	p, ok := rpcauth.PrincipalFrom(ctx)
	if !ok || s.trust.CheckRevoked(pki.KindClient, p.Name, p.Key, p.Token.NotBefore) != nil {
		return connect.NewError(connect.CodeUnauthenticated, "unauthenticated")
	}
	return nil
}

// parseFilters reads filters in the words of event handlers.
func parseFilters(texts []string) ([]handler.Filter, error) {
	const most, longest = 32, 80
	if len(texts) > most {
		return nil, fmt.Errorf("%d filters: at most %d", len(texts), most)
	}
	var filters []handler.Filter
	for _, text := range texts {
		if len(text) > longest {
			return nil, fmt.Errorf("filter of %d bytes: at most %d", len(text), longest)
		}
		filter, err := handler.ParseFilter(text)
		if err != nil {
			return nil, err
		}
		filters = append(filters, filter)
	}
	return filters, nil
}

// RotateKeys starts a rotation and reports on it. The rotation goes on when the
// caller goes away.
func (s *service) RotateKeys(ctx context.Context, req *secgossipv1.RotateKeysRequest, stream secgossipv1connect.AgentServiceRotateKeysServerStream) error {
	if req.GetDryRun() {
		return s.rehearse(ctx, stream)
	}
	steps, err := s.steps(req)
	if err != nil {
		return err
	}
	begin := time.Now()
	progress := make(chan secgossip.Progress, 1024)
	type outcome struct {
		rotation secgossip.Rotation
		err      error
	}
	done := make(chan outcome, 1)
	started := s.start(func() {
		rotation, err := steps(s.ctx, func(p secgossip.Progress) {
			select {
			case progress <- p:
			default: // nobody reads: the rotation does not wait
			}
		})
		done <- outcome{rotation, err}
	})
	if !started {
		return connect.NewError(connect.CodeUnavailable, "agent is stopping")
	}
	send := func(p secgossip.Progress) error {
		return stream.Send(&secgossipv1.RotateKeysResponse{Progress: []*secgossipv1.RotationProgress{{
			Node: p.Node, State: string(p.Step),
		}}})
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p := <-progress:
			if err := send(p); err != nil {
				return err
			}
		case end := <-done:
			for len(progress) > 0 {
				if err := send(<-progress); err != nil {
					return err
				}
			}
			if end.err != nil {
				return s.refusal(end.err)
			}
			r := end.rotation
			return stream.Send(&secgossipv1.RotateKeysResponse{Summary: &secgossipv1.RotationSummary{
				Epoch:       r.Epoch,
				Previous:    r.Previous,
				Fingerprint: r.Fingerprint,
				Using:       uint32(r.Using),
				Missing:     r.Missing,
				Removed:     r.Removed,
				DurationMs:  uint64(time.Since(begin).Milliseconds()),
			}})
		}
	}
}

// steps is what a caller asks for: a whole rotation, or a step of one.
func (s *service) steps(req *secgossipv1.RotateKeysRequest) (func(context.Context, func(secgossip.Progress)) (secgossip.Rotation, error), error) {
	type report = func(secgossip.Progress)
	number := req.GetEpoch()
	switch step := req.GetStep(); {
	case step == secgossipv1.RotationStep_ROTATION_STEP_USE:
		return func(ctx context.Context, r report) (secgossip.Rotation, error) { return s.node.Use(ctx, number, r) }, nil
	case step == secgossipv1.RotationStep_ROTATION_STEP_REMOVE && number > 0:
		return func(ctx context.Context, r report) (secgossip.Rotation, error) { return s.node.Remove(ctx, number, r) }, nil
	case number > 0:
		return nil, connect.NewError(connect.CodeInvalidArgument, "epoch: the next one is made, whatever its number")
	case step == secgossipv1.RotationStep_ROTATION_STEP_UNSPECIFIED:
		return s.node.Rotate, nil
	case step == secgossipv1.RotationStep_ROTATION_STEP_INSTALL:
		return s.node.Install, nil
	}
	return nil, connect.NewError(connect.CodeInvalidArgument, "step: an unknown one, or an epoch to remove is missing")
}

// rehearse says which members a rotation would reach.
func (s *service) rehearse(ctx context.Context, stream secgossipv1connect.AgentServiceRotateKeysServerStream) error {
	rehearsal, err := s.node.Rehearse(ctx)
	if err != nil {
		return s.refusal(err)
	}
	out := &secgossipv1.RotateKeysResponse{Summary: &secgossipv1.RotationSummary{
		Epoch: rehearsal.Epoch, Previous: rehearsal.Previous, Missing: rehearsal.Missing,
	}}
	for _, name := range rehearsal.Reached {
		out.Progress = append(out.Progress, &secgossipv1.RotationProgress{Node: name, State: "reachable"})
	}
	for _, name := range rehearsal.Missing {
		out.Progress = append(out.Progress, &secgossipv1.RotationProgress{Node: name, State: "unreachable", Detail: "fetches the epoch by itself when it is back"})
	}
	return stream.Send(out)
}
