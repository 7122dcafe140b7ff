package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/secgossip/secgossip/internal/lab"
)

// cluster is three nodes and two clients: memo, and the keeper's operator.
type cluster struct {
	*folder
	nodes []*lab.Node
	fired []string // payloads that handlers must have seen, in order
}

// The homes that have a client in them: the one that init makes, with the
// operator, and the one of the client.
const (
	keeper = "web-1"
	memo   = "memo"
)

func newCluster(f *folder) *cluster {
	return &cluster{folder: f, nodes: []*lab.Node{{Name: keeper}, {Name: "web-2"}, {Name: "web-3"}}}
}

// makeHomes makes the cluster's identities.
func (c *cluster) makeHomes(ctx context.Context) error {
	if err := c.Init(ctx, "demo", keeper); err != nil {
		return err
	}
	for _, node := range c.nodes[1:] {
		if err := c.IssueNode(ctx, keeper, node.Name); err != nil {
			return err
		}
	}
	return c.IssueClient(ctx, keeper, memo, "event:memresponse", "members:read")
}

// start starts the agents, the others joining the first.
func (c *cluster) start(ctx context.Context) error {
	for i, node := range c.nodes {
		if err := c.Handlers.Create(c.Output(node.Name)); err != nil {
			return err
		}
		node.Flags = []string{
			"--event-handler", c.Program("handler.sh"),
			"--event-handler", "user=" + c.Program("tell.sh"),
			"--handler-writable", c.granted,
			"--handler-writable", c.Output(node.Name),
		}
		if i > 0 {
			node.Flags = append(node.Flags, "--join", c.nodes[0].Gossip)
		}
		if err := c.Start(ctx, node); err != nil {
			return err
		}
	}
	return nil
}

// awaitEpoch waits until the keeper holds one epoch and it is want.
func (c *cluster) awaitEpoch(ctx context.Context, want epoch) error {
	return lab.Await(ctx, func(ctx context.Context) error {
		var got epochs
		if err := c.AskJSON(ctx, &got, keeper, c.nodes[0], "keys", "list"); err != nil {
			return err
		}
		if !slices.Equal(got.Epochs, []epoch{want}) {
			return fmt.Errorf("keys list: got %+v, want %+v alone", got.Epochs, want)
		}
		return nil
	})
}
