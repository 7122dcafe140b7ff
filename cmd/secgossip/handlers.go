package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
)

// handlerView is one handler of handlers --json.
type handlerView struct {
	Number   uint32     `json:"number"`
	Name     string     `json:"name"`
	Filters  []string   `json:"filters"`
	Program  string     `json:"program"`
	User     string     `json:"user"`
	Enforced []string   `json:"enforced"`
	Missing  []string   `json:"missing"`
	Running  uint32     `json:"running"`
	Waiting  uint32     `json:"waiting"`
	Runs     uint64     `json:"runs"`
	Failures uint64     `json:"failures"`
	Dropped  uint64     `json:"dropped"`
	BySpare  uint64     `json:"by_spare"`
	LastRun  *time.Time `json:"last_run,omitempty"`
	Degraded string     `json:"degraded,omitempty"`
}

func newHandlersCmd(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "handlers",
		Short: "Show the agent's handlers and how each fares",
		Long: `handlers lists the programs that the agent runs on events: their filters, what
confines them, and what became of their runs. A handler is degraded when its
latest run was killed by the time limit, or when events come faster than it runs.`,
		Example: "  secgossip handlers",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.call(cmd.Context(), func(ctx context.Context, s *session) error {
				answer, err := s.ListHandlers(ctx, new(secgossipv1.ListHandlersRequest))
				if err != nil {
					return err
				}
				views := []handlerView{}
				for _, h := range answer.GetHandlers() {
					views = append(views, viewOfHandler(h))
				}
				return e.print(map[string]any{"handlers": views}, func(w io.Writer) { showHandlers(w, views) })
			})
		},
	}
	cmd.AddCommand(newRunsCmd(e))
	return cmd
}

func viewOfHandler(h *secgossipv1.Handler) handlerView {
	view := handlerView{
		Number: h.GetNumber(), Name: h.GetName(), Filters: h.GetFilters(), Program: h.GetProgram(), User: h.GetUser(),
		Enforced: []string{}, Missing: []string{},
		Running: h.GetRunning(), Waiting: h.GetWaiting(),
		Runs: h.GetRuns(), Failures: h.GetFailures(), Dropped: h.GetDropped(), Degraded: h.GetDegraded(), BySpare: h.GetBySpare(),
	}
	for _, layer := range h.GetLayers() {
		if layer.GetEnforced() {
			view.Enforced = append(view.Enforced, layer.GetName())
		} else {
			view.Missing = append(view.Missing, layer.GetName())
		}
	}
	if last := h.GetLastRun(); last != nil {
		at := last.AsTime()
		view.LastRun = &at
	}
	return view
}

func showHandlers(w io.Writer, views []handlerView) {
	rows := [][]string{{"NUMBER", "NAME", "FILTERS", "PROGRAM", "USER", "RUNS", "FAILURES", "DROPPED", "RUNNING", "WAITING", "LAST RUN", "STATE"}}
	for _, v := range views {
		last := "never"
		if v.LastRun != nil {
			last = v.LastRun.UTC().Format(time.RFC3339)
		}
		state := "ok"
		if v.Degraded != "" {
			state = "degraded: " + safe(v.Degraded)
		}
		filters, name, user := strings.Join(v.Filters, ","), v.Name, v.User
		if name == filters+"="+v.Program {
			name = "-" // it has none of its own
		}
		if user == "" {
			user = "-" // the agent's
		}
		rows = append(rows, []string{
			number(uint64(v.Number)), safe(name), safe(filters), safe(v.Program), safe(user),
			number(v.Runs), number(v.Failures), number(v.Dropped), number(uint64(v.Running)), number(uint64(v.Waiting)), last, state,
		})
	}
	table(w, rows)
	for _, v := range views {
		if len(v.Missing) > 0 {
			fmt.Fprintf(w, "not enforced for handler %d: %s (`secgossip info` says why)\n", v.Number, safe(strings.Join(v.Missing, ", ")))
		}
	}
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// runView is one run of handlers runs --json.
type runView struct {
	Begin         time.Time `json:"begin"`
	DurationMS    float64   `json:"duration_ms"`
	Handler       uint32    `json:"handler"`
	Program       string    `json:"program"`
	Event         string    `json:"event"`
	Name          string    `json:"name,omitempty"`
	EventID       string    `json:"event_id,omitempty"`
	Principal     string    `json:"principal,omitempty"`
	Started       bool      `json:"started"`
	ExitCode      int32     `json:"exit_code"`
	Error         string    `json:"error,omitempty"`
	Stdout        []byte    `json:"stdout"` // base64
	StdoutOmitted uint64    `json:"stdout_omitted,omitempty"`
	Stderr        []byte    `json:"stderr"` // base64
	StderrOmitted uint64    `json:"stderr_omitted,omitempty"`
}

// maxRuns is how many runs an agent lists at a time.
const maxRuns = 20

func newRunsCmd(e *env) *cobra.Command {
	var eventID string
	var handler, limit uint32
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "Show the latest runs of handlers",
		Long: `runs shows what became of the latest runs, newest first: time, handler, event,
who fired it, exit code, duration, and what the program wrote. The agent keeps 64
runs, and the first and the last 32 KiB of each output.`,
		Example: "  secgossip handlers runs --event 6e1f0a2b4c5d6e7f8091a2b3c4d5e6f7",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if id, err := hex.DecodeString(eventID); err != nil || eventID != "" && len(id) != 16 {
				return fmt.Errorf("%w: --event %.40q: want 32 hexadecimal digits, as event prints them", errUsage, eventID)
			}
			if cmd.Flags().Changed("limit") && (limit == 0 || limit > maxRuns) {
				return fmt.Errorf("%w: --limit %d: 1 to %d are allowed", errUsage, limit, maxRuns)
			}
			req := &secgossipv1.ListRunsRequest{EventId: eventID, Limit: limit}
			if cmd.Flags().Changed("handler") {
				req.Handler = &handler
			}
			return e.call(cmd.Context(), func(ctx context.Context, s *session) error {
				answer, err := s.ListRuns(ctx, req)
				if err != nil {
					return err
				}
				views := []runView{}
				for _, r := range answer.GetRuns() {
					views = append(views, viewOfRun(r))
				}
				return e.print(map[string]any{"runs": views}, func(w io.Writer) {
					for _, v := range views {
						showRun(w, v)
					}
				})
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&eventID, "event", "", "only runs for the event with this `ID`")
	flags.Uint32Var(&handler, "handler", 0, "only runs of the handler with this `NUMBER` (default all)")
	flags.Uint32Var(&limit, "limit", maxRuns, "at most so many runs, 1 to 20")
	return cmd
}

func viewOfRun(r *secgossipv1.Run) runView {
	return runView{
		Begin: r.GetBegin().AsTime(), DurationMS: float64(r.GetDurationUs()) / 1000,
		Handler: r.GetHandler(), Program: r.GetProgram(),
		Event: r.GetKind(), Name: r.GetName(), EventID: r.GetEventId(), Principal: r.GetPrincipal(),
		Started: r.GetStarted(), ExitCode: r.GetExitCode(), Error: r.GetError(),
		Stdout: r.GetStdout(), StdoutOmitted: r.GetStdoutOmitted(), Stderr: r.GetStderr(), StderrOmitted: r.GetStderrOmitted(),
	}
}

// showRun writes one run for a person: a line, and the output below it.
func showRun(w io.Writer, v runView) {
	event := v.Event
	if v.Name != "" {
		event += ":" + v.Name
	}
	outcome := fmt.Sprintf("exit %d", v.ExitCode)
	if v.Error != "" {
		outcome = v.Error
	}
	fmt.Fprintf(w, "%s  handler %d  %s  %s  %.0f ms", v.Begin.UTC().Format(time.RFC3339), v.Handler, safe(event), safe(outcome), v.DurationMS)
	if v.EventID != "" {
		fmt.Fprintf(w, "  by %s  %s", safe(v.Principal), safe(v.EventID))
	}
	fmt.Fprintln(w)
	showOutput(w, "stdout", v.Stdout, v.StdoutOmitted)
	showOutput(w, "stderr", v.Stderr, v.StderrOmitted)
}

// showOutput writes what a program wrote, which may be anything, escaped line by line.
func showOutput(w io.Writer, what string, output []byte, omitted uint64) {
	if len(output) == 0 {
		return
	}
	if omitted > 0 {
		what = fmt.Sprintf("%s, %d bytes omitted in the middle", what, omitted)
	}
	fmt.Fprintf(w, "  %s:\n    %s\n", what, strings.ReplaceAll(safeLines(strings.TrimSuffix(string(output), "\n")), "\n", "\n  "))
}

func newReloadCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Make the agent read its settings again",
		Long: `reload makes the agent read config.yaml and its identity again, as SIGHUP does.
All of it is checked first: when anything is wrong, nothing changes. Handlers,
tags and the log level follow; what needs a restart is named.`,
		Example: "  secgossip reload",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.call(cmd.Context(), func(ctx context.Context, s *session) error {
				answer, err := s.Reload(ctx, new(secgossipv1.ReloadRequest))
				if err != nil {
					return err
				}
				rows := []reloadRow{
					{"handler added", answer.GetAdded()}, {"handler removed", answer.GetRemoved()}, {"handler changed", answer.GetChanged()},
					{"setting changed", answer.GetSettings()}, {"needs a restart", answer.GetRestart()},
				}
				view := map[string][]string{}
				for i, key := range []string{"added", "removed", "changed", "settings", "restart"} {
					view[key] = append([]string{}, rows[i].names...)
				}
				return e.print(view, func(w io.Writer) { showReload(w, rows) })
			})
		},
	}
}

type reloadRow struct {
	what  string
	names []string
}

func showReload(w io.Writer, rows []reloadRow) {
	nothing := true
	for _, row := range rows {
		for _, name := range row.names {
			fmt.Fprintf(w, "%s: %s\n", row.what, safe(name))
			nothing = false
		}
	}
	if nothing {
		fmt.Fprintln(w, "Reloaded: everything is as it was")
	}
}
