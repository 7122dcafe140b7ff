package memnet

import (
	"net"
	"net/netip"
	"os"
	"syscall"
)

// Ports that are picked when none is asked for, as the IANA has them.
const (
	firstPort = 49152
	lastPort  = 65535
)

// Host is a machine with one address, from its start to its end. It opens
// sockets in the manner of package net.
type Host struct {
	net       *Network
	addr      netip.Addr
	killed    bool
	packets   map[uint16]*packetConn
	listeners map[uint16]*listener
	conns     map[*conn]bool // that were not closed here
	nextPort  uint16
}

func newHost(n *Network, addr netip.Addr) *Host {
	return &Host{
		net:       n,
		addr:      addr,
		packets:   make(map[uint16]*packetConn),
		listeners: make(map[uint16]*listener),
		conns:     make(map[*conn]bool),
		nextPort:  firstPort,
	}
}

// Addr returns the host's address.
func (h *Host) Addr() netip.Addr { return h.addr }

// Kill ends the host: all its sockets close abruptly and whatever was not sent
// is lost. The other ends of its streams see a reset, those that are cut off
// see nothing until they are reached. The Host opens nothing any more, so that
// goroutines that still use it are dead to the network; a restart at the same
// address is a new Host, from Network.Host.
func (h *Host) Kill() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.killed {
		return
	}
	h.killed = true
	delete(h.net.hosts, h.addr)
	h.shutLocked(func(c *conn) { c.abortLocked() })
	h.net.changed.Broadcast()
}

// shutLocked closes every socket, streams in the way end says.
func (h *Host) shutLocked(end func(*conn)) {
	for _, c := range h.packets {
		c.closeLocked()
	}
	for _, l := range h.listeners {
		l.closeLocked()
	}
	for c := range h.conns {
		end(c)
	}
}

func (h *Host) goneLocked() bool { return h.killed || h.net.closed }

// bindLocked checks the address of a new socket and picks its port.
func (h *Host) bindLocked(addr netip.AddrPort, taken func(port uint16) bool) (netip.AddrPort, error) {
	if h.goneLocked() {
		return netip.AddrPort{}, net.ErrClosed
	}
	ip := addr.Addr().Unmap()
	switch {
	case !ip.IsValid():
		ip = h.addr
	case ip != h.addr && !ip.IsUnspecified():
		return netip.AddrPort{}, os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)
	}
	port := addr.Port()
	if port == 0 {
		port = h.freePortLocked()
	}
	if port == 0 || taken(port) {
		return netip.AddrPort{}, os.NewSyscallError("bind", syscall.EADDRINUSE)
	}
	return netip.AddrPortFrom(ip, port), nil
}

// freePortLocked returns a port that neither kind of socket is bound to, so
// that an agent that takes one for datagrams gets the same one for streams. It
// is 0 when there is none.
func (h *Host) freePortLocked() uint16 {
	for range lastPort - firstPort + 1 {
		port := h.nextPort
		h.nextPort++
		if h.nextPort < firstPort { // after the last port comes 0
			h.nextPort = firstPort
		}
		if h.packets[port] == nil && h.listeners[port] == nil {
			return port
		}
	}
	return 0
}
