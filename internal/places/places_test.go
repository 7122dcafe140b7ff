package places

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// fakeConn is a connection from an address, without bytes.
type fakeConn struct {
	net.Conn
	from   string
	closed atomic.Bool
}

func (c *fakeConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(c.from), 1))
}

func (c *fakeConn) Close() error { c.closed.Store(true); return nil }

// Threat N08. Members are at 10.0.0.x.
func TestWhoMakesRoom(t *testing.T) {
	const none = ""
	for claim, test := range map[string]struct {
		held  string // who is there, oldest first; a capital H after it: it was heard
		comes string
		goes  int // index of who makes room; -1: nobody has to; -2: no place
	}{
		"there is room":                                    {"1.0.0.1 1.0.0.2", "1.0.0.3", -1},
		"a source over its share":                          {"1.0.0.1 1.0.0.2 1.0.0.2 1.0.0.2 1.0.0.2", "1.0.0.2", 1},
		"a source over its share, one was heard":           {"1.0.0.2H 1.0.0.2 1.0.0.2 1.0.0.2", "1.0.0.2", 1},
		"a source over its share, the new ones are spared": {"1.0.0.2H 1.0.0.2H 1.0.0.2 1.0.0.2", "1.0.0.2", 0},
		"a known source over its share":                    {"10.0.0.1 10.0.0.1 10.0.0.1 10.0.0.1", "10.0.0.1", 0},
		"strangers have theirs":                            {"1.0.0.1 1.0.0.2 1.0.0.3 1.0.0.4 1.0.0.5 1.0.0.6", "1.0.0.7", 0},
		"strangers have theirs, some were heard":           {"1.0.0.1H 1.0.0.2H 1.0.0.3 1.0.0.4H 1.0.0.5 1.0.0.6", "1.0.0.7", 2},
		"strangers have theirs, a member comes":            {"1.0.0.1 1.0.0.2 1.0.0.3 1.0.0.4 1.0.0.5 1.0.0.6", "10.0.0.1", -1},
		"all is taken, a member comes":                     {"10.0.0.1 10.0.0.2 1.0.0.1 1.0.0.2 1.0.0.3 1.0.0.4 1.0.0.5 1.0.0.6", "10.0.0.3", 2},
		"members have all, a member comes":                 {"10.0.0.1H 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 10.0.0.7 10.0.0.8", "10.0.0.9", 1},
		"members have all":                                 {"10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 10.0.0.7 10.0.0.8", "1.0.0.1", -2},
		"members have more than the reserve":               {"10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 10.0.0.7 1.0.0.1", "1.0.0.2", 7},
		"nobody is there":                                  {none, "1.0.0.1", -1},
	} {
		p := New(Limits{All: 8, Each: 4, Reserved: 2}, func(source netip.Prefix) bool {
			return strings.HasPrefix(source.String(), "10.")
		})
		var there []*Conn
		for _, who := range strings.Fields(test.held) {
			c, yields := p.take(&fakeConn{from: strings.TrimSuffix(who, "H")})
			if yields != nil {
				t.Fatalf("%s: the scene cannot be set", claim)
			}
			if strings.HasSuffix(who, "H") {
				c.Heard()
			}
			there = append(there, c)
		}
		before := p.Held()
		c, yields := p.take(&fakeConn{from: test.comes})
		got := -1
		if yields != nil {
			got = slices.Index(there, yields)
		}
		if c == nil {
			got = -2
		}
		if got != test.goes {
			t.Errorf("%s: %d makes room, want %d", claim, got, test.goes)
		}
		if after := p.Held(); after != before && (got != -1 || after != before+1) {
			t.Errorf("%s: %d places were taken and then %d", claim, before, after)
		}
		if yields != nil && (yields.GiveBack() || !c.GiveBack() || c.GiveBack()) {
			t.Errorf("%s: the place is not the new one's alone", claim)
		}
	}
}

// brokenListener fails as a process without descriptors does, and then hands out
// connections.
type brokenListener struct {
	failures int
	calls    int
	conns    chan net.Conn
}

func (l *brokenListener) Accept() (net.Conn, error) {
	l.calls++
	if l.calls <= l.failures {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l *brokenListener) Close() error   { return nil }
func (l *brokenListener) Addr() net.Addr { return &net.TCPAddr{} }

func TestServeNeitherSpinsNorEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &brokenListener{failures: 100, conns: make(chan net.Conn, 1)}
		l.conns <- &fakeConn{from: "1.0.0.1"}
		answered := false
		start := time.Now()
		p := New(Limits{All: 1, Each: 1}, func(netip.Prefix) bool { return false })
		p.Serve(t.Context(), l, func() {}, func(*Conn) { answered = true; close(l.conns) })
		if took := time.Since(start); !answered || took != 100*acceptPause {
			t.Errorf("answered is %v after %v", answered, took)
		}
	})
}

// What was answered when the end came is closed, and waited for.
func TestServeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := &brokenListener{conns: make(chan net.Conn)}
		p := New(Limits{All: 2, Each: 2}, func(netip.Prefix) bool { return false })
		ended := make(chan struct{})
		var said error
		go func() {
			defer close(ended)
			p.Serve(ctx, l, func() {}, func(c *Conn) { _, said = c.Read(make([]byte, 1)); c.Close() })
		}()
		here, there := net.Pipe()
		l.conns <- there
		synctest.Wait()
		cancel()
		close(l.conns)
		<-ended
		if _, err := here.Read(make([]byte, 1)); !errors.Is(said, io.ErrClosedPipe) || !errors.Is(err, io.EOF) || p.Held() != 0 {
			t.Errorf("the answer got %v, the other end %v, %d places are taken", said, err, p.Held())
		}
	})
}

// Whoever makes room has ended before another is accepted: a flood leaves nothing
// behind that is still ending.
func TestServeWaitsForWhoMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &brokenListener{conns: make(chan net.Conn)}
		p := New(Limits{All: 1, Each: 1}, func(netip.Prefix) bool { return false })
		running, most := 0, 0
		served := make(chan struct{})
		go func() {
			defer close(served)
			p.Serve(t.Context(), l, func() {}, func(c *Conn) {
				running++
				most = max(most, running)
				_, _ = c.Read(make([]byte, 1))
				time.Sleep(time.Millisecond) // it has something to put away
				running--
			})
		}()
		for range 10 {
			_, there := net.Pipe()
			l.conns <- there
			synctest.Wait()
		}
		time.Sleep(time.Second)
		p.closeAll()
		close(l.conns)
		<-served
		if most != 1 {
			t.Errorf("%d answers ran at once, want 1", most)
		}
	})
}

// A handshake computes in turn with the others, and has no turn while it waits for
// the other end.
func TestHandshakeThatWaitsHasNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Limits{All: 2, Each: 2}, func(netip.Prefix) bool { return false })
		for range cap(p.turns) {
			p.turns <- struct{}{} // others compute
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, there := net.Pipe()
		c, _ := p.take(there)
		start := time.Now()
		if _, err := c.Handshake(ctx, nil); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("without a turn: %v after %v", err, time.Since(start))
		}

		for range cap(p.turns) {
			<-p.turns
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		here, there := net.Pipe()
		c, _ = p.take(there)
		done := make(chan error, 1)
		go func() {
			_, err := c.Handshake(ctx, serverConfig(t))
			done <- err
		}()
		synctest.Wait()
		if got := len(p.turns); got != 0 {
			t.Errorf("%d turns are taken while it reads", got)
		}
		go here.Write(clientHello(t))
		synctest.Wait()
		if got := len(p.turns); got != 0 { // the answer is not read: the pipe is full
			t.Errorf("%d turns are taken while it writes", got)
		}
		// One that must make room ends without a turn, too.
		for range cap(p.turns) {
			p.turns <- struct{}{}
		}
		close(c.lost)
		here.Read(make([]byte, 1<<16))
		if err := <-done; err == nil || time.Since(start) != time.Second {
			t.Errorf("when it made room: %v after %v", err, time.Since(start))
		}
		here.Close()
	})
}
