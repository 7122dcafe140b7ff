package epochs

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/internal/lab"
)

// killPoints is how often each story kills in the middle of a rotation. Together
// they stay below a minute.
const killPoints = 20

// Threat N17: an agent that is killed at any point of a rotation comes back with a
// keyring that reads, and without an operator all end with one epoch.
func TestKilledAgentsEndWithOneEpoch(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))

	c := newCluster(t, 2, 2)
	c.knowEachOther()
	first := c.mustRotate(c.nodes[0])
	usual, before := first.took, first.GetEpoch()
	keeper := c.nodes[0]
	for point, part := range chance.Perm(killPoints) {
		var victims []*lab.Node
		switch {
		case point%10 == 9:
			victims = c.nodes
		case point%5 == 3:
			victims = []*lab.Node{c.nodes[1+chance.IntN(len(c.nodes)-1)]}
		default:
			victims = []*lab.Node{keeper}
		}
		// The points are spread over the whole of a rotation, and a bit beyond.
		after := time.Duration(float64(usual) * 1.2 * (float64(part) + chance.Float64()) / killPoints)
		c.killDuring(keeper, victims, after)
		primary := c.awaitOneEpoch()
		if primary < before {
			t.Fatalf("all seal with epoch %d, and with %d before the kill", primary, before)
		}
		before = primary
		c.oneEventReachesAll(c.nodes[chance.IntN(len(c.nodes))])
	}
	took := c.await(90*time.Second, c.holdOneEpoch)
	t.Logf("after the last kill every node held one epoch, %s later", took.Round(time.Millisecond))
}

// Threat N17: the keeper that rotates is killed as soon as one node has the new epoch,
// and stays away. The other keeper takes all to it.
func TestOtherKeeperFinishesWhatAKilledOneBegan(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, 1)
	c.knowEachOther()
	killed, left := c.nodes[0], c.nodes[1:]
	before := c.mustRotate(killed).GetEpoch()

	client := c.client(killed)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	stream, err := client.RotateKeys(ctx, &secgossipv1.RotateKeysRequest{})
	c.must(err)
	for installed := false; !installed; {
		message, err := stream.Receive()
		c.must(err)
		installed = slices.ContainsFunc(message.GetProgress(), func(p *secgossipv1.RotationProgress) bool {
			return p.GetNode() != killed.Name && p.GetState() == "installed"
		})
	}
	c.must(killed.Kill())

	took := c.await(60*time.Second, func(ctx context.Context) error {
		for _, n := range left {
			held, primary, err := c.epochs(ctx, n)
			if err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
			if len(held) != 1 || primary <= before {
				return fmt.Errorf("%s holds epochs %d and seals with %d, want one above %d", n.Name, held, primary, before)
			}
		}
		return nil
	})
	t.Logf("the others held one epoch %s after the keeper was killed", took.Round(time.Millisecond))
	c.must(c.Start(t.Context(), killed))
	if primary := c.awaitOneEpoch(); primary <= before {
		t.Errorf("all seal with epoch %d, want one above %d", primary, before)
	}
	c.oneEventReachesAll(killed)
}

// killDuring begins a rotation, kills agents after some time, all in one instant,
// and starts them again.
func (c *cluster) killDuring(keeper *lab.Node, victims []*lab.Node, after time.Duration) {
	c.Helper()
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	ended := make(chan struct{})
	strike := time.NewTimer(after)
	go func() {
		defer close(ended)
		_, _ = c.rotate(ctx, keeper) // it is cut short, or another is not through yet
	}()
	<-strike.C
	var killed sync.WaitGroup
	for _, n := range victims {
		killed.Go(func() { c.check(n.Kill()) })
	}
	killed.Wait()
	cancel()
	<-ended
	for _, n := range victims {
		c.must(c.Start(c.Context(), n))
	}
	c.Logf("killed %d from %s, %s into a rotation", len(victims), victims[0].Name, after.Round(time.Millisecond))
}

// awaitOneEpoch waits until all see all alive and all seal with one epoch, which it
// returns. No keyring file may have needed its previous version.
func (c *cluster) awaitOneEpoch() (primary uint64) {
	c.Helper()
	c.await(lab.Patience, c.aliveEverywhere)
	c.await(lab.Patience, func(ctx context.Context) error {
		primary = 0
		for _, n := range c.nodes {
			_, its, err := c.epochs(ctx, n)
			if err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
			if primary == 0 {
				primary = its
			}
			if its != primary {
				return fmt.Errorf("%s seals with epoch %d, %s with %d", n.Name, its, c.nodes[0].Name, primary)
			}
		}
		return nil
	})
	for _, n := range c.nodes {
		lines, err := lab.ReadLines(c.Lab.Log(n.Name))
		c.must(err)
		if i := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, "keyring") }); i >= 0 {
			c.Errorf("%s: %s", n.Name, lines[i])
		}
	}
	return primary
}

// holdOneEpoch complains unless all nodes hold one epoch and the same.
func (c *cluster) holdOneEpoch(ctx context.Context) error {
	var want []uint64
	for _, n := range c.nodes {
		held, _, err := c.epochs(ctx, n)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		if want == nil {
			want = held
		}
		if len(held) != 1 || !slices.Equal(held, want) {
			return fmt.Errorf("%s holds epochs %d, want one, as %s: %d", n.Name, held, c.nodes[0].Name, want)
		}
	}
	return nil
}

// oneEventReachesAll fires an event at one agent, and waits for it at all.
func (c *cluster) oneEventReachesAll(at *lab.Node) {
	c.Helper()
	var listeners []*listener
	for _, n := range c.nodes {
		l := c.listen(n)
		defer l.end()
		listeners = append(listeners, l)
	}
	id, err := c.marksman(at).fire(c.Context())
	c.must(err)
	c.await(lab.Patience, func(context.Context) error {
		for _, l := range listeners {
			if err := l.check([]string{id}); err != nil {
				return err
			}
		}
		return nil
	})
}
