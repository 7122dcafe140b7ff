package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
)

// rttView is an estimate as --json shows it.
type rttView struct {
	From  string  `json:"from"`
	To    string  `json:"to"`
	Milli float64 `json:"rtt_ms"`
}

func newRTTCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "rtt NODE [NODE]",
		Short: "Estimate the round trip between two nodes",
		Long: `Estimate the round trip between two nodes, by the network coordinates that
members tell each other with each answer to a probe. Without a second name it is
the agent's own node.`,
		Example: "  secgossip rtt web-1 web-2",
		Args:    usageArgs(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			request := &secgossipv1.EstimateRoundTripRequest{From: args[0]}
			if len(args) > 1 {
				request.To = args[1]
			}
			return e.call(cmd.Context(), func(ctx context.Context, s *session) error {
				answer, err := s.EstimateRoundTrip(ctx, request)
				if err != nil {
					return err
				}
				view := rttView{From: answer.GetFrom(), To: answer.GetTo(), Milli: 1000 * answer.GetRttS()}
				return e.print(view, func(w io.Writer) {
					fmt.Fprintf(w, "Estimated %s <-> %s rtt: %.3f ms\n", safe(view.From), safe(view.To), view.Milli)
				})
			})
		},
	}
}
