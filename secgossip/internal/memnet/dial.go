package memnet

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// backlog is how many streams wait for Accept. A dialler beyond waits.
	backlog = 128
	// dialTimeout is when a dial without an answer ends by itself: Linux gives
	// up after its seventh attempt, 127 s after the first.
	dialTimeout = 127 * time.Second
)

// listener is a net.Listener.
type listener struct {
	host    *Host
	bound   netip.AddrPort // as asked for: may be unspecified
	queue   []*conn
	closed  bool
	arrived *sync.Cond
}

// Listen accepts streams. The address is the host's own, unspecified or
// missing; port 0 picks a free one.
func (h *Host) Listen(addr netip.AddrPort) (net.Listener, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	bound, err := h.bindLocked(addr, func(port uint16) bool { return h.listeners[port] != nil })
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: net.TCPAddrFromAddrPort(addr), Err: err}
	}
	l := &listener{host: h, bound: bound, arrived: sync.NewCond(&h.net.mu)}
	h.listeners[bound.Port()] = l
	return l, nil
}

// Accept waits for a stream, or for Close: then its error is net.ErrClosed.
func (l *listener) Accept() (net.Conn, error) {
	l.host.net.mu.Lock()
	defer l.host.net.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		l.arrived.Wait()
	}
	if l.closed {
		return nil, l.errorOf("accept", net.ErrClosed)
	}
	c := l.queue[0]
	l.queue = l.queue[1:]
	l.host.net.changed.Broadcast() // there is room for another
	return c, nil
}

// Close frees the port and resets the streams nobody accepted.
func (l *listener) Close() error {
	l.host.net.mu.Lock()
	defer l.host.net.mu.Unlock()
	if l.closed {
		return l.errorOf("close", net.ErrClosed)
	}
	l.closeLocked()
	l.host.net.changed.Broadcast()
	return nil
}

func (l *listener) closeLocked() {
	l.closed = true
	delete(l.host.listeners, l.bound.Port())
	for _, c := range l.queue {
		c.abortLocked()
	}
	l.arrived.Broadcast()
}

// Addr returns a *net.TCPAddr.
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.bound) }

func (l *listener) errorOf(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: l.Addr(), Err: err}
}

// Dial opens a stream. Where nobody listens it is refused. Where the path is
// blocked in either direction it waits: until that ends, until ctx does, or for
// 127 seconds.
func (h *Host) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	to := netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	c, err := h.dial(ctx, to)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	return c, nil
}

func (h *Host) dial(ctx context.Context, to netip.AddrPort) (*conn, error) {
	if !to.Addr().IsValid() {
		return nil, &net.AddrError{Err: "missing address"}
	}
	h.greet(ctx)
	n := h.net
	// ctx wakes the wait below. Its function takes the lock, so that it cannot
	// fall between the look at ctx and the wait.
	stop := context.AfterFunc(ctx, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.changed.Broadcast()
	})
	defer stop()

	n.mu.Lock()
	defer n.mu.Unlock()
	late := false
	timer := n.startTimerLocked(dialTimeout, func() {
		late = true
		n.changed.Broadcast()
	})
	defer n.stopTimerLocked(timer)
	for {
		switch {
		case h.goneLocked():
			return nil, net.ErrClosed
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case late:
			return nil, os.NewSyscallError("connect", syscall.ETIMEDOUT)
		}
		if n.openLocked(h.addr, to.Addr()) && n.openLocked(to.Addr(), h.addr) {
			l := n.listenerLocked(to)
			if l == nil {
				return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
			}
			if len(l.queue) < backlog {
				return h.connectLocked(l, to)
			}
		}
		n.changed.Wait()
	}
}

// greet takes the time of the first packet there and of its answer, or as long
// as ctx lets it.
func (h *Host) greet(ctx context.Context) {
	h.net.mu.Lock()
	trip := time.Until(h.net.arrivalLocked()) + time.Until(h.net.arrivalLocked())
	h.net.mu.Unlock()
	if trip <= 0 {
		return
	}
	select {
	case <-time.After(trip):
	case <-ctx.Done():
	}
}

func (n *Network) listenerLocked(at netip.AddrPort) *listener {
	if h := n.hosts[at.Addr()]; h != nil {
		return h.listeners[at.Port()]
	}
	return nil
}

func (h *Host) connectLocked(l *listener, to netip.AddrPort) (*conn, error) {
	port := h.freePortLocked()
	if port == 0 {
		return nil, os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)
	}
	ours, theirs := newStreamLocked(h, netip.AddrPortFrom(h.addr, port), l.host, to)
	l.queue = append(l.queue, theirs)
	l.arrived.Signal()
	return ours, nil
}
