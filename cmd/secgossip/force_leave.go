package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/rpcauth"
)

func newForceLeaveCmd(e *env) *cobra.Command {
	var prune bool
	cmd := &cobra.Command{
		Use:   "force-leave NODE",
		Short: "Have a member that failed count as one that left",
		Long: `force-leave signs, with your key and your token, that a failed member is gone, and
hands that to the agent. Every node checks it itself and looks for the member no
longer. With --prune the member, failed or left, is forgotten at once. It holds for
what the member has signed so far: one that lives refutes it, and one that comes back
is a member again. To keep it out, evict it.`,
		Example: "  secgossip force-leave --prune web-7",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.call(cmd.Context(), func(ctx context.Context, s *session) error { return e.forceLeave(ctx, s, args[0], prune) })
		},
	}
	cmd.Flags().BoolVar(&prune, "prune", false, "forget the member, and do not only count it as left")
	return cmd
}

func (e *env) forceLeave(ctx context.Context, s *session, node string, prune bool) error {
	now := time.Now()
	if err := s.operator.CheckToken(now); err != nil {
		return err
	}
	token, err := rpcauth.ParseTokenText(s.operator.Token)
	if err != nil {
		return err
	}
	answer, err := s.ListMembers(ctx, new(secgossipv1.ListMembersRequest))
	if err != nil {
		return err
	}
	for _, m := range answer.GetMembers() {
		if m.GetName() != node {
			continue
		}
		req := rpcauth.RemovalRequest{Cluster: s.operator.Trust.Cluster(), Node: node, Sequence: m.GetRecordSequence(), Prune: prune}
		if n, err := hex.Decode(req.Key[:], []byte(m.GetPrincipalKey())); err != nil || n != len(req.Key) {
			return fmt.Errorf("the agent tells no key of %q", node)
		}
		removal, err := rpcauth.SignRemoval(s.operator.Key, token, req, now)
		if err != nil {
			return err
		}
		done, err := s.ForceLeave(ctx, &secgossipv1.ForceLeaveRequest{Removal: removal})
		if err != nil {
			return err
		}
		view := struct {
			Node   string `json:"node"`
			Status string `json:"status,omitempty"`
			Pruned bool   `json:"pruned"`
		}{node, done.GetStatus(), prune}
		return e.print(view, func(w io.Writer) {
			if prune {
				fmt.Fprintf(w, "%s: forgotten\n", safe(node))
				return
			}
			fmt.Fprintf(w, "%s: %s\n", safe(node), safe(view.Status))
		})
	}
	return &home.Problem{
		Err:  fmt.Errorf("no member is called %q", node),
		Next: "`secgossip members` lists those that the agent knows",
	}
}
