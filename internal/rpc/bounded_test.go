package rpc

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/secgossip/secgossip/api/secgossip/v1/secgossipv1connect"
	"github.com/secgossip/secgossip/rpcauth"
)

// serveBounded serves handler, without TLS so that a test can write by hand.
func serveBounded(t *testing.T, handler http.Handler, body, stall time.Duration) (addr string) {
	t.Helper()
	server := &http.Server{Handler: bounded(handler, body, stall), Protocols: plain(true)}
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() { server.Close(); <-done })
	return listener.Addr().String()
}

// plain is HTTP/2, and HTTP/1.1 if asked for, without TLS.
func plain(http1 bool) *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(http1)
	protocols.SetUnencryptedHTTP2(true)
	return protocols
}

func dialBounded(t *testing.T, handler http.Handler, body, stall time.Duration) net.Conn {
	t.Helper()
	conn := must(net.Dial("tcp", serveBounded(t, handler, body, stall)))
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Threat N08: a caller that promises a body and does not send it.
func TestABodyThatDoesNotComeIsNotWaitedFor(t *testing.T) {
	result := make(chan error, 1)
	conn := dialBounded(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		result <- err
	}), 20*time.Millisecond, time.Minute)
	io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nonly this")
	if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a deadline", err)
	}
}

// The same when the handler refuses without reading: net/http reads the rest.
func TestABodyThatNobodyReadsIsNotWaitedForEither(t *testing.T) {
	conn := dialBounded(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
	}), 20*time.Millisecond, time.Minute)
	io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nonly this")
	if _, err := io.ReadAll(conn); err != nil { // ends when the server closes
		t.Errorf("got %v, want an answer and the end", err)
	}
}

// writeUntilError is a handler that fills whatever its reader has.
func writeUntilError(result chan<- error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				result <- err
				return
			}
			w.(http.Flusher).Flush()
		}
	})
}

func TestAReaderThatStopsIsNotWaitedFor(t *testing.T) {
	result := make(chan error, 1)
	conn := dialBounded(t, writeUntilError(result), time.Minute, 20*time.Millisecond)
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a deadline", err)
	}
}

// By HTTP/2 the connection lives on: only this stream is at its window's end.
func TestAStreamThatIsNotReadIsNotWaitedFor(t *testing.T) {
	result := make(chan error, 1)
	addr := serveBounded(t, writeUntilError(result), time.Minute, 20*time.Millisecond)
	transport := &http.Transport{Protocols: plain(false)}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := <-result; err == nil {
		t.Error("the handler wrote on")
	}
}

// deadlines is a response writer that only notes what it is told.
type deadlines struct {
	http.ResponseWriter
	write []time.Time
	read  []time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error  { d.read = append(d.read, at); return nil }
func (d *deadlines) SetWriteDeadline(at time.Time) error { d.write = append(d.write, at); return nil }
func (d *deadlines) Write(p []byte) (int, error)         { return len(p), nil }
func (d *deadlines) Flush()                              {}

// A stream may be silent for days: between two messages there is no deadline.
func TestAPauseBetweenMessagesIsNoStall(t *testing.T) {
	d := &deadlines{}
	w := &timedWriter{ResponseWriter: d, control: http.NewResponseController(d), stall: time.Minute}
	for range 2 {
		io.WriteString(w, "a message")
		if last := d.write[len(d.write)-1]; last.IsZero() {
			t.Error("a message is written without a deadline")
		}
		w.Flush()
		if last := d.write[len(d.write)-1]; !last.IsZero() {
			t.Errorf("after a message the deadline is %v, want none", last)
		}
	}
}

// Else the deadline of the body would end the stream that is its answer.
func TestTheDeadlineOfABodyEndsWithIt(t *testing.T) {
	d := &deadlines{}
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("a request"))
	bounded(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if len(d.read) != 1 || d.read[0].IsZero() {
			t.Errorf("before the body: deadlines %v, want one", d.read)
		}
		must(io.ReadAll(r.Body))
		if last := d.read[len(d.read)-1]; !last.IsZero() {
			t.Errorf("after the body: deadline %v, want none", last)
		}
	}), time.Minute, time.Minute).ServeHTTP(d, r)
}

// Only what carries a payload may be large.
func TestBodiesHaveTheLimitOfTheirCall(t *testing.T) {
	for path, most := range map[string]int64{
		secgossipv1connect.AgentServiceFireEventProcedure:    largeRequest,
		secgossipv1connect.AgentServiceRespondQueryProcedure: largeRequest,
		secgossipv1connect.AgentServiceFollowEventProcedure:  MaxRequest,
		secgossipv1connect.AgentServiceJoinProcedure:         MaxRequest,
	} {
		r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(make([]byte, 2<<20)))
		bounded(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if n, err := io.Copy(io.Discard, r.Body); n != most || err == nil {
				t.Errorf("%s: %d bytes are read, %v; want %d and an error", path, n, err, most)
			}
		}), time.Minute, time.Minute).ServeHTTP(&deadlines{}, r)
	}
	if event := base64.StdEncoding.EncodedLen(rpcauth.MaxEventSize) + base64.StdEncoding.EncodedLen(rpcauth.MaxLargePayload) + 100; event > largeRequest {
		t.Errorf("the largest event has %d bytes in JSON, and %d are allowed", event, largeRequest)
	}
}

// largeOf is a large request of a client.
func largeOf(client byte) *http.Request {
	r := httptest.NewRequest(http.MethodPost, secgossipv1connect.AgentServiceFireEventProcedure, bytes.NewReader(make([]byte, MaxRequest+1000)))
	key := make(ed25519.PublicKey, ed25519.PublicKeySize)
	key[0] = client
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{PublicKey: key}}}
	return r
}

// Threat C10: however many clients send payloads at once, few are in memory, and few of
// them of one client. The others wait, and hear that there are too many.
func TestFewLargeRequestsAreHeldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var reading, refused [3]atomic.Int32 // by client
		handler := bounded(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			client := callerOf(r)[0]
			first, err := io.ReadFull(r.Body, make([]byte, MaxRequest))
			if err != nil || first != MaxRequest {
				t.Errorf("of each the beginning is read: got %d bytes, %v", first, err)
			}
			n, err := io.Copy(io.Discard, r.Body)
			if connect.CodeOf(err) == connect.CodeResourceExhausted && n == 0 {
				refused[client].Add(1)
				return
			}
			if n != 1000 || err != nil {
				t.Errorf("got %d more bytes, %v", n, err)
			}
			reading[client].Add(1)
			<-release
			reading[client].Add(-1)
		}), 10*time.Second, time.Minute)
		var all sync.WaitGroup
		call := func(client byte, count int) {
			for range count {
				all.Go(func() { handler.ServeHTTP(&deadlines{}, largeOf(client)) })
			}
			synctest.Wait()
		}
		wantHeld := func(when string, want ...int32) {
			t.Helper()
			for client, want := range want {
				if got := reading[client].Load(); got != want {
					t.Errorf("%s: %d of client %d are held, want %d", when, got, client, want)
				}
			}
		}
		const rest = maxLargeRequests - largeRequestsOfOne
		call(0, maxLargeRequests+5)
		wantHeld("a flood", largeRequestsOfOne)
		call(1, rest+1)
		wantHeld("others after it", largeRequestsOfOne, rest)
		time.Sleep(time.Second)
		call(2, 1)
		time.Sleep(20 * time.Second)
		wantHeld("when nobody waits any more", largeRequestsOfOne, rest, 0)
		if got := []int32{refused[0].Load(), refused[1].Load(), refused[2].Load()}; !slices.Equal(got, []int32{rest + 5, 1, 1}) {
			t.Errorf("of the clients %d were refused, want %d, 1 and 1", got, rest+5)
		}
		call(0, 1)
		call(2, 1)
		close(release) // they have their turns now
		all.Wait()
		if refused[0].Load() != rest+5 || refused[2].Load() != 1 {
			t.Error("one that came when there was room was refused")
		}
	})
}

// Whoever has no turn, and waits for none, is forgotten.
func TestTurnsOfClientsThatAreGoneAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns()
		for client := range byte(3) {
			for i := range maxLargeRequests {
				want := int(client)*largeRequestsOfOne+i < maxLargeRequests && i < largeRequestsOfOne
				if got := turns.take(clientKey{client}, time.Second); got != want {
					t.Errorf("client %d, turn %d: got %t", client, i, got)
				}
			}
		}
		for range largeRequestsOfOne {
			turns.giveBack(clientKey{0})
		}
		for range maxLargeRequests - largeRequestsOfOne {
			turns.giveBack(clientKey{1})
		}
		if len(turns.own)+len(turns.all) != 0 {
			t.Errorf("%d clients are counted and %d turns are taken, and nobody has one", len(turns.own), len(turns.all))
		}
	})
}

func TestABodyOverTheLimitIsCutOff(t *testing.T) {
	result := make(chan error, 1)
	conn := dialBounded(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if n > MaxRequest {
			t.Errorf("%d bytes read, want at most %d", n, MaxRequest)
		}
		result <- err
	}), time.Minute, time.Minute)
	go func() {
		io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
		conn.Write(make([]byte, 1000000))
	}()
	var tooLong *http.MaxBytesError
	if err := <-result; !errors.As(err, &tooLong) {
		t.Errorf("got %v, want a limit", err)
	}
}
