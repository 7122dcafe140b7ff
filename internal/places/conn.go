package places

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
)

// Conn is a connection that holds a place.
type Conn struct {
	net.Conn
	places *Places
	source netip.Prefix
	known  bool
	heard  bool          // under places.mu
	lost   chan struct{} // closed when it had to make room
	gone   chan struct{} // closed by GiveBack
	once   sync.Once

	// Of the goroutine that shakes hands.
	shaking context.Context // nil before and after
	turn    bool            // whether we have a turn now
	left    int             // bytes of maxHandshake that may still be read

	atClose func()
	closing sync.Once
}

// Source is where it comes from.
func (c *Conn) Source() netip.Prefix { return c.source }

// Heard notes that the other end has said what an honest one begins with. Those
// who have not make room first.
func (c *Conn) Heard() {
	c.places.mu.Lock()
	defer c.places.mu.Unlock()
	c.heard = true
}

// GiveBack ends the place; the connection lives on, if it was not closed to make
// room. It reports whether the place was held until now.
func (c *Conn) GiveBack() bool {
	c.places.mu.Lock()
	held := c.places.removeLocked(c)
	c.places.mu.Unlock()
	c.once.Do(func() { close(c.gone) })
	return held
}

// AtClose has f run once the connection is closed. Only whoever holds it alone
// may say so: after GiveBack, before it is handed on.
func (c *Conn) AtClose(f func()) { c.atClose = f }

// Close closes the connection. It does not give its place back.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	c.closing.Do(func() {
		if c.atClose != nil {
			c.atClose()
		}
	})
	return err
}

// maxHandshake is how many bytes of the other end a handshake may read. Hello and
// certificates of an honest one have 5 kB, and crypto/tls may read a few more kB
// of what follows. It would itself take, and keep until it has all, certificates
// of 256 KiB from anybody.
const maxHandshake = 32 << 10

var errLongHandshake = errors.New("handshake is too long")

// Handshake is the listener's side of a TLS handshake, in turns with others. It
// ends with ctx, which must have a deadline.
func (c *Conn) Handshake(ctx context.Context, config *tls.Config) (*tls.Conn, error) {
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return nil, err
	}
	c.shaking, c.left = ctx, maxHandshake
	defer func() {
		c.endTurn()
		c.shaking = nil
	}()
	if err := c.awaitTurn(); err != nil {
		return nil, err
	}
	conn := tls.Server(c, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return conn, nil
}

// Read gives up the turn for as long as the other end says nothing.
func (c *Conn) Read(b []byte) (int, error) {
	if c.shaking == nil {
		return c.Conn.Read(b)
	}
	if c.left == 0 {
		return 0, errLongHandshake
	}
	c.endTurn()
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	if err != nil {
		return n, err
	}
	return n, c.awaitTurn()
}

// Write gives up the turn for as long as the other end takes nothing.
func (c *Conn) Write(b []byte) (int, error) {
	if c.shaking == nil {
		return c.Conn.Write(b)
	}
	c.endTurn()
	n, err := c.Conn.Write(b)
	if err != nil {
		return n, err
	}
	return n, c.awaitTurn()
}
