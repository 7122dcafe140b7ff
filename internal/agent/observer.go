package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/handler"
	"github.com/secgossip/secgossip/internal/link"
	"github.com/secgossip/secgossip/secgossip"
)

// observer hands what the gossip core reports to the runner and to streams.
type observer struct {
	runner  *remote
	hub     *hub
	logger  *slog.Logger
	nowFunc func() time.Time
	members *coalescer      // nil: each member event is delivered by itself
	events  *eventCoalescer // nil: so is each event

	coalesced atomic.Uint64 // events for which a later one stood
}

// gather has what comes in waves delivered as such, until stop.
func (o *observer) gather() {
	o.members = newCoalescer(o.membersEvent)
	o.events = newEventCoalescer(o.userEvent, func(e secgossip.Event) {
		o.coalesced.Add(1)
		o.logger.Debug("a later event stands for this one", "event", e.Name, "event_id", hex.EncodeToString(e.ID[:]))
	})
}

// stop delivers what is gathered, and from then on everything at once.
func (o *observer) stop() {
	o.members.stop()
	o.events.stop()
}

// MemberEvent implements secgossip.Observer.
func (o *observer) MemberEvent(kind string, m secgossip.Member) {
	o.logger.Info("member event", "event", kind, "node", m.Name, "address", m.Endpoint.String())
	if o.members == nil {
		o.membersEvent(kind, []secgossip.Member{m})
		return
	}
	o.members.add(kind, m)
}

// membersEvent delivers a member event about all whom it befell.
func (o *observer) membersEvent(kind string, members []secgossip.Member) {
	var messages []*secgossipv1.Member
	for _, m := range members {
		messages = append(messages, memberMessage(m))
	}
	o.passedOn(o.runner.members(kind, members))
	o.hub.publish(handler.Event{Kind: handler.Kind(kind)}, &secgossipv1.EventRecord{
		Seen: timestamppb.New(o.nowFunc()),
		Kind: &secgossipv1.EventRecord_Member{Member: &secgossipv1.MemberEvent{
			Type: kind, Members: messages,
		}},
	})
}

// EpochEvent implements secgossip.Observer.
func (o *observer) EpochEvent(e secgossip.EpochEvent) {
	o.logger.Info("epoch event", "event", string(e.Action), "epoch", e.Number, "reason", e.Reason)
	o.passedOn(o.runner.epoch(e))
	o.hub.publish(handler.Event{Kind: handler.KindEpoch}, &secgossipv1.EventRecord{
		Seen: timestamppb.New(o.nowFunc()),
		Kind: &secgossipv1.EventRecord_Epoch{Epoch: &secgossipv1.EpochEvent{
			Number: e.Number, Action: string(e.Action), Reason: e.Reason, Keeper: e.Keeper, Fingerprint: e.Fingerprint,
		}},
	})
}

// UserEvent implements secgossip.Observer.
func (o *observer) UserEvent(e secgossip.Event) {
	o.logger.Info("user event", "event", e.Name, "event_id", hex.EncodeToString(e.ID[:]), "principal", e.Principal)
	if o.events != nil && o.events.gathers(e, o.nowFunc()) {
		o.events.add(e)
		return
	}
	o.userEvent(e)
}

// userEvent delivers an event.
func (o *observer) userEvent(e secgossip.Event) {
	id := hex.EncodeToString(e.ID[:])
	o.passedOn(o.runner.user(e))
	o.hub.publish(handler.Event{Kind: handler.KindUser, Name: e.Name}, &secgossipv1.EventRecord{
		Seen: timestamppb.New(o.nowFunc()),
		Kind: &secgossipv1.EventRecord_User{User: &secgossipv1.UserEvent{
			EventId:      id,
			Ltime:        e.LTime,
			Name:         e.Name,
			Payload:      e.Payload,
			Coalesce:     e.Coalesce,
			Principal:    e.Principal,
			PrincipalKey: keyDigest(e.ClientKey),
			TokenId:      hex.EncodeToString(e.TokenID[:]),
			Issued:       timestamppb.New(e.Issued),
			Expires:      timestamppb.New(e.Expires),
			Origin:       e.Origin,
		}},
	})
}

// passedOn says that handlers are not told of something. When the runner is gone this
// process is about to end, and nobody need be told.
func (o *observer) passedOn(err error) {
	if err != nil && !errors.Is(err, link.ErrClosed) {
		o.logger.Error("event not passed on to handlers", "error", err)
	}
}

// memberMessage is a member as the RPC contract has it.
func memberMessage(m secgossip.Member) *secgossipv1.Member {
	out := &secgossipv1.Member{
		Name:         m.Name,
		Port:         uint32(m.Endpoint.Port()),
		Status:       string(m.Status),
		Tags:         maps.Clone(m.Tags),
		Epoch:        m.Epoch,
		PrincipalKey: keyDigest(m.Key),
		Path:         string(m.Path),

		RecordSequence: m.Sequence,
		Flapping:       m.Flapping,
	}
	if m.Endpoint.IsValid() {
		out.Addr = m.Endpoint.Addr().String()
	}
	return out
}

func keyDigest(key [32]byte) string {
	sum := sha256.Sum256(key[:])
	return hex.EncodeToString(sum[:])
}
