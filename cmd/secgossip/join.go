package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
)

// joinView is what became of a join, as --json shows it.
type joinView struct {
	Contacted uint32            `json:"contacted"`
	Failures  []joinFailureView `json:"failures"`
}

type joinFailureView struct {
	Address string `json:"address"`
	Reason  string `json:"reason"`
}

func newJoinCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "join ADDRESS...",
		Short: "Make the agent join the cluster by the addresses of members",
		Long: `join makes the agent contact each address, HOST:PORT or a host. Whatever answers
there must prove to be a node of the cluster. It fails only if none does.`,
		Example: "  secgossip join 203.0.113.7 203.0.113.8:7946",
		Args:    usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.call(cmd.Context(), func(ctx context.Context, s *session) error { return e.join(ctx, s, args) })
		},
	}
}

func (e *env) join(ctx context.Context, s *session, addresses []string) error {
	answer, err := s.Join(ctx, &secgossipv1.JoinRequest{Addresses: addresses})
	if err != nil {
		return err
	}
	view := joinView{Contacted: answer.GetContacted(), Failures: []joinFailureView{}}
	for _, f := range answer.GetFailures() {
		view.Failures = append(view.Failures, joinFailureView{Address: f.GetAddress(), Reason: f.GetReason()})
		fmt.Fprintf(e.stderr, "%s: %s\n", safe(f.GetAddress()), safe(f.GetReason()))
	}
	if view.Contacted == 0 {
		return fmt.Errorf("nobody answered at any of %d addresses", len(addresses))
	}
	return e.print(view, func(w io.Writer) {
		fmt.Fprintf(w, "Successfully joined cluster by contacting %d nodes.\n", view.Contacted)
	})
}
