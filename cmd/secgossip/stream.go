package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/rpcauth"
)

// recordView is one line of stream --json.
type recordView struct {
	Seen      time.Time    `json:"seen"`
	Type      string       `json:"type"`
	EventID   string       `json:"event_id,omitempty"`
	LTime     uint64       `json:"ltime,omitempty"`
	Name      string       `json:"name,omitempty"`
	Payload   []byte       `json:"payload,omitempty"` // base64
	Principal string       `json:"principal,omitempty"`
	Origin    string       `json:"origin,omitempty"` // the node that took it in
	Members   []memberView `json:"members,omitempty"`
	Epoch     uint64       `json:"epoch,omitempty"`
	Action    string       `json:"action,omitempty"` // install, use or remove
	Reason    string       `json:"reason,omitempty"`
	Keeper    string       `json:"keeper,omitempty"`
}

func newStreamCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "stream [FILTER...]",
		Short: "Show events as they happen",
		Long: `stream shows events, queries and member changes until it is stopped. A FILTER is
what an event handler takes, also several with commas between them: user,
user:NAME, query, query:NAME, member-join, member-leave, member-failed,
member-update, member-reap, member-evict, member-quarantine, epoch or *. With a
filter for queries the agent waits for an answer by respond until each query's
deadline.`,
		Example: "  secgossip stream user:deploy member-failed,member-leave",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			var filters []string
			for _, arg := range args {
				filters = append(filters, strings.Split(arg, ",")...)
			}
			open := func(ctx context.Context, s *session) (receiver[*secgossipv1.StreamEventsResponse], error) {
				return s.StreamEvents(ctx, &secgossipv1.StreamEventsRequest{Filters: filters})
			}
			return follow(cmd.Context(), e, open, e.show)
		},
	}
}

// receiver is a stream of an agent's.
type receiver[T any] interface{ Receive() (T, error) }

// follow opens a stream and shows what comes until somebody stops this command.
func follow[T any](ctx context.Context, e *env, open func(context.Context, *session) (receiver[T], error), show func(T) error) error {
	s, err := e.connect()
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	stream, err := open(ctx, s)
	if err != nil {
		return s.explain(err)
	}
	for {
		batch, err := stream.Receive()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return s.streamEnd(err)
		}
		if err := show(batch); err != nil {
			return err
		}
	}
}

// streamEnd is what an ended stream means: the agent went away, if it gives no
// other reason.
func (s *session) streamEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the agent at %s ended the stream", errUnreachable, s.addr)
	}
	return s.explain(err)
}

func (e *env) show(batch *secgossipv1.StreamEventsResponse) error {
	if n := batch.GetDropped(); n > 0 {
		fmt.Fprintf(e.stderr, "secgossip: %d records were lost because they were not read in time\n", n)
	}
	for _, record := range batch.GetRecords() {
		view := viewOf(record)
		if e.json {
			if err := json.NewEncoder(e.stdout).Encode(view); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintln(e.stdout, line(view)); err != nil {
			return err
		}
	}
	return nil
}

func viewOf(record *secgossipv1.EventRecord) recordView {
	view := recordView{Seen: record.GetSeen().AsTime()}
	if u := record.GetUser(); u != nil {
		view.Type, view.EventID, view.LTime = "user", u.GetEventId(), u.GetLtime()
		view.Name, view.Payload, view.Principal = u.GetName(), u.GetPayload(), u.GetPrincipal()
		view.Origin = u.GetOrigin()
	}
	if q := record.GetQuery(); q != nil {
		view.Type, view.EventID, view.LTime = "query", q.GetQueryId(), q.GetLtime()
		view.Name, view.Payload, view.Principal = q.GetName(), q.GetPayload(), q.GetPrincipal()
	}
	if e := record.GetEpoch(); e != nil {
		view.Type, view.Epoch, view.Action, view.Reason, view.Keeper = "epoch", e.GetNumber(), e.GetAction(), e.GetReason(), e.GetKeeper()
	}
	if m := record.GetMember(); m != nil {
		view.Type = m.GetType()
		var all memberFilter
		if err := all.compile(); err == nil {
			view.Members = all.choose(m.GetMembers())
		}
	}
	return view
}

// line is one record for a person.
func line(v recordView) string {
	head := v.Seen.UTC().Format(time.RFC3339) + " " + safe(v.Type)
	if v.Type == "user" {
		return fmt.Sprintf("%s %s by %s: %s", head, safe(v.Name), safe(v.Principal), payloadText(v.Payload))
	}
	if v.Type == "query" {
		return fmt.Sprintf("%s %s %s by %s: %s", head, safe(v.EventID), safe(v.Name), safe(v.Principal), payloadText(v.Payload))
	}
	if v.Type == "epoch" {
		return fmt.Sprintf("%s %s %d by %s: %s", head, safe(v.Action), v.Epoch, safe(v.Keeper), safe(v.Reason))
	}
	for _, m := range v.Members {
		head += " " + safe(m.Name)
	}
	return head
}

// payloadText shows a payload on one line: as text if it is that.
func payloadText(payload []byte) string {
	if len(payload) > rpcauth.MaxEventPayload {
		return fmt.Sprintf("%d bytes, SHA-256 %x", len(payload), sha256.Sum256(payload))
	}
	if text := safe(string(payload)); text == string(payload) {
		return text
	}
	if len(payload) > 32 {
		return hex.EncodeToString(payload[:32]) + "…"
	}
	return hex.EncodeToString(payload)
}
