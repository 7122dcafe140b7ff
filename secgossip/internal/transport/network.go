package transport

import (
	"context"
	"net"
	"net/netip"
)

// Network is where sockets come from: the host's, or an in-memory one in tests.
type Network interface {
	ListenPacket(addr netip.AddrPort) (PacketConn, error)
	Listen(addr netip.AddrPort) (net.Listener, error)
	Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
}

// PacketConn is the part of *net.UDPConn the transport uses. It is an alias so
// that another package can have the same type without knowing this one.
type PacketConn = interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	LocalAddr() net.Addr
	Close() error
}

// Host is the Network of the machine we run on.
type Host struct{}

// receiveBuffer is what the kernel may hold for us, in bytes: 1,800 of the largest
// datagrams with its bookkeeping, so that a burst of junk, or a moment without a
// processor, costs no member's datagram. Linux gives what net.core.rmem_max allows.
const receiveBuffer = 4 << 20

// ListenPacket opens a UDP socket.
func (Host) ListenPacket(addr netip.AddrPort) (PacketConn, error) {
	conn, err := net.ListenUDP(udpNetwork(addr.Addr()), net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, err
	}
	_ = conn.SetReadBuffer(receiveBuffer) // with less we lose more, and nothing else
	return conn, nil
}

// Listen opens a TCP socket for streams.
func (Host) Listen(addr netip.AddrPort) (net.Listener, error) {
	return net.ListenTCP(tcpNetwork(addr.Addr()), net.TCPAddrFromAddrPort(addr))
}

// Dial opens a TCP connection.
func (Host) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr.String())
}

// An IPv4 wildcard means IPv4 only; Go's "udp" would also open IPv6. The IPv6
// wildcard means both families.
func udpNetwork(addr netip.Addr) string {
	if addr.Is4() {
		return "udp4"
	}
	return "udp"
}

func tcpNetwork(addr netip.Addr) string {
	if addr.Is4() {
		return "tcp4"
	}
	return "tcp"
}
