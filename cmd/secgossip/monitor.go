package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
)

func newMonitorCmd(e *env) *cobra.Command {
	var level string
	cmd := &cobra.Command{
		Use:   "monitor",
		Short: "Show the agent's log as it is written",
		Long: `monitor shows the newest 512 lines of the agent's log, and then those that come,
until it is stopped. Events and member changes are among them.`,
		Example: "  secgossip monitor --log-level debug",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			open := func(ctx context.Context, s *session) (receiver[*secgossipv1.StreamLogsResponse], error) {
				return s.StreamLogs(ctx, &secgossipv1.StreamLogsRequest{Level: level})
			}
			return follow(cmd.Context(), e, open, e.showLog)
		},
	}
	cmd.Flags().StringVar(&level, "log-level", "info", "show this level and above: debug, info, warn or error; it may be below the agent's own")
	return cmd
}

func (e *env) showLog(batch *secgossipv1.StreamLogsResponse) error {
	if n := batch.GetDropped(); n > 0 {
		fmt.Fprintf(e.stderr, "secgossip: %d lines were lost because they were not read in time\n", n)
	}
	for _, line := range batch.GetLines() {
		var err error
		if e.json {
			err = json.NewEncoder(e.stdout).Encode(map[string]string{"line": line})
		} else {
			_, err = fmt.Fprintln(e.stdout, safe(line))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
