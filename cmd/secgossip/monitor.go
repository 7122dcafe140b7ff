package main

import (
	"encoding/json"
	"fmt"
	"os/signal"
	"syscall"

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
			s, err := e.connect()
			if err != nil {
				return err
			}
			defer s.Close()
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			stream, err := s.StreamLogs(ctx, &secgossipv1.StreamLogsRequest{Level: level})
			if err != nil {
				return s.explain(err)
			}
			for {
				batch, err := stream.Receive()
				if ctx.Err() != nil {
					return nil
				}
				if err != nil {
					return s.streamEnd(err)
				}
				if err := e.showLog(batch); err != nil {
					return err
				}
			}
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
