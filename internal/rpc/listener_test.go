package rpc

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/api/secgossip/v1/secgossipv1connect"
)

// pipes is a net.Listener without a network, so that time can be virtual.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error   { close(p.done); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// pipeEnd is the listener's end of a pipe from an address.
type pipeEnd struct {
	net.Conn
	from netip.Addr
}

func (e pipeEnd) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(e.from, 1))
}

// quiet is a Listener in a bubble, with clients to connect to it.
type quiet struct {
	*Listener
	agent
	t     *testing.T
	pipes pipes
	taken []net.Conn // what Accept returned
	ends  []net.Conn // what dial returned
}

// inBubble runs a story about a Listener in virtual time.
func inBubble(t *testing.T, story func(t *testing.T, q *quiet)) {
	t.Helper()
	outside := newAgent()
	synctest.Test(t, func(t *testing.T) {
		q := &quiet{agent: *outside, t: t, pipes: pipes{make(chan net.Conn), make(chan struct{})}}
		q.Listener = NewListener(q.pipes, q.serverTLS())
		served := make(chan struct{})
		go func() {
			defer close(served)
			for {
				conn, err := q.Accept()
				if err != nil {
					return
				}
				q.taken = append(q.taken, conn)
			}
		}()
		story(t, q)
		q.Close()
		<-served
		for _, conn := range q.taken {
			conn.(*tls.Conn).NetConn().Close()
		}
		for _, conn := range q.ends {
			conn.Close()
		}
		if got := q.Counters()["connections"]; got != 0 || q.places.Held() != 0 {
			t.Errorf("%d connections and %d places are taken at the end", got, q.places.Held())
		}
	})
}

// dial connects from an address.
func (q *quiet) dial(from string) net.Conn {
	here, there := net.Pipe()
	q.pipes.conns <- pipeEnd{there, netip.MustParseAddr(from)}
	synctest.Wait()
	q.ends = append(q.ends, here)
	return here
}

// prove connects as a client and reports whether it was let in.
func (q *quiet) prove(name, from string) (*tls.Conn, bool) {
	q.t.Helper()
	before := q.accepted.Load()
	config, _ := q.as(q.t, name, "admin")
	raw := q.dial(from)
	conn := tls.Client(raw, config)
	if err := conn.Handshake(); err != nil {
		return nil, false
	}
	synctest.Wait()
	return conn, q.accepted.Load() == before+1
}

// hearOut reads until the other end closes.
func hearOut(conn net.Conn) (got []byte, after time.Duration) {
	start := time.Now()
	got, _ = io.ReadAll(conn)
	return got, time.Since(start)
}

// Threats N07, N08: whoever does not prove to be a client is gone in time, and
// nothing it claims to be about to say is waited for or made room for.
func TestStrangersOfTheRPCAreGoneInTime(t *testing.T) {
	hello := clientHello(t)
	inBubble(t, func(t *testing.T, q *quiet) {
		for claim, test := range map[string]struct {
			says  []byte
			after time.Duration
		}{
			"nothing":                         {nil, handshakeTimeout},
			"one byte":                        {[]byte{22}, handshakeTimeout},
			"half a hello":                    {hello[:100], handshakeTimeout},
			"a hello and then nothing":        {hello, handshakeTimeout},
			"a record that does not come":     {[]byte{22, 3, 1, 0x40, 0}, handshakeTimeout},
			"a message of 16 MiB":             {[]byte{22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff}, 0},
			"64 kB, of which a part comes":    {longHello(64_000)[:60_000], 0},
			"HTTP without TLS":                {[]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 0},
			"a body of 20 MB without TLS":     {[]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n"), 0},
			"a memberlist push/pull of 20 MB": {append([]byte{6, 1, 0x31, 0x2d, 0}, make([]byte, 100)...), 0},
		} {
			before := q.dropped.Load()
			conn := q.dial("192.0.2.1")
			go conn.Write(test.says)
			if got, after := hearOut(conn); after != test.after || len(got) > 7 && claim != "a hello and then nothing" {
				t.Errorf("%s: closed after %v with %d bytes, want it after %v", claim, after, len(got), test.after)
			}
			synctest.Wait()
			if got := q.dropped.Load() - before; got != 1 {
				t.Errorf("%s: %d strangers are counted, want 1", claim, got)
			}
		}
	})
}

// longHello is a hello of so many bytes, in records of 16 KiB.
func longHello(size int) (all []byte) {
	body := append([]byte{1, 0, byte(size >> 8), byte(size)}, make([]byte, size)...)
	for len(body) > 0 {
		n := min(len(body), 1<<14)
		all = append(all, 22, 3, 1, byte(n>>8), byte(n))
		all = append(all, body[:n]...)
		body = body[n:]
	}
	return all
}

// Threat N08: strangers have so many places, by source and in all; a client gets
// in through them, wherever it comes from.
func TestClientGetsInThroughACrowd(t *testing.T) {
	hello := clientHello(t)
	for claim, test := range map[string]struct {
		from func(i int) string
		says []byte
		most int
	}{
		"silent, from everywhere":           {everywhere, nil, maxStrangers - strangersReserved},
		"a hello each, from everywhere":     {everywhere, hello, maxStrangers - strangersReserved},
		"silent, from the client's address": {func(int) string { return "192.0.2.1" }, nil, strangersPerSource},
		"a hello each, from its address":    {func(int) string { return "192.0.2.1" }, hello, strangersPerSource},
	} {
		inBubble(t, func(t *testing.T, q *quiet) {
			for i := range 4 * maxStrangers {
				conn := q.dial(test.from(i))
				go conn.Write(test.says)
				synctest.Wait()
				if got := q.places.Held(); got > test.most {
					t.Fatalf("%s: %d places are taken, want at most %d", claim, got, test.most)
				}
			}
			if got := q.places.Held(); got != test.most {
				t.Errorf("%s: %d places are taken, want %d", claim, got, test.most)
			}
			for range 3 {
				if _, ok := q.prove("ops", "192.0.2.1"); !ok {
					t.Errorf("%s: the client is not let in", claim)
				}
			}
		})
	}
}

// everywhere is another source for each of 100.
func everywhere(i int) string { return fmt.Sprintf("198.51.100.%d", i%100) }

// Whoever has said hello stays while others at its address say nothing.
func TestSilentOnesMakeRoomFirst(t *testing.T) {
	hello := clientHello(t)
	inBubble(t, func(t *testing.T, q *quiet) {
		first := q.dial("192.0.2.1")
		go first.Write(hello)
		synctest.Wait()
		for range 3 * strangersPerSource {
			q.dial("192.0.2.1")
		}
		if _, after := hearOut(first); after != handshakeTimeout {
			t.Errorf("it was closed after %v, want %v", after, handshakeTimeout)
		}
	})
}

// Whoever was let in has a place that strangers cannot take.
func TestClientThatWasLetInHasAReserve(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quiet) {
		if _, ok := q.prove("ops", "192.0.2.1"); !ok {
			t.Fatal("the client is not let in")
		}
		for i := range maxStrangers {
			q.dial(everywhere(i))
		}
		before := q.dropped.Load()
		q.dial("192.0.2.1")
		if got := q.dropped.Load(); got != before || q.places.Held() != maxStrangers-strangersReserved+1 {
			t.Errorf("%d had to make room for it, %d places are taken", got-before, q.places.Held())
		}
		for i := range maxStrangers {
			q.dial(everywhere(i))
		}
		if got := q.places.Held(); got != maxStrangers-strangersReserved+1 {
			t.Errorf("%d places are taken after more came", got)
		}
	})
}

// Threat K07: one client's key does not hold what there is for all.
func TestConnectionsOfClientsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, q *quiet) {
		for i := range connectionsPerClient {
			if _, ok := q.prove("one", everywhere(i)); !ok {
				t.Fatalf("connection %d is refused", i+1)
			}
		}
		conn, ok := q.prove("one", "192.0.2.1")
		if ok || q.refused.Load() != 1 {
			t.Errorf("one more is let in: %v", ok)
		}
		if conn != nil {
			if got, after := hearOut(conn.NetConn()); len(got) != 0 || after != 0 {
				t.Errorf("one more got %d bytes after %v", len(got), after)
			}
		}
		for i := connectionsPerClient; i < maxConnections; i++ {
			if _, ok := q.prove(fmt.Sprintf("other-%d", i/connectionsPerClient), everywhere(i)); !ok {
				t.Fatalf("connection %d of all is refused", i+1)
			}
		}
		if _, ok := q.prove("late", "192.0.2.1"); ok {
			t.Error("one more than there are is let in")
		}
		if got := q.Counters(); got["connections"] != maxConnections || got["connections_refused"] != 2 || got["strangers_dropped"] != 0 {
			t.Errorf("counters: %v", got)
		}
		// A place is free again when a connection is closed.
		q.taken[0].(*tls.Conn).NetConn().Close()
		synctest.Wait()
		if _, ok := q.prove("late", "192.0.2.1"); !ok {
			t.Error("when one has gone, nobody is let in")
		}
	})
}

// The same over real sockets, and by both versions of HTTP: those whom strangers
// keep busy have clients that call, and nothing is left of it at the end.
func TestCallsAreAnsweredThroughACrowd(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("crowd", func(t *testing.T) {
		a := startAgent(t)
		var crowd []net.Conn
		for i := range 300 {
			dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i%100+1))}}
			if i%2 == 0 {
				dialer.LocalAddr = nil // the clients' own address
			}
			conn, err := dialer.Dial("tcp", a.addr)
			if errors.Is(err, os.ErrPermission) || err != nil && i == 1 {
				t.Skipf("one loopback address only: %v", err)
			}
			crowd = append(crowd, must(conn, err))
		}
		client := a.client(t, "ops", "admin")
		if _, err := client.ListKeys(t.Context(), &secgossipv1.ListKeysRequest{}); err != nil {
			t.Errorf("a call: %v", err)
		}
		for _, http2 := range []bool{false, true} {
			resp := a.post(t, http2, secgossipv1connect.AgentServiceListKeysProcedure, "application/json", "{}", "keys:read")
			if resp.StatusCode != 200 || (resp.ProtoMajor == 2) != http2 {
				t.Errorf("a call by HTTP/%d: %s", resp.ProtoMajor, resp.Status)
			}
		}
		if got := a.listener.places.Held(); got > maxStrangers {
			t.Errorf("%d places are taken, want at most %d", got, maxStrangers)
		}
		if got := a.listener.Counters()["strangers_dropped"]; got < 300-maxStrangers {
			t.Errorf("%d of 300 strangers are gone, want all but %d", got, maxStrangers)
		}
		for _, conn := range crowd {
			conn.Close()
		}
	})
}

// Close ends handshakes, and connections that nobody has taken.
func TestCloseWaitsForHandshakes(t *testing.T) {
	outside := newAgent()
	synctest.Test(t, func(t *testing.T) {
		q := &quiet{agent: *outside, t: t, pipes: pipes{make(chan net.Conn), make(chan struct{})}}
		q.Listener = NewListener(q.pipes, q.serverTLS())
		first := make(chan net.Conn)
		go func() {
			conn, _ := q.Accept()
			first <- conn
		}()
		silent := q.dial("192.0.2.1")
		q.prove("ops", "192.0.2.2")
		accepted := <-first
		untaken, _ := q.prove("ops", "192.0.2.2")
		start := time.Now()
		q.Close()
		for what, conn := range map[string]net.Conn{"a silent one": silent, "one that nobody took": untaken.NetConn()} {
			if got, _ := hearOut(conn); len(got) != 0 || !time.Now().Equal(start) {
				t.Errorf("%s got %x after %v", what, got, time.Since(start))
			}
		}
		if got := q.Counters()["connections"]; got != 1 {
			t.Errorf("%d connections are open, want the one that was taken", got)
		}
		accepted.(*tls.Conn).NetConn().Close()
		if _, err := q.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Close: %v", err)
		}
	})
}

// clientHello is the first flight of a handshake.
func clientHello(t *testing.T) []byte {
	t.Helper()
	here, there := net.Pipe()
	defer there.Close()
	go tls.Client(here, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}).Handshake()
	buffer := make([]byte, 4096)
	n, err := there.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return buffer[:n]
}
