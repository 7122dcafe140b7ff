package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/spf13/cobra"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/internal/home"
)

func newKeysCmd(e *env) *cobra.Command {
	return group("keys", "Look at gossip epochs and rotate them", "  secgossip keys list",
		newRotateCmd(e), newKeysListCmd(e))
}

// rotateTimeout is how long a rotation may take when --timeout does not say.
const rotateTimeout = 2 * time.Minute

func newRotateCmd(e *env) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Start a new gossip epoch and remove the old one",
		Long: `rotate makes a new epoch: every live node installs it, then seals with it, then
the old one is removed. It runs in the agent, which must be a keeper's; stopping
this command does not stop it. Exit code 5: it is in use, and the nodes that are
named, failed ones among them, do not use it yet; they fetch it by themselves.`,
		Example: "  secgossip keys rotate --dry-run",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("timeout") {
				e.timeout = rotateTimeout
			}
			return e.call(cmd.Context(), func(ctx context.Context, s *session) error {
				return e.rotate(ctx, s, dryRun)
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "change nothing; say which members a rotation would reach")
	return cmd
}

// summaryView is the result of a rotation as --json shows it.
type summaryView struct {
	Epoch       uint64   `json:"epoch"`
	Previous    uint64   `json:"previous"`
	Fingerprint string   `json:"fingerprint,omitempty"`
	Using       uint32   `json:"using"`
	Missing     []string `json:"missing"`
	Removed     bool     `json:"removed"`
	DurationMS  uint64   `json:"duration_ms"`
}

func (e *env) rotate(ctx context.Context, s *session, dryRun bool) error {
	stream, err := s.RotateKeys(ctx, &secgossipv1.RotateKeysRequest{DryRun: dryRun})
	if err != nil {
		return err
	}
	var summary *secgossipv1.RotationSummary
	for summary == nil {
		message, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return errors.New("the agent ended the rotation without a result")
		}
		if connect.CodeOf(err) == connect.CodeFailedPrecondition {
			return &home.Problem{Err: err, Next: "a rotation starts on a keeper, and one at a time; name a keeper's agent by --rpc-addr"}
		}
		if err != nil {
			return err
		}
		for _, p := range message.GetProgress() {
			fmt.Fprintf(e.stderr, "%s: %s%s\n", safe(p.GetNode()), safe(p.GetState()), detail(p.GetDetail()))
		}
		summary = message.GetSummary()
	}
	view := summaryView{
		Epoch: summary.GetEpoch(), Previous: summary.GetPrevious(), Fingerprint: summary.GetFingerprint(),
		Using: summary.GetUsing(), Missing: append([]string{}, summary.GetMissing()...), Removed: summary.GetRemoved(),
		DurationMS: summary.GetDurationMs(),
	}
	if err := e.print(view, func(w io.Writer) { describeRotation(w, view, dryRun) }); err != nil {
		return err
	}
	if len(view.Missing) > 0 {
		return &home.Problem{
			Err:  fmt.Errorf("%w: %s", errSilent, strings.Join(view.Missing, ", ")),
			Next: "nothing is to be done about nodes that come back: they fetch the epoch from the first member they meet",
		}
	}
	return nil
}

func detail(text string) string {
	if text == "" {
		return ""
	}
	return " (" + safe(text) + ")"
}

func describeRotation(w io.Writer, v summaryView, dryRun bool) {
	if dryRun {
		fmt.Fprintf(w, "A rotation would make epoch %d; nothing was changed.\n", v.Epoch)
		return
	}
	fmt.Fprintf(w, "Epoch %d (%s) is in use on %d nodes after %d ms", v.Epoch, safe(v.Fingerprint), v.Using, v.DurationMS)
	if v.Removed {
		fmt.Fprintf(w, "; epoch %d is removed.\n", v.Previous)
	} else {
		fmt.Fprintf(w, "; epoch %d stays.\n", v.Previous)
	}
}

// epochView is an epoch as --json shows it.
type epochView struct {
	Number      uint64    `json:"number"`
	Primary     bool      `json:"primary"`
	State       string    `json:"state"`
	Created     time.Time `json:"created"`
	Fingerprint string    `json:"fingerprint"`
	HeldBy      uint32    `json:"held_by"`
	Sealed      uint64    `json:"sealed"`
}

func newKeysListCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the epochs the agent holds; no key is ever shown",
		Example: "  secgossip keys list --json",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.call(cmd.Context(), func(ctx context.Context, s *session) error {
				answer, err := s.ListKeys(ctx, new(secgossipv1.ListKeysRequest))
				if err != nil {
					return err
				}
				views := []epochView{}
				for _, k := range answer.GetEpochs() {
					views = append(views, epochView{
						Number: k.GetNumber(), Primary: k.GetPrimary(), State: k.GetState(), Created: k.GetCreated().AsTime(),
						Fingerprint: k.GetFingerprint(), HeldBy: k.GetHeldBy(), Sealed: k.GetSealed(),
					})
				}
				return e.print(map[string][]epochView{"epochs": views}, func(w io.Writer) { table(w, epochRows(views)) })
			})
		},
	}
}

func epochRows(views []epochView) [][]string {
	rows := [][]string{{"EPOCH", "STATE", "CREATED", "FINGERPRINT", "SEEN ON", "SEALED"}}
	for _, v := range views {
		rows = append(rows, []string{
			strconv.FormatUint(v.Number, 10), safe(v.State), v.Created.UTC().Format(time.RFC3339),
			safe(v.Fingerprint), strconv.Itoa(int(v.HeldBy)), strconv.FormatUint(v.Sealed, 10),
		})
	}
	return rows
}
