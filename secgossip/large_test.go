package secgossip

import (
	"fmt"
	"testing"
	"time"
)

// Thirty nodes, one in ten datagrams lost: everybody finds everybody, an event
// reaches all of them, and a rotation carries everybody along.
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
				if m.Status != StatusAlive {
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
	})
}
