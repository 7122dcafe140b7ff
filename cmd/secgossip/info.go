package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
)

func newInfoCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "info",
		Short:   "Show the agent's own figures",
		Example: "  secgossip info --json",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.call(cmd.Context(), func(ctx context.Context, s *session) error {
				answer, err := s.GetInfo(ctx, new(secgossipv1.GetInfoRequest))
				if err != nil {
					return err
				}
				sections := make(map[string]map[string]string)
				for name, section := range answer.GetSections() {
					sections[name] = orEmpty(section.GetValues())
				}
				return e.print(sections, func(w io.Writer) {
					for _, name := range slices.Sorted(maps.Keys(sections)) {
						fmt.Fprintf(w, "%s:\n", safe(name))
						for _, key := range slices.Sorted(maps.Keys(sections[name])) {
							fmt.Fprintf(w, "\t%s = %s\n", safe(key), safe(sections[name][key]))
						}
					}
				})
			})
		},
	}
}

func newLeaveCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "leave",
		Short:   "Make the agent leave the cluster and stop",
		Example: "  secgossip leave",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.call(cmd.Context(), func(ctx context.Context, s *session) error {
				if _, err := s.Leave(ctx, new(secgossipv1.LeaveRequest)); err != nil {
					return err
				}
				return e.print(map[string]bool{"leaving": true}, func(w io.Writer) {
					fmt.Fprintln(w, "Graceful leave begun: the agent tells the cluster, then stops")
				})
			})
		},
	}
}
