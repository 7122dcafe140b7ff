package agent

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"google.golang.org/protobuf/types/known/timestamppb"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/handler"
	"github.com/secgossip/secgossip/secgossip"
)

// Query implements secgossip.Observer. Handlers and streams answer later.
func (o *observer) Query(q secgossip.Query) {
	id := hex.EncodeToString(q.ID[:])
	o.logger.Info("query", "query", q.Name, "event_id", id, "principal", q.Principal)
	o.hub.publish(handler.Event{Kind: handler.KindQuery, Name: q.Name}, &secgossipv1.EventRecord{
		Seen: timestamppb.New(o.nowFunc()),
		Kind: &secgossipv1.EventRecord_Query{Query: &secgossipv1.Query{
			QueryId:      id,
			Ltime:        q.LTime,
			Name:         q.Name,
			Payload:      q.Payload,
			Principal:    q.Principal,
			PrincipalKey: keyDigest(q.ClientKey),
			TokenId:      hex.EncodeToString(q.TokenID[:]),
			Origin:       q.Origin,
			Deadline:     timestamppb.New(q.Deadline),
		}},
	})
	o.passedOn(o.runner.query(q))
}

// answers brings what handlers say to the node.
type answers struct {
	// node is nil until the node has started. A query of that very moment is answered
	// by nobody.
	node   atomic.Pointer[secgossip.Node]
	hub    *hub
	logger *slog.Logger
}

// take takes the one answer of the handlers to a query.
func (a *answers) take(answer handler.Answer) {
	node := a.node.Load()
	id, err := parseQueryID(answer.QueryID)
	if node == nil || err != nil {
		return
	}
	if answer.Found {
		err = node.Answer(id, answer.Output)
	} else {
		err = a.none(node, id)
	}
	if err != nil { // its time is over, or a stream was first
		a.logger.Debug("query not answered", "event_id", answer.QueryID, "error", err)
	}
}

// none says that there is no answer, unless a client may still have one.
func (a *answers) none(node *secgossip.Node, id secgossip.QueryID) error {
	query, err := node.OpenQuery(id)
	if err != nil || a.hub.answers(query.Name) {
		return err
	}
	return node.NoAnswer(id)
}

// parseQueryID reads an id as people have it.
func parseQueryID(text string) (secgossip.QueryID, error) {
	var id secgossip.QueryID
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(id) {
		return id, fmt.Errorf("query id %.40q: %w", text, errQueryID)
	}
	return secgossip.QueryID(raw), nil
}

var errQueryID = errors.New("32 hexadecimal digits are one")
