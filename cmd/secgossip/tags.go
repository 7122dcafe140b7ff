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

func newTagsCmd(e *env) *cobra.Command {
	var set, deleted []string
	cmd := &cobra.Command{
		Use:   "tags",
		Short: "Change the tags of the agent's node",
		Long: `tags sets and deletes tags of the agent's node and tells the cluster. The changes
are kept: they stand above the tags of the settings, over restarts and reloads.`,
		Example: "  secgossip tags --set role=web --delete canary",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(set)+len(deleted) == 0 {
				return fmt.Errorf("%w: nothing to change: name tags by --set or --delete", errUsage)
			}
			tags, err := parseTags("--set", set)
			if err != nil {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			return e.call(cmd.Context(), func(ctx context.Context, s *session) error {
				answer, err := s.UpdateTags(ctx, &secgossipv1.UpdateTagsRequest{Set: tags, Delete: deleted})
				if err != nil {
					return err
				}
				now := orEmpty(answer.GetTags())
				return e.print(map[string]map[string]string{"tags": now}, func(w io.Writer) {
					fmt.Fprintln(w, "Successfully updated agent tags")
					for _, name := range slices.Sorted(maps.Keys(now)) {
						fmt.Fprintf(w, "    %s = %s\n", safe(name), safe(now[name]))
					}
				})
			})
		},
	}
	cmd.Flags().StringArrayVar(&set, "set", nil, "`NAME=VALUE`: a tag and what it is to be; repeat for more")
	cmd.Flags().StringArrayVar(&deleted, "delete", nil, "`NAME` of a tag that is to go; repeat for more")
	return cmd
}
