package metrics

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/netip"
	"os"
	"sync"
)

// quiet is the log of the HTTP server: strangers decide what it would write.
var quiet = log.New(io.Discard, "", 0)

// maxSocketPath is what the kernel takes for the path of a socket.
const maxSocketPath = 107

func parseAddrPort(s string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(s)
	switch {
	case err != nil:
		return netip.AddrPort{}, fmt.Errorf("%q: want ADDRESS:PORT, such as 127.0.0.1:7374, or unix:PATH", s)
	case at.Addr().IsUnspecified():
		return netip.AddrPort{}, fmt.Errorf("%q: whoever reaches the port may read it; name one address, 127.0.0.1 for this host alone", s)
	}
	return at, nil
}

// Listen opens what ParseAddr returned. A socket that a killed agent left is taken
// over; anything else in its place is an error.
func Listen(network, address string) (net.Listener, error) {
	if network == "unix" {
		if err := removeStale(address); err != nil {
			return nil, err
		}
	}
	inner, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	return &limited{Listener: inner, free: make(chan struct{}, maxConnections)}, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there and is no socket", path)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return fmt.Errorf("%s is in use", path)
	}
	return os.Remove(path)
}

// limited closes whoever comes while maxConnections are open.
type limited struct {
	net.Listener
	free chan struct{} // one for each open connection
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.free <- struct{}{}:
			return &counted{Conn: conn, done: sync.OnceFunc(func() { <-l.free })}, nil
		default:
			conn.Close()
		}
	}
}

// counted gives its place back when it is closed.
type counted struct {
	net.Conn
	done func()
}

func (c *counted) Close() error {
	defer c.done()
	return c.Conn.Close()
}
