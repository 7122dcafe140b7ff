package memnet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestDialIsRefusedWhereNobodyListens(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		a, b := n.Host(addrA), n.Host(addrB)
		l := mustListen(t, b)
		if _, err := a.Dial(t.Context(), at(addrB)); err != nil {
			t.Fatal(err)
		}
		l.Close()
		_, err := a.Dial(t.Context(), at(addrB))
		wantError(t, "listener closed", err, syscall.ECONNREFUSED)
		_, err = a.Dial(t.Context(), netip.AddrPortFrom(addrB, 1))
		wantError(t, "no listener", err, syscall.ECONNREFUSED)
		_, err = a.Dial(t.Context(), at(addrC))
		wantError(t, "no host", err, syscall.ECONNREFUSED)
		var missing *net.AddrError
		if _, err = a.Dial(t.Context(), netip.AddrPort{}); !errors.As(err, &missing) {
			t.Errorf("no address: got %v, want a *net.AddrError", err)
		}
	})
}

// What a caller sees must be what the real thing says, down to the words.
func TestRefusalReadsLikeTheRealOne(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		_, err := n.Host(addrA).Dial(t.Context(), at(addrB))
		if got, want := err.Error(), "dial tcp 192.0.2.2:7946: connect: connection refused"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestAcceptWaitsForADial(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		l := mustListen(t, n.Host(addrB))
		accepted := make(chan net.Conn)
		go func() { c, _ := l.Accept(); accepted <- c }()
		synctest.Wait()
		a, err := n.Host(addrA).Dial(t.Context(), at(addrB))
		if err != nil {
			t.Fatal(err)
		}
		if c := <-accepted; c == nil || c.RemoteAddr().String() != a.LocalAddr().String() {
			t.Errorf("accepted %v, want the stream from %v", c, a.LocalAddr())
		}
	})
}

func TestDialTakesOneRoundTrip(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		n.Delay(time.Second, time.Second)
		mustListen(t, n.Host(addrB))
		start := time.Now()
		if _, err := n.Host(addrA).Dial(t.Context(), at(addrB)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %v, want 2s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := n.Host(addrA).Dial(ctx, at(addrB))
		wantError(t, "context shorter than the round trip", err, context.DeadlineExceeded)
	})
}

func TestDialIntoABlockHonoursItsContext(t *testing.T) {
	for name, block := range map[string]func(n *Network){
		"there":     func(n *Network) { n.Block(addrA, addrB) },
		"back":      func(n *Network) { n.Block(addrB, addrA) },
		"partition": func(n *Network) { n.Partition([]netip.Addr{addrA}) },
	} {
		story(t, func(t *testing.T, n *Network) {
			mustListen(t, n.Host(addrB))
			block(n)
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := n.Host(addrA).Dial(ctx, at(addrB))
			wantError(t, name, err, context.DeadlineExceeded)
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("%s: got %v, want a net.Error with Timeout", name, err)
			}
			if took := time.Since(start); took != 10*time.Second {
				t.Errorf("%s: took %v, want 10s", name, took)
			}

			ctx, cancel = context.WithCancel(t.Context())
			done := make(chan error)
			go func() { _, err := n.Host(addrA).Dial(ctx, at(addrB)); done <- err }()
			synctest.Wait()
			cancel()
			wantError(t, name, <-done, context.Canceled)
			_, err = n.Host(addrA).Dial(ctx, at(addrB))
			wantError(t, name+": cancelled before", err, context.Canceled)
		})
	}
}

func TestDialWithoutDeadlineGivesUp(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		mustListen(t, n.Host(addrB))
		n.Block(addrA, addrB)
		start := time.Now()
		_, err := n.Host(addrA).Dial(context.Background(), at(addrB))
		wantError(t, "blocked for good", err, syscall.ETIMEDOUT)
		if took := time.Since(start); took != dialTimeout {
			t.Errorf("took %v, want %v", took, dialTimeout)
		}
	})
}

func TestDialGoesOnWhenThePathOpens(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		l := mustListen(t, n.Host(addrB))
		n.Partition([]netip.Addr{addrA})
		go func() {
			time.Sleep(time.Minute)
			n.Heal()
		}()
		a, err := n.Host(addrA).Dial(t.Context(), at(addrB))
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, a, "hello")
		wantRead(t, "after heal", b, "hello")
	})
}

func TestDialWaitsWhenTheBacklogIsFull(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		a, l := n.Host(addrA), mustListen(t, n.Host(addrB))
		for range backlog {
			if _, err := a.Dial(t.Context(), at(addrB)); err != nil {
				t.Fatal(err)
			}
		}
		done := make(chan error, 1)
		go func() { _, err := a.Dial(t.Context(), at(addrB)); done <- err }()
		synctest.Wait()
		if len(done) != 0 {
			t.Fatalf("dial beyond the backlog returned %v, want it to wait", <-done)
		}
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("dial after Accept made room: %v", err)
		}
		go func() { _, err := a.Dial(t.Context(), at(addrB)); done <- err }()
		synctest.Wait()
		l.Close()
		wantError(t, "dial when the listener closes", <-done, syscall.ECONNREFUSED)
	})
}

func TestClosedListenerUnblocksAcceptAndResetsWhoWaited(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		l := mustListen(t, n.Host(addrB))
		waiting, err := n.Host(addrA).Dial(t.Context(), at(addrB))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		wantError(t, "stream nobody accepted", readError(waiting), syscall.ECONNRESET)
		_, err = l.Accept()
		wantError(t, "Accept", err, net.ErrClosed)
		wantError(t, "Close", l.Close(), net.ErrClosed)

		l = mustListen(t, n.Host(addrB)) // the port is free again
		done := make(chan error)
		go func() { _, err := l.Accept(); done <- err }()
		synctest.Wait()
		l.Close()
		wantError(t, "Accept that waited", <-done, net.ErrClosed)
	})
}
