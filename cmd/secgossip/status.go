package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/internal/home"
)

// healthView is a cluster's health as one agent sees it, as --json shows it.
type healthView struct {
	Cluster      string         `json:"cluster"`
	Node         string         `json:"node"`
	Members      map[string]int `json:"members"` // by status
	Epoch        uint64         `json:"epoch"`
	AgeSeconds   int64          `json:"age_s"`
	Keeper       string         `json:"keeper"`
	Silent       []string       `json:"silent"`   // failed, or alive and out of this agent's reach
	Behind       []string       `json:"behind"`   // alive, and not known to seal with the epoch in use
	Flapping     []string       `json:"flapping"` // failed and came back often of late
	ClockOffsetS int64          `json:"clock_offset_s"`
	Warnings     []warningView  `json:"warnings"`

	evicted []string
}

// warningView is something an operator should do.
type warningView struct {
	What string `json:"what"`
	Next string `json:"next"`
	code error  // what the command ends with because of it
}

// errUnhealthy says that the cluster needs an operator.
var errUnhealthy = errors.New("the cluster needs attention")

// pollEvery is how often --wait looks.
const pollEvery = 200 * time.Millisecond

func newStatusCmd(e *env) *cobra.Command {
	var wait string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the health of the cluster at a glance",
		Long: `status shows what an operator needs to know, as the agent sees it: who is there,
which epoch is in use and who replaces it, and what is wrong, with the next step.

With --wait it first waits, as long as --timeout says: until all live members are
reached and use one epoch (converged), until an epoch is in use that is newer than
the one at first (rotated), or until a node is evicted and all live members use an
epoch that it does not get (evicted=NAME). It then ends with 0, whatever else is
wrong.`,
		Example: "  secgossip status --wait converged --timeout 1m",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			reached, err := conditionFor(wait)
			if err != nil {
				return err
			}
			s, err := e.connect()
			if err != nil {
				return err
			}
			defer s.Close()
			view, err := s.waitUntil(cmd.Context(), reached)
			if err != nil {
				return s.explain(err)
			}
			if err := e.print(view, func(w io.Writer) { describeHealth(w, view) }); err != nil {
				return err
			}
			switch {
			case wait == "":
				return view.verdict()
			case !reached(view):
				return view.notReached(wait, e.timeout)
			}
			return nil // what was waited for is there
		},
	}
	cmd.Flags().StringVar(&wait, "wait", "", "wait until the cluster is `converged`, has rotated, or until evicted=NAME")
	return cmd
}

// conditionFor returns what is waited for; without a word, for nothing.
func conditionFor(word string) (func(healthView) bool, error) {
	switch word {
	case "":
		return func(healthView) bool { return true }, nil
	case "converged":
		return func(v healthView) bool {
			return v.Epoch > 0 && len(v.Behind) == 0 && len(v.Silent) == v.Members["failed"]
		}, nil
	case "rotated":
		var first uint64
		return func(v healthView) bool {
			if first == 0 {
				first = v.Epoch
			}
			return v.Epoch > first
		}, nil
	}
	if name, ok := strings.CutPrefix(word, "evicted="); ok && name != "" {
		return func(v healthView) bool {
			return slices.Contains(v.evicted, name) && len(v.Behind) == 0
		}, nil
	}
	return nil, fmt.Errorf("%w: --wait %q: use converged, rotated or evicted=NAME", errUsage, word)
}

// waitUntil looks until what is waited for is there or the timeout is over, and
// returns what it saw last.
func (s *session) waitUntil(ctx context.Context, reached func(healthView) bool) (healthView, error) {
	deadline := time.Now().Add(s.timeout)
	for {
		view, err := s.health(ctx)
		if err != nil || reached(view) || time.Now().Add(pollEvery).After(deadline) {
			return view, err
		}
		select {
		case <-ctx.Done():
			return view, ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

// health asks the agent for all that is shown.
func (s *session) health(ctx context.Context) (healthView, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	info, err := s.GetInfo(ctx, new(secgossipv1.GetInfoRequest))
	if err != nil {
		return healthView{}, err
	}
	keys, err := s.ListKeys(ctx, new(secgossipv1.ListKeysRequest))
	if err != nil {
		return healthView{}, err
	}
	members, err := s.ListMembers(ctx, new(secgossipv1.ListMembersRequest))
	if err != nil {
		return healthView{}, err
	}
	return healthOf(info, keys, members, time.Now()), nil
}

func healthOf(info *secgossipv1.GetInfoResponse, keys *secgossipv1.ListKeysResponse, members *secgossipv1.ListMembersResponse, now time.Time) healthView {
	figure := func(section, name string) string { return info.GetSections()[section].GetValues()[name] }
	offset, _ := time.ParseDuration(figure("clock", "offset")) // 0 if an older agent does not say
	epochs := keysStatus(keys, now)
	v := healthView{
		Cluster: figure("agent", "cluster"), Node: figure("agent", "name"),
		Members: make(map[string]int),
		Epoch:   epochs.Primary, AgeSeconds: epochs.AgeSeconds, Keeper: epochs.Keeper,
		Silent: []string{}, Behind: []string{}, Flapping: []string{}, ClockOffsetS: int64(offset.Seconds()), Warnings: []warningView{},
	}
	for _, status := range statuses {
		v.Members[status] = 0
	}
	for _, m := range members.GetMembers() {
		v.Members[m.GetStatus()]++
		if m.GetFlapping() {
			v.Flapping = append(v.Flapping, m.GetName())
		}
		if m.GetStatus() == "evicted" {
			v.evicted = append(v.evicted, m.GetName())
		}
		if m.GetStatus() == "failed" || isLive(m.GetStatus()) && m.GetPath() == "" && m.GetName() != v.Node {
			v.Silent = append(v.Silent, m.GetName())
		}
	}
	for _, n := range epochs.Nodes {
		if isLive(n.Status) && n.State != "current" {
			v.Behind = append(v.Behind, n.Node)
		}
	}
	if slices.ContainsFunc(members.GetMembers(), func(m *secgossipv1.Member) bool { return m.GetName() == v.Node && m.GetStatus() == "evicted" }) {
		v.warn(errUnhealthy, "THIS NODE WAS REVOKED: nobody talks to it", "at a keeper, `secgossip evict --list` says why; `secgossip pki issue node` makes it a new home")
	}
	if v.Keeper == "" {
		v.warn(errUnhealthy, "NO KEEPER IS ALIVE whose clock is right: nobody replaces the epoch in use",
			"start the agent of a keeper; where the root is, `secgossip pki issue node NAME --role keeper --out DIR` makes another")
	}
	if due := 2 * int64(epochs.RotateEveryS); due > 0 && v.AgeSeconds > due {
		v.warn(errUnhealthy, fmt.Sprintf("epoch %d should have been replaced", v.Epoch), "on a keeper, see why in the log of its agent, and `secgossip keys rotate`")
	}
	if v.Epoch == 0 {
		v.warn(errUnhealthy, "this agent has no epoch yet: it fetches one from the first member it meets", "name members by retry-join in its config.yaml, and see its log")
	}
	switch figure("clock", "right") {
	case "no":
		v.warn(errUnhealthy, fmt.Sprintf("the clock of this agent's host is wrong: those of most members are %v ahead of it", offset), "set the clock of that host")
	case "unknown":
		v.warn(errUnhealthy, "clocks differ, and most of them do not agree with this agent's", "set the clocks; `secgossip info` shows how many were compared")
	}
	if unwritten := info.GetSections()["disk"].GetValues(); len(unwritten) > 0 {
		var all []string
		for _, file := range slices.Sorted(maps.Keys(unwritten)) {
			all = append(all, fmt.Sprintf("%s (%s)", file, unwritten[file]))
		}
		v.warn(errUnhealthy, "the disk of this agent does not take what it keeps: "+strings.Join(all, ", "),
			"make room there; what is missing is written within seconds")
	}
	if caught := slices.Sorted(maps.Keys(info.GetSections()["quarantine"].GetValues())); len(caught) > 0 {
		v.warn(errUnhealthy, "in quarantine, for they have sent this agent what no honest member sends: "+strings.Join(caught, ", "),
			"their hosts are broken into, or broken: look at them, and `secgossip evict NAME`; this agent's log says what each has sent")
	}
	if len(v.Silent) > 0 {
		v.warn(errSilent, "silent: "+strings.Join(v.Silent, ", "), "`secgossip members --detailed` shows where they were; look at their agents")
	}
	if len(v.Behind) > 0 {
		v.warn(errSilent, fmt.Sprintf("not known to use epoch %d: %s", v.Epoch, strings.Join(v.Behind, ", ")),
			"they fetch it by themselves within seconds; `secgossip status --wait converged` waits for it")
	}
	return v
}

func (v *healthView) warn(code error, what, next string) {
	v.Warnings = append(v.Warnings, warningView{What: what, Next: next, code: code})
}

// verdict is nil for a healthy cluster. What only an operator mends counts more than
// nodes that are silent.
func (v healthView) verdict() error {
	if len(v.Warnings) == 0 {
		return nil
	}
	worst := v.Warnings[0]
	if i := slices.IndexFunc(v.Warnings, func(w warningView) bool { return w.code == errUnhealthy }); i >= 0 {
		worst = v.Warnings[i]
	}
	return &home.Problem{Err: fmt.Errorf("%w: %s", worst.code, worst.What), Next: worst.Next}
}

func (v healthView) notReached(wait string, timeout time.Duration) error {
	err := fmt.Errorf("not %s within %s", wait, timeout)
	if wait == "converged" {
		err = fmt.Errorf("%w: not converged within %s: %s", errSilent, timeout, strings.Join(slices.Concat(v.Silent, v.Behind), ", "))
	}
	return &home.Problem{Err: err, Next: "`secgossip keys status` shows each node; wait longer by --timeout"}
}

// membersText counts members by status. That some are suspect or leaving is over in
// seconds, and said while it is so.
func membersText(count map[string]int) string {
	var parts []string
	for _, status := range statuses {
		if n := count[status]; n > 0 || status != "suspect" && status != "leaving" {
			parts = append(parts, fmt.Sprintf("%d %s", n, status))
		}
	}
	return strings.Join(parts, ", ")
}

func describeHealth(w io.Writer, v healthView) {
	epoch := "none yet"
	if v.Epoch > 0 {
		epoch = fmt.Sprintf("%d, in use for %s", v.Epoch, time.Duration(v.AgeSeconds)*time.Second)
	}
	table(w, [][]string{
		{"cluster", safe(v.Cluster)},
		{"node", safe(v.Node)},
		{"members", membersText(v.Members)},
		{"epoch", epoch},
		{"acting keeper", safe(cmp.Or(v.Keeper, "NONE"))},
		{"clock", fmt.Sprintf("%d s from the cluster's", v.ClockOffsetS)},
	})
	if len(v.Flapping) > 0 {
		fmt.Fprintf(w, "flapping: %s (failed and came back within a minute, three times in an hour)\n", safe(strings.Join(v.Flapping, ", ")))
	}
	if len(v.Warnings) == 0 {
		fmt.Fprintln(w, "\nAll is well.")
	}
	for _, warning := range v.Warnings {
		fmt.Fprintf(w, "\nWARNING: %s.\n  next: %s\n", safe(warning.What), safe(warning.Next))
	}
}
