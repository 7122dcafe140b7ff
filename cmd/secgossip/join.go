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
	req := new(secgossipv1.JoinRequest)
	cmd := &cobra.Command{
		Use:   "join ADDRESS...",
		Short: "Make the agent join the cluster by the addresses of members",
		Long: `join makes the agent contact each address, HOST:PORT or a host. Whatever answers
there must prove to be a node of the cluster. It fails only if none does.`,
		Example: "  secgossip join 203.0.113.7 203.0.113.8:7946",
		Args:    usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Addresses = args
			return e.call(cmd.Context(), func(ctx context.Context, s *session) error { return e.join(ctx, s, req) })
		},
	}
	return cmd
}

func (e *env) join(ctx context.Context, s *session, req *secgossipv1.JoinRequest) error {
	answer, err := s.Join(ctx, req)
	if err != nil {
		return err
	}
	view := joinView{Contacted: answer.GetContacted(), Failures: []joinFailureView{}}
	for _, f := range answer.GetFailures() {
		view.Failures = append(view.Failures, joinFailureView{Address: f.GetAddress(), Reason: f.GetReason()})
		fmt.Fprintf(e.stderr, "%s: %s\n", safe(f.GetAddress()), safe(f.GetReason()))
	}
	if view.Contacted == 0 {
		return fmt.Errorf("nobody answered at any of %d addresses", len(req.GetAddresses()))
	}
	return e.print(view, func(w io.Writer) {
		fmt.Fprintf(w, "Successfully joined cluster by contacting %d nodes.\n", view.Contacted)
	})
}
