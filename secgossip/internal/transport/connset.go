package transport

import (
	"crypto/ed25519"
	"net"
	"sync"
	"time"

	"github.com/secgossip/secgossip/pki"
)

// connSet is the set of open connections, so that Shutdown can close them. They
// are the bare ones, below TLS: closing those never waits. With each is who has
// proven itself at its other end, so that those of a revoked node can be closed.
// The zero value is ready.
type connSet struct {
	mu     sync.Mutex
	conns  map[net.Conn]proven
	closed bool
}

// proven is whom a handshake has shown; its name is empty before that.
type proven struct {
	name      pki.Name
	key       ed25519.PublicKey
	notBefore time.Time
}

// add takes a connection in; after closeAll it closes it and reports false.
func (s *connSet) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return false
	}
	if s.conns == nil {
		s.conns = make(map[net.Conn]proven)
	}
	s.conns[c] = proven{}
	return true
}

// belongs notes who is at the other end of a connection.
func (s *connSet) belongs(c net.Conn, who proven) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, open := s.conns[c]; open {
		s.conns[c] = who
	}
}

// closeIf closes the connections of whom it is told to.
func (s *connSet) closeIf(out func(proven) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, who := range s.conns {
		if who.name != "" && out(who) {
			c.Close()
		}
	}
}

func (s *connSet) remove(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

func (s *connSet) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.conns = nil
}
