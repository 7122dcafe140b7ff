// Package epochs holds tests of real agents whose epochs change: while events go
// round, while agents are killed, and with a look into their memory from outside.
//
// What virtual time cannot show is here: the program itself, its disk and its
// processes. Agents listen on loopback. Benchmarks give the figures.
package epochs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/internal/lab"
	"github.com/secgossip/secgossip/internal/rpc"
)

// program is the one that all tests start.
var program lab.Binary

func TestMain(m *testing.M) { os.Exit(program.Run(m)) }

// cluster is the agents of a test.
type cluster struct {
	testing.TB
	*lab.Lab
	nodes    []*lab.Node // the keepers first
	operator *home.Client
}

// newCluster makes homes for keepers and other nodes, starts their agents and
// waits until all see all. The first node's home has the client that asks them.
func newCluster(t testing.TB, keepers, others int, flags ...string) *cluster {
	t.Helper()
	bin, err := program.Path()
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.New(bin, "epochs")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{TB: t, Lab: l}
	t.Cleanup(c.end)
	for i := range keepers + others {
		name := fmt.Sprintf("web-%02d", i+1)
		switch {
		case i == 0:
			c.must(l.Init(t.Context(), "epochs", name))
		case i < keepers:
			c.must(l.IssueKeeper(t.Context(), c.nodes[0].Name, name))
		default:
			c.must(l.IssueNode(t.Context(), c.nodes[0].Name, name))
		}
		c.nodes = append(c.nodes, &lab.Node{Name: name, Flags: flags})
	}
	c.operator, err = home.Home(l.In(c.nodes[0].Name)).LoadClient(time.Now())
	c.must(err)
	for i, n := range c.nodes {
		if i > 0 {
			n.Flags = append(slices.Clone(flags), "--retry-join", c.nodes[0].Gossip)
		}
		c.must(l.Start(t.Context(), n))
	}
	c.await(joinTime, c.aliveEverywhere)
	return c
}

// joinTime is how long many agents that start at once on few processors may take to
// know each other: who missed some of the others meets them within half a minute.
const joinTime = 2 * time.Minute

// aliveEverywhere complains unless every agent sees every node alive.
func (c *cluster) aliveEverywhere(ctx context.Context) error {
	for _, n := range c.nodes {
		if !n.Running() {
			return lab.Finally(fmt.Errorf("the agent of %s has ended", n.Name))
		}
		alive, err := c.alive(ctx, n)
		if err != nil {
			return fmt.Errorf("asking %s: %w", n.Name, err)
		}
		for _, other := range c.nodes {
			if !alive[other.Name] {
				return fmt.Errorf("as %s sees it %s is not alive", n.Name, other.Name)
			}
		}
	}
	return nil
}

// alive are the members that an agent sees alive.
func (c *cluster) alive(ctx context.Context, n *lab.Node) (map[string]bool, error) {
	client := c.client(n)
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := client.ListMembers(ctx, &secgossipv1.ListMembersRequest{})
	alive := make(map[string]bool)
	for _, m := range answer.GetMembers() {
		alive[m.GetName()] = m.GetStatus() == "alive"
	}
	return alive, err
}

// knowEachOther has every agent know two others to join by when it is started again, as
// an operator's settings would.
func (c *cluster) knowEachOther() {
	for i, n := range c.nodes {
		for step := 1; step <= min(2, len(c.nodes)-1); step++ {
			n.Flags = append(n.Flags, "--retry-join", c.nodes[(i+step)%len(c.nodes)].Gossip)
		}
	}
}

// end kills the agents, and shows how their logs end if the test has failed.
func (c *cluster) end() {
	for _, n := range c.nodes {
		n.Kill()
		if !c.Failed() {
			continue
		}
		lines, _ := lab.ReadLines(c.Lab.Log(n.Name)) // none if it was never started
		lines = slices.DeleteFunc(lines, func(line string) bool {
			return strings.Contains(line, `msg="rpc audit"`) || strings.Contains(line, `msg="user event"`)
		})
		c.Logf("the log of %s ends:\n  %s", n.Name, strings.Join(lines[max(0, len(lines)-8):], "\n  "))
	}
	if c.operator != nil {
		c.operator.Key.Destroy()
	}
	if err := c.Remove(); err != nil {
		c.Error(err)
	}
}

func (c *cluster) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) check(err error) {
	c.Helper()
	if err != nil {
		c.Error(err)
	}
}

// await polls until complaint has nothing to say, and returns how long that took.
func (c *cluster) await(patience time.Duration, complaint func(ctx context.Context) error) time.Duration {
	c.Helper()
	begun := time.Now()
	if err := lab.AwaitFor(c.Context(), patience, complaint); err != nil {
		c.Fatal(err)
	}
	return time.Since(begun)
}

// client is a connection of the operator's to an agent.
func (c *cluster) client(n *lab.Node) *rpc.Client {
	own := func() (*tls.Certificate, error) { return c.operator.Certificate, nil }
	config := c.operator.Trust.ClientTLS(own, "", time.Now)
	return rpc.NewClient(config, n.RPC, func() string { return c.operator.Token })
}

// epochs are the numbers of the epochs that a node's agent holds, and the one it
// seals with.
func (c *cluster) epochs(ctx context.Context, n *lab.Node) (held []uint64, primary uint64, err error) {
	client := c.client(n)
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := client.ListKeys(ctx, &secgossipv1.ListKeysRequest{})
	for _, e := range answer.GetEpochs() {
		held = append(held, e.GetNumber())
		if e.GetPrimary() {
			primary = e.GetNumber()
		}
	}
	return held, primary, err
}

// callTimeout bounds a call to an agent, which answers at once if it can.
const callTimeout = 10 * time.Second

// rotation is what came of a rotation.
type rotation struct {
	*secgossipv1.RotationSummary
	installed, using, took time.Duration // until every node had said so, by the client's clock
}

// rotate rotates by a keeper's agent.
func (c *cluster) rotate(ctx context.Context, keeper *lab.Node) (r rotation, err error) {
	client := c.client(keeper)
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	begun := time.Now()
	stream, err := client.RotateKeys(ctx, &secgossipv1.RotateKeysRequest{})
	if err != nil {
		return r, err
	}
	for {
		message, err := stream.Receive()
		if errors.Is(err, io.EOF) && r.RotationSummary != nil {
			return r, nil // read to its end, so that the connection can be given up
		}
		if err != nil {
			return r, err
		}
		for _, p := range message.GetProgress() {
			switch p.GetState() {
			case "installed":
				r.installed = time.Since(begun)
			case "using":
				r.using = time.Since(begun)
			}
		}
		if r.RotationSummary == nil {
			r.RotationSummary, r.took = message.GetSummary(), time.Since(begun)
		}
	}
}

// mustRotate rotates and wants every node to have followed.
func (c *cluster) mustRotate(keeper *lab.Node) rotation {
	c.Helper()
	r, err := c.rotate(c.Context(), keeper)
	c.must(err)
	if len(r.GetMissing()) > 0 || !r.GetRemoved() {
		c.Fatalf("epoch %d: missing %q, the one before removed: %t", r.GetEpoch(), r.GetMissing(), r.GetRemoved())
	}
	return r
}
