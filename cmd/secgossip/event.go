package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/rpcauth"
)

func newEventCmd(e *env) *cobra.Command {
	var coalesce bool
	var nodes []string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "event NAME [PAYLOAD]",
		Short: "Fire an event on every host",
		Long: `event signs an event with your key and your token and hands it to the agent.
Every host checks signature and token itself before it runs a handler for it.
PAYLOAD - reads the payload from stdin. It prints the event's id.`,
		Example: "  secgossip event deploy v1.2.3",
		Args:    usageArgs(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			payload, err := e.payload(args[1:])
			if err != nil {
				return err
			}
			return e.call(cmd.Context(), func(ctx context.Context, s *session) error {
				now := time.Now()
				// What is wrong with the token would look like a wrong event.
				if err := s.operator.CheckToken(now); err != nil {
					return err
				}
				token, err := rpcauth.ParseTokenText(s.operator.Token)
				if err != nil {
					return err
				}
				about, err := s.PrepareEvent(ctx, new(secgossipv1.PrepareEventRequest))
				if err != nil {
					return err
				}
				event, err := rpcauth.SignEvent(s.operator.Key, token, rpcauth.EventRequest{
					Cluster:  s.operator.Trust.Cluster(),
					Name:     args[0],
					Payload:  payload,
					Nodes:    nodes,
					LTime:    rpcauth.LamportTime(now, about.GetLtime()),
					Life:     ttl,
					Coalesce: coalesce,
				}, now)
				if err != nil {
					return fmt.Errorf("%w: %w", errUsage, err)
				}
				answer, err := s.FireEvent(ctx, &secgossipv1.FireEventRequest{Event: event})
				if err != nil {
					return err
				}
				return e.print(struct {
					EventID string `json:"event_id"`
					LTime   uint64 `json:"ltime"`
				}{answer.GetEventId(), answer.GetLtime()}, func(w io.Writer) {
					fmt.Fprintf(w, "Event '%s' dispatched! Coalescing enabled: %t\n%s\n", args[0], coalesce, answer.GetEventId())
				})
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&coalesce, "coalesce", true, "a later event of the same name may stand for this one")
	flags.StringArrayVar(&nodes, "node", nil, "only on this node; repeat for more")
	flags.DurationVar(&ttl, "ttl", rpcauth.DefaultEventLife, "how long hosts accept the event")
	return cmd
}

// payload is the payload argument, or stdin for -.
func (e *env) payload(args []string) ([]byte, error) {
	if len(args) == 0 {
		return nil, nil
	}
	if args[0] != "-" {
		return []byte(args[0]), nil
	}
	return e.stdinUpTo(rpcauth.MaxEventPayload)
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
