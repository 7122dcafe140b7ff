package secgossip

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/secgossip/secgossip/rpcauth"
)

var large = flag.Bool("large", false, "live through stories of hundreds of nodes as well")

// Thirty nodes, one in ten datagrams lost: everybody finds everybody, an event
// reaches all of them, a rotation carries everybody along, and everybody answers.
func TestThirtyNodesOverALossyNetwork(t *testing.T) {
	if testing.Short() {
		t.Skip("thirty nodes take a few seconds")
	}
	const size = 30
	inBubble(t, func(t *testing.T, c *cluster) {
		c.net.Loss(0.1)
		c.net.Delay(5*time.Millisecond, 80*time.Millisecond)
		first := c.host("n0").start()
		for i := 1; i < size; i++ {
			c.host(fmt.Sprintf("n%d", i)).start().join(first)
		}
		time.Sleep(time.Minute)
		for _, h := range c.hosts {
			for _, m := range h.node.Members() {
				if !m.Status.IsLive() { // a lost probe makes a suspect of it for seconds
					t.Errorf("%s sees %s %s", h.name, m.Name, m.Status)
				}
			}
			if got := len(h.node.Members()); got != size {
				t.Errorf("%s sees %d members, want %d", h.name, got, size)
			}
		}
		for _, h := range c.hosts {
			if n := h.node.transport.Counters()["packets_unsent"]; n > 0 {
				t.Errorf("%s could not send %d packets", h.name, n)
			}
		}
		if err := c.client("memo", "event:*").fire(first, "deploy", "v1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		for _, h := range c.hosts {
			if got := len(h.seen.names()); got != 1 {
				t.Errorf("%s got %d events, want 1", h.name, got)
			}
		}
		rotation := c.rotate(first)
		if rotation.Using != size || !rotation.Removed {
			t.Errorf("rotation ended as %+v", rotation)
		}
		everybodyAnswers(t, c, first)
	})
}

// everybodyAnswers asks queries. With one in ten datagrams as many acks are lost: they
// are said again until somebody has heard them.
func everybodyAnswers(t *testing.T, c *cluster, first *host) {
	size := len(c.hosts)
	for _, h := range c.hosts {
		answering(byName, h)
	}
	client := c.client("memo", "query:*")
	for i, relay := range []int{0, 0, 3, 0} {
		got := client.ask(first, fmt.Sprintf("load-%d", i), func(r *rpcauth.QueryRequest) { r.Relay = relay })
		if len(got.acks) != size || len(got.answers) != size || len(got.missing) != 0 {
			t.Errorf("query %d: %d acks, %d answers, missing %v", i, len(got.acks), len(got.answers), got.missing)
		}
	}
	var relayed uint64
	for _, h := range c.hosts {
		relayed += h.node.counts.repliesRelayed.Load()
	}
	if relayed < uint64(size) {
		t.Errorf("%d replies were passed on for others", relayed)
	}
}

// Of 200 nodes in five rotations, a twentieth of all datagrams lost and 5 to 80 ms on
// the way, 99 of 100 use the new epoch within five seconds of virtual time.
func TestTwoHundredNodesRotateInUnderFiveSeconds(t *testing.T) {
	if !*large {
		t.Skip("two hundred nodes take minutes: -large")
	}
	const size, rotations = 200, 5
	inBubble(t, func(t *testing.T, c *cluster) {
		c.net.Loss(0.05)
		c.net.Delay(5*time.Millisecond, 80*time.Millisecond)
		first := c.host("n0").start()
		for i := 1; i < size; i++ {
			c.host(fmt.Sprintf("n%d", i)).start().join(first)
		}
		time.Sleep(time.Minute)
		var took []time.Duration
		for number := uint64(2); number < 2+rotations; number++ {
			begin := time.Now()
			done := make(chan Rotation)
			go func() { done <- c.rotate(first) }()
			for waiting := size; waiting > 0 && time.Since(begin) < time.Minute; time.Sleep(50 * time.Millisecond) {
				using := 0
				for _, h := range c.hosts {
					if _, primary := h.node.EpochState(); primary >= number {
						using++
					}
				}
				for ; waiting > size-using; waiting-- {
					took = append(took, time.Since(begin))
				}
			}
			if rotation := <-done; rotation.Using != size || !rotation.Removed {
				t.Errorf("rotation ended as %+v", rotation)
			}
		}
		slices.Sort(took)
		if len(took) != rotations*size || took[len(took)*99/100] > 5*time.Second {
			t.Errorf("%d of %d times a node used the new epoch, 99 of 100 within %v", len(took), rotations*size, took[len(took)*99/100])
		}
		t.Logf("after %v (median), %v (99th of 100), %v (the last)", took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	})
}
