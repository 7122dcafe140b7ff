package memnet

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// PacketConn is a socket for datagrams, as far as a transport needs it;
// *net.UDPConn is one. It is an alias so that a package that writes down the
// same methods itself has the same type, without importing this one.
type PacketConn = interface {
	ReadFromUDPAddrPort(b []byte) (n int, from netip.AddrPort, err error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (n int, err error)
	LocalAddr() net.Addr
	Close() error
}

const (
	// packetQueue is how many datagrams wait in a socket. A kernel's default of
	// 208 KiB holds about that many of ours with its bookkeeping.
	packetQueue = 256
	// maxDatagram is what fits into IPv4: 65,535 less 20 and 8 bytes of headers.
	maxDatagram = 65507
)

// packetConn is a bound UDP socket.
type packetConn struct {
	host    *Host
	bound   netip.AddrPort // as asked for: may be unspecified
	queue   []Datagram
	closed  bool
	arrived *sync.Cond
}

// ListenPacket binds a UDP socket. The address is the host's own, unspecified
// or missing; port 0 picks a free one.
func (h *Host) ListenPacket(addr netip.AddrPort) (PacketConn, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	bound, err := h.bindLocked(addr, func(port uint16) bool { return h.packets[port] != nil })
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "udp", Addr: net.UDPAddrFromAddrPort(addr), Err: err}
	}
	c := &packetConn{host: h, bound: bound, arrived: sync.NewCond(&h.net.mu)}
	h.packets[bound.Port()] = c
	return c, nil
}

// takeLocked queues d. A full queue drops what comes last, as a kernel does.
func (c *packetConn) takeLocked(d Datagram) bool {
	if len(c.queue) >= packetQueue {
		return false
	}
	c.queue = append(c.queue, d)
	c.arrived.Signal()
	return true
}

// ReadFromUDPAddrPort waits for a datagram. What does not fit into b is lost.
func (c *packetConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	for len(c.queue) == 0 && !c.closed {
		c.arrived.Wait()
	}
	if c.closed {
		return 0, netip.AddrPort{}, c.errorOf("read", nil, net.ErrClosed)
	}
	d := c.queue[0]
	c.queue = c.queue[1:]
	return copy(b, d.Data), d.From, nil
}

// WriteToUDPAddrPort sends a datagram. As with a real socket, success says
// nothing about its arrival.
func (c *packetConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if err := c.mayWrite(b, to); err != nil {
		return 0, c.errorOf("write", net.UDPAddrFromAddrPort(to), err)
	}
	c.host.net.transmit(Datagram{
		From: netip.AddrPortFrom(c.host.addr, c.bound.Port()),
		To:   netip.AddrPortFrom(to.Addr().Unmap(), to.Port()),
		Data: bytes.Clone(b),
		At:   time.Now(),
	})
	return len(b), nil
}

func (c *packetConn) mayWrite(b []byte, to netip.AddrPort) error {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	switch {
	case c.closed:
		return net.ErrClosed
	case !to.Addr().IsValid():
		return &net.AddrError{Err: "missing address"}
	case to.Port() == 0:
		return os.NewSyscallError("sendto", syscall.EINVAL)
	case len(b) > maxDatagram:
		return os.NewSyscallError("sendto", syscall.EMSGSIZE)
	}
	return nil
}

// LocalAddr returns a *net.UDPAddr.
func (c *packetConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.bound) }

// Close frees the port. A read that waits returns net.ErrClosed.
func (c *packetConn) Close() error {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	if c.closed {
		return c.errorOf("close", nil, net.ErrClosed)
	}
	c.closeLocked()
	return nil
}

func (c *packetConn) closeLocked() {
	c.closed = true
	delete(c.host.packets, c.bound.Port())
	c.arrived.Broadcast()
}

func (c *packetConn) errorOf(op string, to net.Addr, err error) error {
	return &net.OpError{Op: op, Net: "udp", Source: c.LocalAddr(), Addr: to, Err: err}
}
