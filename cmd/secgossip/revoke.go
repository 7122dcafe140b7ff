package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/spf13/cobra"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/pki"
)

func newEvictCmd(e *env) *cobra.Command {
	var list bool
	req := &secgossipv1.RevokeRequest{Verb: "evict"}
	cmd := e.revokeCmd(&cobra.Command{
		Use:   "evict NAME",
		Short: "Take the identity of a node or client back; it may be issued anew",
		Long: `evict makes void what was issued to a name, or with its key, until now: sessions are
closed, every member refuses it, and a new epoch is made that it does not get. What
is issued to it later is good. It runs in the agent, which must be a keeper's;
stopping this command does not stop it. Exit code 5: done, and the nodes that are
named, failed ones among them, have not confirmed it yet.`,
		Example: "  secgossip evict web-7 --reason stolen",
	}, req)
	cmd.Args = usageArgs(func(cmd *cobra.Command, args []string) error {
		if list {
			return cobra.NoArgs(cmd, args)
		}
		return cobra.ExactArgs(1)(cmd, args)
	})
	revoke := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if list {
			return e.call(cmd.Context(), e.listRevocations)
		}
		return revoke(cmd, args)
	}
	cmd.Flags().BoolVar(&list, "list", false, "list what is taken back, and change nothing")
	return cmd
}

func newBanCmd(e *env) *cobra.Command {
	return e.revokeCmd(&cobra.Command{
		Use:   "ban NAME",
		Short: "Take the identity of a node or client back, and whatever is issued to it later",
		Long: `ban is evict that holds for what is issued later too, to this name with any key and
with this key in any name, until unban.`,
		Example: "  secgossip ban web-7",
		Args:    usageArgs(cobra.ExactArgs(1)),
	}, &secgossipv1.RevokeRequest{Verb: "ban"})
}

func newUnbanCmd(e *env) *cobra.Command {
	return e.revokeCmd(&cobra.Command{
		Use:     "unban NAME",
		Short:   "End a ban: what is issued from now on is good",
		Example: "  secgossip unban web-7",
		Args:    usageArgs(cobra.ExactArgs(1)),
	}, &secgossipv1.RevokeRequest{Verb: "unban"})
}

// maxReason is what a revocation has room for, in bytes.
const maxReason = 64

// revokeCmd makes a command that has an identity taken back. Its argument is the name.
func (e *env) revokeCmd(cmd *cobra.Command, req *secgossipv1.RevokeRequest) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !cmd.Flags().Changed("timeout") {
			e.timeout = rotateTimeout
		}
		req.Name = args[0]
		if _, err := pki.ParseName(req.Name); err != nil {
			return fmt.Errorf("%w: %s %.64q: %w", errUsage, req.GetVerb(), req.GetName(), err)
		}
		if len(req.GetReason()) > maxReason {
			return fmt.Errorf("%w: --reason of %d bytes: at most %d", errUsage, len(req.GetReason()), maxReason)
		}
		return e.call(cmd.Context(), func(ctx context.Context, s *session) error { return e.revoke(ctx, s, req) })
	}
	cmd.Flags().BoolVar(&req.Client, "client", false, "NAME is a client's, not a node's")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "`TEXT` for whoever looks later, at most 64 bytes")
	return cmd
}

// revokedView is what became of a revocation, as --json shows it.
type revokedView struct {
	Revocations []revocationView `json:"revocations"`
	Confirmed   []string         `json:"confirmed"`
	Missing     []string         `json:"missing"`
	Epoch       uint64           `json:"epoch"`
	Fingerprint string           `json:"fingerprint"`
}

// revocationView is a revocation as --json shows it.
type revocationView struct {
	Verb         string    `json:"verb"`
	Kind         string    `json:"kind"`
	Name         string    `json:"name"`
	PrincipalKey string    `json:"principal_key,omitempty"`
	Before       time.Time `json:"before"`
	Keeper       string    `json:"keeper"`
	Issued       time.Time `json:"issued"`
	Reason       string    `json:"reason"`
}

func (e *env) revoke(ctx context.Context, s *session, req *secgossipv1.RevokeRequest) error {
	answer, err := s.Revoke(ctx, req)
	if connect.CodeOf(err) == connect.CodeAborted {
		return &home.Problem{Err: err, Next: "nothing has to be revoked again; `secgossip status` shows what keeps the epoch from coming"}
	}
	if connect.CodeOf(err) == connect.CodeFailedPrecondition {
		return &home.Problem{Err: err, Next: "a revocation is signed by a keeper; name a keeper's agent by --rpc-addr"}
	}
	if err != nil {
		return err
	}
	view := revokedView{
		Revocations: revocationViews(answer.GetRevocations()),
		Confirmed:   append([]string{}, answer.GetConfirmed()...), Missing: append([]string{}, answer.GetMissing()...),
		Epoch: answer.GetEpoch(), Fingerprint: answer.GetFingerprint(),
	}
	err = e.print(view, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s. Epoch %d (%s) is in use.\n", safe(req.GetName()), doneTo(req.GetVerb()), view.Epoch, safe(view.Fingerprint))
		rows := [][]string{{"NODE", "STATE"}}
		for _, name := range view.Confirmed {
			rows = append(rows, []string{safe(name), "confirmed"})
		}
		for _, name := range view.Missing {
			rows = append(rows, []string{safe(name), "not reached"})
		}
		table(w, rows)
	})
	if err != nil {
		return err
	}
	return silent(view.Missing, "nothing is to be done about nodes that come back: they learn of it from the first member they meet")
}

func doneTo(verb string) string {
	if verb == "evict" {
		return "evicted"
	}
	return verb + "ned"
}

func (e *env) listRevocations(ctx context.Context, s *session) error {
	answer, err := s.ListRevocations(ctx, new(secgossipv1.ListRevocationsRequest))
	if err != nil {
		return err
	}
	views := revocationViews(answer.GetRevocations())
	return e.print(map[string][]revocationView{"revocations": views}, func(w io.Writer) {
		rows := [][]string{{"NAME", "KIND", "VERB", "SINCE", "KEEPER", "REASON"}}
		for _, v := range views {
			rows = append(rows, []string{
				safe(v.Name), v.Kind, safe(v.Verb), v.Issued.UTC().Format(time.RFC3339), safe(v.Keeper), safe(v.Reason),
			})
		}
		table(w, rows)
	})
}

func revocationViews(all []*secgossipv1.Revocation) []revocationView {
	views := []revocationView{}
	for _, r := range all {
		kind := "node"
		if r.GetClient() {
			kind = "client"
		}
		views = append(views, revocationView{
			Verb: r.GetVerb(), Kind: kind, Name: r.GetName(), PrincipalKey: r.GetPrincipalKey(), Before: r.GetBefore().AsTime(),
			Keeper: r.GetKeeper(), Issued: r.GetIssued().AsTime(), Reason: r.GetReason(),
		})
	}
	return views
}
