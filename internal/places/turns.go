package places

import (
	"net"
	"runtime"
)

// turns are how many handshakes of one listener compute at the same time. A
// listener's part takes about a millisecond (the hybrid key exchange, a signature,
// and the other end's chain), and those who wait are served in the order in which
// they came. So with one turn and 256 places nobody waits much longer than a
// quarter of a second, and the rest of the agent has the other half of the
// processors; on a single one, handshakes are one goroutine among the others.
type turns chan struct{}

func newTurns() turns { return make(turns, max(1, runtime.GOMAXPROCS(0)/2)) }

// awaitTurn waits for a turn, until the deadline of the handshake or until the
// connection had to make room.
func (c *Conn) awaitTurn() error {
	select {
	case c.places.turns <- struct{}{}:
		c.turn = true
		return nil
	case <-c.lost:
		return net.ErrClosed
	case <-c.shaking.Done():
		return c.shaking.Err()
	}
}

func (c *Conn) endTurn() {
	if c.turn {
		c.turn = false
		<-c.places.turns
	}
}
