package memnet

import (
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// conn is one end of a stream: a net.Conn with CloseWrite, as *net.TCPConn.
type conn struct {
	host          *Host
	local, remote netip.AddrPort
	in, out       *pipe
	closed        bool // by this end
	writeClosed   bool
	failed        bool // a reset arrived
	writing       bool // a Write is under way: they do not mix
	readBy        deadline
	writeBy       deadline
}

// newStreamLocked connects two hosts.
func newStreamLocked(dialler *Host, from netip.AddrPort, acceptor *Host, to netip.AddrPort) (*conn, *conn) {
	there, back := newPipe(dialler.net), newPipe(dialler.net)
	a := &conn{host: dialler, local: from, remote: to, in: back, out: there}
	b := &conn{host: acceptor, local: to, remote: from, in: there, out: back}
	there.from, there.to = a, b
	back.from, back.to = b, a
	dialler.conns[a] = true
	acceptor.conns[b] = true
	return a, b
}

// Read reads what has arrived. After the last byte it returns io.EOF when the
// other end finished, or ECONNRESET when the stream was cut.
func (c *conn) Read(b []byte) (int, error) {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, c.errorOf("read", net.ErrClosed)
		case c.readBy.passed():
			return 0, c.errorOf("read", os.ErrDeadlineExceeded)
		case len(b) == 0:
			return 0, nil
		case c.in.arrived > 0:
			return c.in.readLocked(b), nil
		case c.in.ended && c.in.buffer.Len() == 0:
			return 0, io.EOF
		case c.failed:
			return 0, c.errorOf("read", os.NewSyscallError("read", syscall.ECONNRESET))
		}
		c.in.moved.Wait()
	}
}

// Write waits until all bytes have found room. On an error it says how many did.
func (c *conn) Write(b []byte) (int, error) {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	for c.writing { // whatever ends this Write also ends the one before
		c.out.moved.Wait()
	}
	c.writing = true
	defer func() {
		c.writing = false
		c.out.moved.Broadcast()
	}()
	written := 0
	for {
		if err := c.writeErrorLocked(); err != nil {
			return written, err
		}
		if count := min(c.out.roomLocked(), len(b)-written); count > 0 {
			c.out.writeLocked(b[written : written+count])
			written += count
		}
		if written == len(b) {
			return written, nil
		}
		if c.out.roomLocked() == 0 {
			c.out.moved.Wait()
		}
	}
}

func (c *conn) writeErrorLocked() error {
	switch {
	case c.closed:
		return c.errorOf("write", net.ErrClosed)
	case c.writeBy.passed():
		return c.errorOf("write", os.ErrDeadlineExceeded)
	case c.writeClosed, c.failed && c.in.ended:
		return c.errorOf("write", os.NewSyscallError("write", syscall.EPIPE))
	case c.failed:
		return c.errorOf("write", os.NewSyscallError("write", syscall.ECONNRESET))
	}
	return nil
}

// CloseWrite ends this direction: after what was written the other end reads
// io.EOF. The other direction goes on.
func (c *conn) CloseWrite() error {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	if c.closed {
		return c.errorOf("close", net.ErrClosed)
	}
	c.endLocked()
	return nil
}

func (c *conn) endLocked() {
	if !c.writeClosed && !c.failed {
		c.writeClosed = true
		c.out.sendLocked(parcel{end: true})
		c.out.moved.Broadcast()
	}
}

// Close ends both directions. What was written still arrives, unless bytes lie
// here unread: then the other end sees a reset, as on Linux, where this is how
// an answer gets lost that is sent before a request was read to its end.
func (c *conn) Close() error {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	switch {
	case c.closed:
		return c.errorOf("close", net.ErrClosed)
	case c.in.arrived > 0:
		c.abortLocked()
	default:
		c.endLocked()
		c.shutLocked()
	}
	return nil
}

// abortLocked closes this end without a farewell. The reset comes after what is
// on its way; what stalled never leaves.
func (c *conn) abortLocked() {
	c.shutLocked()
	c.out.stalled = parcel{}
	c.out.sendLocked(parcel{reset: true})
}

// failLocked ends the stream for this end: a reset has arrived.
func (c *conn) failLocked() {
	c.failed = true
	c.out.cut = true
	c.wakeLocked()
}

// shutLocked closes this end and tells nobody.
func (c *conn) shutLocked() {
	c.closed = true
	delete(c.host.conns, c)
	c.readBy.stopLocked(c.host.net)
	c.writeBy.stopLocked(c.host.net)
	c.wakeLocked()
}

func (c *conn) wakeLocked() {
	c.in.moved.Broadcast()
	c.out.moved.Broadcast()
}

// LocalAddr returns a *net.TCPAddr.
func (c *conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr returns a *net.TCPAddr.
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// SetDeadline sets both deadlines.
func (c *conn) SetDeadline(t time.Time) error { return c.setDeadlines(t, &c.readBy, &c.writeBy) }

// SetReadDeadline applies to a Read that waits, too. The zero time is none.
func (c *conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(t, &c.readBy) }

// SetWriteDeadline applies to a Write that waits, too. The zero time is none.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, &c.writeBy) }

func (c *conn) setDeadlines(t time.Time, deadlines ...*deadline) error {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	if c.closed {
		return c.errorOf("set", net.ErrClosed)
	}
	for _, d := range deadlines {
		d.setLocked(c.host.net, t, c.wakeLocked)
	}
	return nil
}

func (c *conn) errorOf(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// deadline is a time after which a call no longer waits. Zero is never.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) setLocked(n *Network, t time.Time, wake func()) {
	d.stopLocked(n)
	d.at = time.Time{}
	if !t.IsZero() {
		// Counted from now on the monotonic clock, so that the deadline has
		// passed for sure when the timer fires.
		left := time.Until(t)
		d.at = time.Now().Add(left)
		d.timer = n.startTimerLocked(left, wake) // at once when t has passed
	}
}

func (d *deadline) stopLocked(n *Network) {
	n.stopTimerLocked(d.timer)
	d.timer = nil
}
