package field

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/secgossip/secgossip/internal/lab"
)

// A story on one host: a node is evicted, and then every agent is killed as by a power
// cut. Whoever starts again remembers; the evicted node, which was never told why, gets
// in nowhere and no epoch.
func TestEvictionOutlivesAPowerCutOfEverybody(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program and starts agents")
	}
	t.Parallel()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	bin, err := program.Path()
	must(err)
	l, err := lab.New(bin, "evict")
	must(err)
	t.Cleanup(func() { l.Remove() })
	must(l.Init(ctx, "evict", keeper))
	nodes := []*lab.Node{{Name: keeper}, {Name: "b"}, {Name: "x"}}
	for _, node := range nodes {
		t.Cleanup(func() { node.Kill() })
		if node != nodes[0] {
			must(l.IssueNode(ctx, keeper, node.Name))
			node.Flags = []string{"--retry-join", nodes[0].Gossip}
		}
		must(l.Start(ctx, node))
	}
	must(l.AwaitAlive(ctx, keeper, nodes))

	var done struct {
		Confirmed []string
		Epoch     uint64
	}
	must(l.AskJSON(ctx, &done, keeper, nodes[0], "evict", "x"))
	if len(done.Confirmed) != 2 || done.Epoch != 2 {
		t.Errorf("the command says %+v, want both nodes and epoch 2", done)
	}
	for _, node := range nodes {
		must(node.Kill())
	}
	for _, node := range []*lab.Node{nodes[1], nodes[0], nodes[2]} { // the keeper is not the first
		must(l.Start(ctx, node))
	}
	must(l.AwaitAlive(ctx, keeper, nodes[:2]))
	must(lab.Await(ctx, func(ctx context.Context) error {
		info, err := l.Info(ctx, keeper, nodes[1])
		if err == nil && info["keys"]["primary"] != "2" {
			err = fmt.Errorf("b uses epoch %s, want 2", info["keys"]["primary"])
		}
		return err
	}))
	// It has tried, or there is nothing to see.
	must(lab.Await(ctx, func(ctx context.Context) error {
		counters, err := l.Counters(ctx, keeper, nodes[0])
		if err == nil && counters["strangers_dropped"] == 0 {
			err = errors.New("the keeper has turned nobody away")
		}
		return err
	}))
	info, err := l.Info(ctx, keeper, nodes[2])
	must(err)
	if got := info["keys"]["highest"]; got != "1" {
		t.Errorf("the evicted node has epoch %s, want 1", got)
	}
	must(l.AwaitAlive(ctx, keeper, nodes[2:])) // it is alone
	must(lab.StopAll(nodes))
}
