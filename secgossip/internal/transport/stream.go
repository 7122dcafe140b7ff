package transport

import (
	"crypto/tls"
	"io"
	"net"
	"sync"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// stream is a connection as memberlist sees it, once the sync is done: between
// virtual addresses, with a cap on what may be read, and screened by guard.
type stream struct {
	*tls.Conn
	local, remote net.Addr
	in            io.Reader
	forget        func()
	done          chan struct{} // closed by Close
	once          sync.Once
}

// memberStream dresses a synced connection for memberlist. The deadline of the
// sync is over; a new one stands until memberlist sets its own.
func (t *Transport) memberStream(conn *tls.Conn, member *guard.Peer) (*stream, error) {
	if err := conn.SetDeadline(t.now().Add(streamTimeout)); err != nil {
		return nil, err
	}
	var only pki.Name
	if t.config.Quarantined != nil && t.config.Quarantined(member.Name) {
		only = member.Name
	}
	return &stream{
		Conn:   conn,
		local:  net.TCPAddrFromAddrPort(guard.VirtualAddr(t.config.Trust.Cluster(), t.config.Self)),
		remote: net.TCPAddrFromAddrPort(member.Virtual),
		in:     guard.NewStateReader(io.LimitReader(conn, wire.MaxStreamBytes), t.config.Roster, t.config.Self, only),
		forget: func() { t.open.remove(conn.NetConn()) },
		done:   make(chan struct{}),
	}, nil
}

func (s *stream) Read(b []byte) (int, error) { return s.in.Read(b) }
func (s *stream) LocalAddr() net.Addr        { return s.local }
func (s *stream) RemoteAddr() net.Addr       { return s.remote }

// Close says goodbye, for which TLS allows itself five seconds. It may be called
// more than once.
func (s *stream) Close() error {
	var err error
	s.once.Do(func() {
		err = s.Conn.Close()
		s.forget()
		close(s.done)
	})
	return err
}
