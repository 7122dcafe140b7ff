package epochs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/lab"
)

// missed is how many rotations a node misses.
const missed = 10

// Threat N17: who was away for ten rotations, or comes from a disk image from before
// them, is a member again, by the address of any other.
func TestNodeThatMissedTenRotationsIsAMemberAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, 3)
	c.knowEachOther()
	keeper, stopped, restored := c.nodes[0], c.nodes[2], c.nodes[3]

	c.must(restored.Stop())
	image := c.In(restored.Name + "-image")
	c.copyHome(c.In(restored.Name), image)
	c.must(c.Start(t.Context(), restored)) // so that what is restored is older than what it has said since
	c.await(lab.Patience, c.aliveEverywhere)
	c.must(restored.Stop())
	c.must(stopped.Stop())
	for range missed {
		c.mustRotate(keeper)
	}
	c.must(os.RemoveAll(c.In(restored.Name)))
	c.copyHome(image, c.In(restored.Name))

	for what, n := range map[string]*lab.Node{"stopped": stopped, "restored from an image": restored} {
		begun := time.Now()
		c.must(c.Start(t.Context(), n))
		c.await(lab.Patience, func(ctx context.Context) error {
			alive, err := c.alive(ctx, keeper)
			if err == nil && !alive[n.Name] {
				err = fmt.Errorf("%s does not see %s alive", keeper.Name, n.Name)
			}
			return err
		})
		took := time.Since(begun)
		t.Logf("%s and %d rotations behind: alive for others %s after its start", what, missed, took.Round(time.Millisecond))
	}
	c.awaitOneEpoch()
	c.oneEventReachesAll(stopped)
	c.oneEventReachesAll(restored)
}

// copyHome copies a folder with its modes, as an image of a disk would.
func (c *cluster) copyHome(from, to string) {
	c.Helper()
	if said, err := exec.CommandContext(c.Context(), "cp", "-a", from, to).CombinedOutput(); err != nil {
		c.Fatalf("%v: %s", err, said)
	}
}
