package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/internal/reply"
	"github.com/secgossip/secgossip/rpcauth"
)

// reachabilityView is what reachability --json shows.
type reachabilityView struct {
	Members uint32   `json:"members"`
	Alive   uint32   `json:"alive"`
	Acks    []string `json:"acks"`
	Missing []string `json:"missing"`
}

func newReachabilityCmd(e *env) *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "reachability",
		Short: "Find out whether every host can be reached",
		Long: `reachability asks every host that is alive to acknowledge a query, and names those
that do not. It runs no handler. It needs the grant query:_ping. Exit code 5 means
that some hosts stayed silent.`,
		Example: "  secgossip reachability --verbose",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.reachability(cmd.Context(), verbose)
		},
	}
	cmd.Flags().BoolVar(&verbose, "verbose", false, "show each ack and how long it all took")
	return cmd
}

func (e *env) reachability(ctx context.Context, verbose bool) error {
	view := reachabilityView{Acks: []string{}, Missing: []string{}}
	say := func(format string, args ...any) {
		if !e.json {
			fmt.Fprintf(e.stdout, format+"\n", args...)
		}
	}
	begin := time.Now()
	last := begin
	missing, err := e.ask(ctx, &rpcauth.QueryRequest{Name: rpcauth.PingQuery, Ack: true}, asking{
		began: func(_ string, about *secgossipv1.PrepareQueryResponse) {
			view.Members, view.Alive = about.GetMembers(), about.GetAlive()
			say("Total members: %d, live members: %d", view.Members, view.Alive)
			say("Starting reachability test...")
		},
		replied: func(r reply.Reply) {
			if r.Kind != reply.Ack {
				return
			}
			view.Acks = append(view.Acks, r.Node)
			last = time.Now()
			if verbose {
				say("\tAck from '%s'", safe(r.Node))
			}
		},
	})
	if err != nil {
		return err
	}
	view.Missing = append(view.Missing, missing...)
	if verbose {
		say("Query time: %0.2f sec, time to last response: %0.2f sec", time.Since(begin).Seconds(), last.Sub(begin).Seconds())
	}
	if e.json {
		err = e.print(view, func(io.Writer) {})
	}
	if err != nil {
		return err
	}
	if len(missing) == 0 {
		say("Successfully contacted all live nodes.")
		return nil
	}
	say("Received less acks than live members! Missing acks from:")
	for _, name := range missing {
		say("\t%s", safe(name))
	}
	return silent(missing, "`secgossip members` shows whether they failed meanwhile, and by which path packets get to them")
}
