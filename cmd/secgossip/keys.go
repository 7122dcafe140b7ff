package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/spf13/cobra"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/internal/home"
)

func newKeysCmd(e *env) *cobra.Command {
	return group("keys", "Look at gossip epochs and rotate them", "  secgossip keys list",
		newRotateCmd(e), newKeysInstallCmd(e), newKeysUseCmd(e), newKeysRemoveCmd(e), newKeysListCmd(e), newKeysStatusCmd(e), newResealCmd(e))
}

// rotateTimeout is how long a rotation may take when --timeout does not say.
const rotateTimeout = 2 * time.Minute

func newRotateCmd(e *env) *cobra.Command {
	req := new(secgossipv1.RotateKeysRequest)
	cmd := e.stepCmd(&cobra.Command{
		Use:   "rotate",
		Short: "Start a new gossip epoch and remove the old one",
		Long: `rotate makes a new epoch: every live node installs it, then seals with it, then
the old one is removed. It runs in the agent, which must be a keeper's; stopping
this command does not stop it. Keepers also rotate by themselves, see the agent's
--rotate-every. Exit code 5: it is in use, and the nodes that are named, failed ones
among them, do not use it yet; they fetch it by themselves.`,
		Example: "  secgossip keys rotate --dry-run",
		Args:    usageArgs(cobra.NoArgs),
	}, req)
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "change nothing; say which members a rotation would reach")
	return cmd
}

func newKeysInstallCmd(e *env) *cobra.Command {
	return e.stepCmd(&cobra.Command{
		Use:   "install",
		Short: "Make a new epoch and have every node fetch it",
		Long: `install is the first step of a rotation: a new epoch is made, and every live node
fetches its secret and can open with it. Nobody seals with it before keys use, or
before the epoch in use has had its time.`,
		Example: "  secgossip keys install",
		Args:    usageArgs(cobra.NoArgs),
	}, &secgossipv1.RotateKeysRequest{Step: secgossipv1.RotationStep_ROTATION_STEP_INSTALL})
}

func newKeysUseCmd(e *env) *cobra.Command {
	return e.stepCmd(&cobra.Command{
		Use:     "use [N]",
		Short:   "Have every node seal with an installed epoch, the highest if none is named",
		Example: "  secgossip keys use 7",
		Args:    usageArgs(cobra.MaximumNArgs(1)),
	}, &secgossipv1.RotateKeysRequest{Step: secgossipv1.RotationStep_ROTATION_STEP_USE})
}

func newKeysRemoveCmd(e *env) *cobra.Command {
	return e.stepCmd(&cobra.Command{
		Use:     "remove N",
		Short:   "Have every node forget an epoch that none of them needs",
		Example: "  secgossip keys remove 6",
		Args:    usageArgs(cobra.ExactArgs(1)),
	}, &secgossipv1.RotateKeysRequest{Step: secgossipv1.RotationStep_ROTATION_STEP_REMOVE})
}

// stepCmd makes a command that asks for a rotation, or a step of one. Its argument,
// if it has one, is the epoch's number.
func (e *env) stepCmd(cmd *cobra.Command, req *secgossipv1.RotateKeysRequest) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !cmd.Flags().Changed("timeout") {
			e.timeout = rotateTimeout
		}
		for _, text := range args {
			number, err := strconv.ParseUint(text, 10, 64)
			if err != nil || number == 0 {
				return fmt.Errorf("%w: epoch %q: want its number, as keys list has it", errUsage, text)
			}
			req.Epoch = number
		}
		return e.call(cmd.Context(), func(ctx context.Context, s *session) error { return e.rotate(ctx, s, req) })
	}
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

func (e *env) rotate(ctx context.Context, s *session, req *secgossipv1.RotateKeysRequest) error {
	stream, err := s.RotateKeys(ctx, req)
	if err != nil {
		return err
	}
	progress := newProgress(e.stderr, time.Now())
	var summary *secgossipv1.RotationSummary
	for summary == nil {
		message, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return errors.New("the agent ended the rotation without a result")
		}
		if connect.CodeOf(err) == connect.CodeFailedPrecondition {
			return &home.Problem{Err: err, Next: "a rotation starts on a keeper whose clock is right, and one at a time; name a keeper's agent by --rpc-addr"}
		}
		if err != nil {
			return err
		}
		for _, p := range message.GetProgress() {
			progress.note(safe(p.GetNode()), safe(p.GetState()), detail(p.GetDetail()), time.Now())
		}
		summary = message.GetSummary()
	}
	view := summaryView{
		Epoch: summary.GetEpoch(), Previous: summary.GetPrevious(), Fingerprint: summary.GetFingerprint(),
		Using: summary.GetUsing(), Missing: append([]string{}, summary.GetMissing()...), Removed: summary.GetRemoved(),
		DurationMS: summary.GetDurationMs(),
	}
	err = e.print(view, func(w io.Writer) {
		describeRotation(w, view, req)
		for _, name := range view.Missing {
			progress.missing(safe(name))
		}
		table(w, progress.rows())
	})
	if err != nil {
		return err
	}
	return silent(view.Missing, "nothing is to be done about nodes that come back: they fetch the epoch from the first member they meet")
}

func detail(text string) string {
	if text == "" {
		return ""
	}
	return " (" + safe(text) + ")"
}

func describeRotation(w io.Writer, v summaryView, req *secgossipv1.RotateKeysRequest) {
	took := fmt.Sprintf("on %d nodes after %d ms", v.Using, v.DurationMS)
	switch {
	case req.GetDryRun():
		fmt.Fprintf(w, "A rotation would make epoch %d; nothing was changed.\n", v.Epoch)
	case req.GetStep() == secgossipv1.RotationStep_ROTATION_STEP_INSTALL:
		fmt.Fprintf(w, "Epoch %d (%s) is installed %s; `secgossip keys use` has it used.\n", v.Epoch, safe(v.Fingerprint), took)
	case req.GetStep() == secgossipv1.RotationStep_ROTATION_STEP_REMOVE:
		fmt.Fprintf(w, "Epoch %d is removed %s.\n", v.Epoch, took)
	case v.Removed:
		fmt.Fprintf(w, "Epoch %d (%s) is in use %s; epoch %d is removed.\n", v.Epoch, safe(v.Fingerprint), took, v.Previous)
	default:
		fmt.Fprintf(w, "Epoch %d (%s) is in use %s; epoch %d stays.\n", v.Epoch, safe(v.Fingerprint), took, v.Previous)
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

// statusView is how far everybody is, as --json shows it.
type statusView struct {
	Primary      uint64          `json:"primary"`
	Fingerprint  string          `json:"fingerprint"`
	AgeSeconds   int64           `json:"age_s"`
	RotateEveryS uint64          `json:"rotate_every_s"`
	Keeper       string          `json:"keeper"`
	Nodes        []nodeEpochView `json:"nodes"`
}

type nodeEpochView struct {
	Node   string `json:"node"`
	Status string `json:"status"`
	Epoch  uint64 `json:"epoch"`
	State  string `json:"state"`
}

func newKeysStatusCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show which epoch each node uses, and who rotates next",
		Example: "  secgossip keys status",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.call(cmd.Context(), func(ctx context.Context, s *session) error {
				answer, err := s.ListKeys(ctx, new(secgossipv1.ListKeysRequest))
				if err != nil {
					return err
				}
				view := keysStatus(answer, time.Now())
				return e.print(view, func(w io.Writer) { describeStatus(w, view) })
			})
		},
	}
}

func keysStatus(answer *secgossipv1.ListKeysResponse, now time.Time) statusView {
	v := statusView{RotateEveryS: answer.GetRotateEveryS(), Keeper: answer.GetKeeper(), Nodes: []nodeEpochView{}}
	for _, k := range answer.GetEpochs() {
		if k.GetPrimary() {
			v.Primary, v.Fingerprint = k.GetNumber(), k.GetFingerprint()
			v.AgeSeconds = int64(now.Sub(k.GetCreated().AsTime()).Seconds())
		}
	}
	for _, n := range answer.GetNodes() {
		state := "current"
		switch {
		case n.GetEpoch() == 0:
			state = "not heard yet"
		case n.GetEpoch() < v.Primary:
			state = "behind"
		case n.GetEpoch() > v.Primary:
			state = "ahead"
		}
		v.Nodes = append(v.Nodes, nodeEpochView{n.GetNode(), n.GetStatus(), n.GetEpoch(), state})
	}
	return v
}

func describeStatus(w io.Writer, v statusView) {
	age := time.Duration(v.AgeSeconds) * time.Second
	if v.Primary == 0 {
		fmt.Fprintln(w, "No epoch yet: the agent fetches one from the first member it meets.")
	} else {
		fmt.Fprintf(w, "Epoch %d (%s) is in use, for %s now.\n", v.Primary, safe(v.Fingerprint), age)
	}
	if v.Keeper == "" {
		fmt.Fprintln(w, "No keeper is alive: nobody rotates until one is.")
	} else {
		fmt.Fprintf(w, "%s rotates when it is %s old.\n", safe(v.Keeper), time.Duration(v.RotateEveryS)*time.Second)
	}
	rows := [][]string{{"NODE", "STATUS", "EPOCH", "STATE"}}
	for _, n := range v.Nodes {
		rows = append(rows, []string{safe(n.Node), safe(n.Status), strconv.FormatUint(n.Epoch, 10), n.State})
	}
	table(w, rows)
}
