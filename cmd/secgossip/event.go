package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/spf13/cobra"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/rpcauth"
)

// firedView is what event --json shows.
type firedView struct {
	EventID   string    `json:"event_id"`
	LTime     uint64    `json:"ltime"`
	Confirmed *[]string `json:"confirmed,omitempty"` // with --wait alone
	Missing   *[]string `json:"missing,omitempty"`
}

// defaultWait is how long --wait waits unless it says otherwise: longer than any node
// takes that is well.
const defaultWait = 10 * time.Second

func newEventCmd(e *env) *cobra.Command {
	var req rpcauth.EventRequest
	var tags []string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "event NAME [PAYLOAD]",
		Short: "Fire an event on every host",
		Long: `event signs an event with your key and your token and hands it to the agent.
Every host checks signature and token itself before it runs a handler for it.
PAYLOAD - reads the payload from stdin, up to 1 MiB. It prints the event's id.

While the agent is busy the same event is fired again, a few times. With --wait it
ends when every host that is alive and meant has said that it has the event. Exit
code 5 means that some hosts stayed silent.`,
		Example: "  secgossip event --tag role=web.* --wait deploy v1.2.3",
		Args:    usageArgs(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.Payload, err = e.payload(args[1:], rpcauth.MaxLargePayload); err != nil {
				return err
			}
			if req.Tags, err = tagFilters(tags); err != nil {
				return err
			}
			if waits := cmd.Flags().Changed("wait"); waits && (wait < time.Millisecond || wait > rpcauth.MaxEventLife) {
				return fmt.Errorf("%w: --wait=%v: 1ms to %v are allowed", errUsage, wait, rpcauth.MaxEventLife)
			}
			if cmd.Flags().Changed("ttl") && req.Life <= 0 {
				return fmt.Errorf("%w: --ttl=%v: an event that nobody would take", errUsage, req.Life)
			}
			req.Name = args[0]
			return e.event(cmd.Context(), req, wait)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&req.Coalesce, "coalesce", true, "a later event of the same name may stand for this one")
	flags.StringArrayVar(&req.Nodes, "node", nil, "only on this node; repeat for more")
	flags.StringArrayVar(&tags, "tag", nil, "`NAME=EXPRESSION`: only on nodes whose tag matches; repeat for more")
	flags.DurationVar(&req.Life, "ttl", rpcauth.DefaultEventLife, "how long hosts accept the event")
	flags.DurationVar(&wait, "wait", 0, "wait until every host has it, so long at most: `DURATION` behind =")
	flags.Lookup("wait").NoOptDefVal = defaultWait.String()
	return cmd
}

// tagFilters reads what --tag says.
func tagFilters(texts []string) (filters []rpcauth.TagFilter, err error) {
	for _, text := range texts {
		filter, err := rpcauth.ParseTagFilter(text)
		if err != nil {
			return nil, fmt.Errorf("%w: --tag: %w", errUsage, err)
		}
		filters = append(filters, filter)
	}
	return filters, nil
}

// event fires an event, says so, and waits for the hosts if that is asked for.
func (e *env) event(ctx context.Context, req rpcauth.EventRequest, wait time.Duration) error {
	if err := req.Check(); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	s, err := e.connect()
	if err != nil {
		return err
	}
	defer s.Close()
	raw, view, err := s.fire(ctx, req, e.warn)
	if err != nil {
		return s.explain(err)
	}
	say := func(w io.Writer) {
		fmt.Fprintf(w, "Event '%s' dispatched! Coalescing enabled: %t\n%s\n", req.Name, req.Coalesce, view.EventID)
	}
	if wait == 0 {
		return e.print(view, say)
	}
	if !e.json {
		say(e.stdout)
	}
	progress := newProgress(e.stderr, time.Now())
	confirmed, missing, err := s.follow(ctx, raw, wait, progress)
	if err == nil {
		view.Confirmed, view.Missing = &confirmed, &missing
	}
	if printed := e.print(view, func(w io.Writer) {
		if err == nil {
			fmt.Fprintf(w, "%d of %d nodes have it.\n", len(confirmed), len(confirmed)+len(missing))
			table(w, progress.rows())
		}
	}); printed != nil {
		return printed
	}
	if err != nil {
		return fmt.Errorf("the event was fired; who has it is not known: %w", err)
	}
	return silent(missing, "`secgossip members` shows how they are; whoever comes back before the event expires gets it then")
}

// fire signs an event and hands it to the agent.
func (s *session) fire(ctx context.Context, req rpcauth.EventRequest, warn func(string)) ([]byte, firedView, error) {
	now := time.Now()
	// What is wrong with the token would look like a wrong event.
	if err := s.operator.CheckToken(now); err != nil {
		return nil, firedView{}, err
	}
	token, err := rpcauth.ParseTokenText(s.operator.Token)
	if err != nil {
		return nil, firedView{}, err
	}
	asking, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	about, err := s.PrepareEvent(asking, new(secgossipv1.PrepareEventRequest))
	if err != nil {
		return nil, firedView{}, err
	}
	req.Cluster, req.LTime = s.operator.Trust.Cluster(), rpcauth.LamportTime(now, about.GetLtime())
	raw, err := rpcauth.SignEvent(s.operator.Key, token, req, now)
	if err != nil {
		return nil, firedView{}, fmt.Errorf("%w: %w", errUsage, err)
	}
	id, err := rpcauth.EventID(raw)
	if err != nil {
		return nil, firedView{}, err
	}
	message := &secgossipv1.FireEventRequest{Event: raw}
	if len(req.Payload) > rpcauth.MaxEventPayload {
		message.Payload = req.Payload
	}
	view := firedView{EventID: id, LTime: req.LTime}
	err = whileBusy(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, s.timeout)
		defer cancel()
		answer, err := s.FireEvent(ctx, message)
		if err == nil {
			view.LTime = answer.GetLtime()
		}
		return err
	}, warn)
	return raw, view, err
}

const (
	// busyTries is how often an event is fired at an agent that is busy, and busyPause
	// the first pause between two of them, which doubles: 6.3 s in all.
	busyTries = 7
	busyPause = 100 * time.Millisecond
)

// whileBusy fires an event again as long as the agent says that it is busy, so often at
// most. That is safe: a node takes an event once, however often it is fired.
func whileBusy(ctx context.Context, fire func() error, warn func(string)) error {
	begun := time.Now()
	for try := 1; ; try++ {
		err := fire()
		var answer *connect.Error
		if !errors.As(err, &answer) || !answer.IsRemote() {
			return err
		}
		switch code := answer.Code(); {
		case code == connect.CodeAlreadyExists && try > 1:
			return nil // it had taken it, and was too slow to say so
		case code != connect.CodeResourceExhausted:
			return err
		case try == busyTries:
			return &home.Problem{
				Err:  fmt.Errorf("the agent stayed busy: fired %d times within %v, and it says: %s", try, time.Since(begun).Round(100*time.Millisecond), answer.Message()),
				Next: "the event counts as not sent; fire fewer at a time, or later. `secgossip info` shows event_queue",
			}
		}
		pause := busyPause << (try - 1)
		warn(fmt.Sprintf("the agent is busy (%s); the same event is fired again in %v", safe(answer.Message()), pause))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// follow waits until every node that the event is for has said that it has it.
func (s *session) follow(ctx context.Context, raw []byte, wait time.Duration, progress *progress) (confirmed, missing []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, wait+s.timeout)
	defer cancel()
	stream, err := s.FollowEvent(ctx, &secgossipv1.FollowEventRequest{Event: raw, TimeoutMs: uint64(wait / time.Millisecond)})
	if err != nil {
		return nil, nil, s.explain(err)
	}
	confirmed, missing = []string{}, []string{}
	for {
		batch, err := stream.Receive()
		if err != nil {
			return nil, nil, s.streamEnd(err)
		}
		for _, name := range batch.GetTargets() {
			progress.set(nodeProgress{name: safe(name), state: "waiting"})
		}
		for _, name := range batch.GetConfirmed() {
			confirmed = append(confirmed, name)
			progress.note(safe(name), "has it", "", time.Now())
		}
		if summary := batch.GetSummary(); summary != nil {
			missing = append(missing, summary.GetMissing()...)
			for _, name := range missing {
				progress.set(nodeProgress{name: safe(name), state: "silent"})
			}
			slices.Sort(confirmed)
			return confirmed, missing, nil
		}
	}
}

// payload is the payload argument, or stdin for -, of which so many bytes are read at most.
func (e *env) payload(args []string, most int64) ([]byte, error) {
	if len(args) == 0 {
		return nil, nil
	}
	if args[0] != "-" {
		return []byte(args[0]), nil
	}
	return e.stdinUpTo(most)
}

// stdinUpTo reads all of stdin.
func (e *env) stdinUpTo(most int64) ([]byte, error) {
	// One byte more than fits, so that a longer payload is refused and not cut.
	payload, err := io.ReadAll(io.LimitReader(e.stdin, most+1))
	if int64(len(payload)) > most {
		return nil, fmt.Errorf("%w: the payload on stdin has more than %d bytes, which is the most", errUsage, most)
	}
	return payload, err
}
