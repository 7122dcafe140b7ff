package memnet

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// talk is a story about one stream, from host A to host B.
func talk(t *testing.T, test func(t *testing.T, n *Network, a, b net.Conn)) {
	t.Helper()
	story(t, func(t *testing.T, n *Network) {
		a, b := mustConnect(t, n.Host(addrA), n.Host(addrB))
		test(t, n, a, b)
	})
}

func mustWrite(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if n, err := c.Write([]byte(text)); n != len(text) || err != nil {
		t.Fatalf("writing %q: got %d, %v", text, n, err)
	}
}

// wantRead reads what is there at once and checks it.
func wantRead(t *testing.T, when string, c net.Conn, want string) {
	t.Helper()
	buffer := make([]byte, len(want)+10)
	n, err := c.Read(buffer)
	if string(buffer[:n]) != want || err != nil {
		t.Errorf("%s: read %q, %v, want %q", when, buffer[:n], err, want)
	}
}

func readError(c net.Conn) error {
	_, err := c.Read(make([]byte, 1))
	return err
}

func writeError(c net.Conn) error {
	_, err := c.Write([]byte("x"))
	return err
}

// wantSilence checks that a read waits.
func wantSilence(t *testing.T, when string, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Second))
	wantError(t, when, readError(c), os.ErrDeadlineExceeded)
	c.SetReadDeadline(time.Time{})
}

func TestStreamHasTCPAddresses(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		for _, addr := range []net.Addr{a.LocalAddr(), a.RemoteAddr(), b.LocalAddr(), b.RemoteAddr()} {
			if _, ok := addr.(*net.TCPAddr); !ok {
				t.Errorf("address %v is a %T, want a *net.TCPAddr", addr, addr)
			}
		}
		if a.LocalAddr().String() != b.RemoteAddr().String() || a.RemoteAddr().String() != b.LocalAddr().String() {
			t.Errorf("ends disagree: %v > %v and %v > %v", a.LocalAddr(), a.RemoteAddr(), b.LocalAddr(), b.RemoteAddr())
		}
		if got := b.LocalAddr().String(); got != at(addrB).String() {
			t.Errorf("accepting end is %v, want %v", got, at(addrB))
		}
	})
}

// Both directions at once, in pieces that fit no buffer, over a path that comes
// and goes.
func TestBytesArriveInOrderWhateverThePathDoes(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		n.Delay(0, 50*time.Millisecond)
		sent := make([]byte, 10*streamBuffer+1)
		rand.NewChaCha8([32]byte{}).Read(sent)
		var work sync.WaitGroup
		for _, ends := range [][2]net.Conn{{a, b}, {b, a}} {
			work.Go(func() {
				for rest := sent; len(rest) > 0; {
					piece := min(len(rest), 70_001)
					if _, err := ends[0].Write(rest[:piece]); err != nil {
						t.Errorf("Write: %v", err)
						return
					}
					rest = rest[piece:]
				}
				ends[0].(interface{ CloseWrite() error }).CloseWrite()
			})
			work.Go(func() {
				got, err := io.ReadAll(ends[1])
				if err != nil || !bytes.Equal(got, sent) {
					t.Errorf("read %d bytes, %v, want the %d that were sent", len(got), err, len(sent))
				}
			})
		}
		for range 20 {
			time.Sleep(30 * time.Millisecond)
			n.Block(addrA, addrB)
			time.Sleep(30 * time.Millisecond)
			n.Unblock(addrA, addrB)
		}
		work.Wait()
	})
}

func TestWritesDoNotMix(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		const writers, size = 8, 3 * streamBuffer / 2
		var work sync.WaitGroup
		for i := range writers {
			work.Go(func() { a.Write(bytes.Repeat([]byte{byte(i)}, size)) })
		}
		synctest.Wait()
		for range writers {
			got := make([]byte, size)
			if _, err := io.ReadFull(b, got); err != nil {
				t.Fatal(err)
			}
			if count := bytes.Count(got, got[:1]); count != size {
				t.Fatalf("%d of %d bytes are from one Write, want all", count, size)
			}
		}
		work.Wait()
	})
}

func TestWriteWaitsWhenTheBufferIsFull(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		a.SetWriteDeadline(time.Now().Add(time.Second))
		written, err := a.Write(make([]byte, streamBuffer+1))
		wantError(t, "one byte too many", err, os.ErrDeadlineExceeded)
		if written != streamBuffer {
			t.Errorf("wrote %d bytes, want %d", written, streamBuffer)
		}
		a.SetWriteDeadline(time.Time{})
		done := make(chan error, 1)
		go func() { done <- writeError(a) }()
		synctest.Wait()
		if len(done) != 0 {
			t.Fatalf("write to a full buffer returned %v, want it to wait", <-done)
		}
		if _, err := io.ReadFull(b, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("write after a read made room: %v", err)
		}
	})
}

func TestDeadlineAlsoEndsAWriteBehindAnother(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		done := make(chan error)
		for range 2 {
			go func() { _, err := a.Write(make([]byte, streamBuffer+1)); done <- err }()
		}
		synctest.Wait()
		a.SetWriteDeadline(time.Now().Add(time.Second))
		for range 2 {
			wantError(t, "write", <-done, os.ErrDeadlineExceeded)
		}
	})
}

// Code that asks for nothing is not to wait, nor to see the end.
func TestEmptyReadsAndWritesReturnAtOnce(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		if count, err := a.Read(nil); count != 0 || err != nil {
			t.Errorf("empty read: got %d, %v", count, err)
		}
		mustWrite(t, a, "")
		b.Close()
		if count, err := a.Read(nil); count != 0 || err != nil {
			t.Errorf("empty read at the end: got %d, %v", count, err)
		}
	})
}

func TestHalfCloseEndsOneDirection(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		mustWrite(t, a, "question")
		half := a.(interface{ CloseWrite() error })
		if err := half.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		wantError(t, "write after CloseWrite", writeError(a), syscall.EPIPE)
		wantRead(t, "before the end", b, "question")
		for range 2 {
			if err := readError(b); err != io.EOF {
				t.Errorf("after the end: got %v, want io.EOF itself", err)
			}
		}
		mustWrite(t, b, "answer")
		wantRead(t, "other direction", a, "answer")
		a.Close()
		wantError(t, "CloseWrite after Close", half.CloseWrite(), net.ErrClosed)
	})
}

func TestHalfCloseEndsAWriteThatWaits(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		done := make(chan error)
		go func() { _, err := a.Write(make([]byte, streamBuffer+1)); done <- err }()
		synctest.Wait()
		a.(interface{ CloseWrite() error }).CloseWrite()
		wantError(t, "write", <-done, syscall.EPIPE)
		if got, err := io.ReadAll(b); len(got) != streamBuffer || err != nil {
			t.Errorf("other end read %d bytes, %v, want %d", len(got), err, streamBuffer)
		}
	})
}

func TestCloseDeliversWhatWasWritten(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		n.Delay(time.Second, time.Minute)
		mustWrite(t, a, "last ")
		mustWrite(t, a, "words")
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(b)
		if string(got) != "last words" || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, "last words")
		}
	})
}

func TestClosedStreamRefusesEverything(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		a.Close()
		wantError(t, "Read", readError(a), net.ErrClosed)
		wantError(t, "Write", writeError(a), net.ErrClosed)
		wantError(t, "Close", a.Close(), net.ErrClosed)
		wantError(t, "SetDeadline", a.SetDeadline(time.Now()), net.ErrClosed)
		wantError(t, "SetReadDeadline", a.SetReadDeadline(time.Now()), net.ErrClosed)
		wantError(t, "SetWriteDeadline", a.SetWriteDeadline(time.Now()), net.ErrClosed)
		if left := len(n.Host(addrA).conns); left != 0 {
			t.Errorf("host keeps %d closed streams, want 0", left)
		}
	})
}

func TestWriteToAClosedEndIsAnsweredByAReset(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		n.Delay(time.Second, time.Second)
		b.Close()
		mustWrite(t, a, "nobody reads this")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantError(t, "write after the reset", writeError(a), syscall.EPIPE)
		if err := readError(a); err != io.EOF {
			t.Errorf("read: got %v, want io.EOF: the end came before the reset", err)
		}
	})
}

func TestCloseWithUnreadBytesResets(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		mustWrite(t, b, "arrived")
		mustWrite(t, a, "never read")
		b.Close()
		wantRead(t, "what had arrived", a, "arrived")
		wantError(t, "then", readError(a), syscall.ECONNRESET)
		wantError(t, "write", writeError(a), syscall.ECONNRESET)
	})
}

func TestResetWakesWhoWaits(t *testing.T) {
	for name, call := range map[string]func(net.Conn) error{
		"Read":  readError,
		"Write": func(c net.Conn) error { _, err := c.Write(make([]byte, streamBuffer+1)); return err },
	} {
		talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
			done := make(chan error)
			go func() { done <- call(a) }()
			synctest.Wait()
			n.CutStreams(netip.AddrFrom16(addrB.As16()), netip.AddrFrom16(addrA.As16()))
			wantError(t, name, <-done, syscall.ECONNRESET)
			_, err := io.ReadAll(b)
			wantError(t, name+": other end", err, syscall.ECONNRESET)
		})
	}
}

func TestCutStreamsDropsWhatIsOnItsWay(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		n.Delay(time.Second, time.Second)
		mustWrite(t, a, "on its way")
		n.CutStreams(addrA, addrB)
		time.Sleep(time.Minute)
		wantError(t, "a minute later", readError(b), syscall.ECONNRESET)
	})
}

func TestCutStreamsLeavesOtherHostsAlone(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		n.CutStreams(addrA, addrC)
		n.CutStreams(addrB, addrC)
		mustWrite(t, a, "still here")
		wantRead(t, "after cuts elsewhere", b, "still here")
	})
}

func TestPartitionStallsStreamsAndHealResumesThem(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		mustWrite(t, a, "before ")
		n.Partition([]netip.Addr{addrA}, []netip.Addr{addrB})
		mustWrite(t, a, "during ")
		mustWrite(t, a, "cut")
		wantRead(t, "what had arrived", b, "before ")
		wantSilence(t, "partitioned", b)
		a.SetWriteDeadline(time.Now().Add(time.Second))
		written, err := a.Write(make([]byte, streamBuffer))
		wantError(t, "write into the partition", err, os.ErrDeadlineExceeded)
		if want := streamBuffer - len("during cut"); written != want {
			t.Errorf("partition took %d bytes more, want %d", written, want)
		}
		a.SetWriteDeadline(time.Time{})
		n.Heal()
		got := make([]byte, streamBuffer)
		if _, err := io.ReadFull(b, got); err != nil || !bytes.HasPrefix(got, []byte("during cut\x00")) {
			t.Errorf("after heal: got %q, %v, want what was written meanwhile", got[:12], err)
		}
		mustWrite(t, b, "answer")
		wantRead(t, "after heal", a, "answer")
	})
}

func TestAPartitionThatJoinsTwoHostsResumesTheirStreams(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		n.Partition([]netip.Addr{addrA})
		mustWrite(t, a, "stalled")
		n.Partition([]netip.Addr{addrA, addrB})
		wantRead(t, "in one group", b, "stalled")
	})
}

func TestBytesOnTheirWayIntoABlockArriveLater(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		n.Delay(time.Second, time.Second)
		mustWrite(t, a, "on its way")
		a.Close()
		n.Block(addrA, addrB)
		time.Sleep(time.Minute)
		wantSilence(t, "blocked", b)
		n.Unblock(addrA, addrB)
		got, err := io.ReadAll(b)
		if string(got) != "on its way" || err != nil {
			t.Errorf("after Unblock: got %q, %v, want %q", got, err, "on its way")
		}
	})
}

func TestBlockStallsOneDirectionOnly(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		n.Block(addrA, addrB)
		mustWrite(t, a, "question")
		mustWrite(t, b, "answer")
		wantRead(t, "open direction", a, "answer")
		wantSilence(t, "blocked direction", b)
	})
}

func TestBlockUDPLetsStreamsPass(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		n.BlockUDP(addrA, addrB)
		mustWrite(t, a, "hello")
		wantRead(t, "datagrams blocked", b, "hello")
	})
}

// Loss, duplicates and holding are about datagrams.
func TestStreamLosesNothing(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		n.Loss(1)
		n.Duplicate(1)
		n.Hold()
		mustWrite(t, a, "hello")
		wantRead(t, "on a bad network", b, "hello")
	})
}

func TestDeadlineErrorIsATimeout(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		a.SetReadDeadline(time.Now().Add(time.Second))
		err := readError(a)
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("got %v, want a net.Error with Timeout", err)
		}
	})
}

func TestDeadlines(t *testing.T) {
	full := func(c net.Conn) error { _, err := c.Write(make([]byte, streamBuffer+1)); return err }
	for _, test := range []struct {
		name string
		set  func(net.Conn, time.Time) error
		call func(net.Conn) error
	}{
		{"SetReadDeadline", net.Conn.SetReadDeadline, readError},
		{"SetDeadline for Read", net.Conn.SetDeadline, readError},
		{"SetWriteDeadline", net.Conn.SetWriteDeadline, full},
		{"SetDeadline for Write", net.Conn.SetDeadline, full},
	} {
		talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
			start := time.Now()
			test.set(a, start.Add(3*time.Second))
			wantError(t, test.name, test.call(a), os.ErrDeadlineExceeded)
			if waited := time.Since(start); waited != 3*time.Second {
				t.Errorf("%s: waited %v, want 3s", test.name, waited)
			}
			wantError(t, test.name+", once passed", test.call(a), os.ErrDeadlineExceeded)

			// A deadline set during the wait counts, and so does one taken away.
			test.set(a, time.Now().Add(time.Second))
			done := make(chan error, 1)
			go func() { done <- test.call(a) }()
			synctest.Wait()
			test.set(a, time.Time{})
			time.Sleep(time.Hour)
			if len(done) != 0 {
				t.Fatalf("%s: returned %v without a deadline", test.name, <-done)
			}
			test.set(a, time.Now().Add(-time.Second))
			wantError(t, test.name+", set in the past", <-done, os.ErrDeadlineExceeded)
		})
	}
}

func TestDeadlineOfOneDirectionLeavesTheOther(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		past := time.Now().Add(-time.Second)
		a.SetReadDeadline(past)
		mustWrite(t, a, "hello")
		b.SetWriteDeadline(past)
		wantRead(t, "with a write deadline passed", b, "hello")
	})
}

func TestPassedReadDeadlineHidesWhatArrived(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		mustWrite(t, a, "hello")
		b.SetReadDeadline(time.Now())
		wantError(t, "deadline passed", readError(b), os.ErrDeadlineExceeded)
		b.SetReadDeadline(time.Time{})
		wantRead(t, "deadline taken away", b, "hello")
	})
}

func TestOwnCloseWakesWhoWaits(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		done := make(chan error)
		go func() { done <- readError(a) }()
		synctest.Wait()
		a.Close()
		wantError(t, "Read", <-done, net.ErrClosed)
	})
}
