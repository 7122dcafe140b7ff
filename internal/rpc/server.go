package rpc

import (
	"io"
	"log"
	"net/http"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/secgossip/secgossip/api/secgossip/v1/secgossipv1connect"
)

// MaxRequest is the longest request body in bytes, for all but two: a signed event in
// JSON has 5.5 kB, and the rest is room for requests to come.
const MaxRequest = 64 << 10

// largeRequest is MaxRequest for FireEvent and RespondQuery: a payload or an answer of 1
// MiB, in the base64 of JSON, and an event.
const largeRequest = 1<<20*4/3 + 8<<10

// maxLargeRequests is how many requests are read beyond MaxRequest at once: 45 MiB with
// what is decoded of them. The next one waits for its turn half as long as a body may take.
const maxLargeRequests = 16

// largeRequestsOfOne is how many of them are one client's, so that others have theirs.
const largeRequestsOfOne = maxLargeRequests * 3 / 4

// How long a caller may keep us waiting, and how much it may make us hold.
const (
	headerTimeout = 5 * time.Second
	bodyTimeout   = 10 * time.Second
	stallTimeout  = 30 * time.Second // for taking a response we have
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10 // a token has 2 kB, the rest of ours a few hundred bytes
	maxStreams    = 64       // calls at a time on one HTTP/2 connection
)

// NewServer returns a server for handler over TLS: HTTP/2, and HTTP/1.1 for the
// simplest clients. Start it with Serve and a Listener.
func NewServer(handler http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:           bounded(handler, bodyTimeout, stallTimeout),
		Protocols:         protocols,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			SendPingTimeout:      stallTimeout,
			PingTimeout:          bodyTimeout,
			WriteByteTimeout:     stallTimeout,
		},
		// net/http has a line for every broken request. Whoever sends those must
		// not cause log lines. Panics in procedures are logged before they get
		// here.
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

// bounded gives every request body a size and an end, and every write a time by
// which the caller must have taken it. It stands before the gate: what it holds
// back may come from anybody with a certificate. A server stream may last for
// days, so there is no timeout for a call as a whole.
func bounded(next http.Handler, body, stall time.Duration) http.Handler {
	turns := newTurns()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if r.Body != nil && r.Body != http.NoBody {
			// Errors: both protocols of our server have deadlines.
			_ = control.SetReadDeadline(time.Now().Add(body))
			switch r.URL.Path {
			case secgossipv1connect.AgentServiceFireEventProcedure, secgossipv1connect.AgentServiceRespondQueryProcedure:
				large := &largeBody{ReadCloser: http.MaxBytesReader(w, r.Body, largeRequest), turns: turns, client: callerOf(r), patience: body / 2} // before the caller gives up
				defer large.giveBack()
				r.Body = large
			default:
				r.Body = http.MaxBytesReader(w, r.Body, MaxRequest)
			}
			r.Body = &timedBody{ReadCloser: r.Body, control: control}
		}
		next.ServeHTTP(&timedWriter{ResponseWriter: w, control: control, stall: stall}, r)
	})
}

// largeBody is a body of which no more than MaxRequest is read before it has its turn.
// The turn lasts as long as the call.
type largeBody struct {
	io.ReadCloser
	turns    *turns
	client   clientKey
	patience time.Duration
	read     int
	has      bool
}

func (b *largeBody) Read(p []byte) (int, error) {
	if !b.has && b.read < MaxRequest {
		n, err := b.ReadCloser.Read(p[:min(len(p), MaxRequest-b.read)])
		b.read += n
		return n, err
	}
	if !b.has {
		if b.has = b.turns.take(b.client, b.patience); !b.has {
			return 0, connect.NewError(connect.CodeResourceExhausted, "too many large requests at once; try again")
		}
	}
	return b.ReadCloser.Read(p)
}

func (b *largeBody) giveBack() {
	if b.has {
		b.turns.giveBack(b.client)
	}
}

// timedBody lifts the read deadline once the body was read: what follows on the
// connection has its own.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// timedWriter has a deadline for each piece of the response and none between
// them. A client that stops reading must not hold a procedure for ever.
type timedWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
}

func (w *timedWriter) Write(p []byte) (int, error) {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.stall))
	return w.ResponseWriter.Write(p)
}

// Flush ends a piece. Connect calls it after each message of a stream.
func (w *timedWriter) Flush() {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.stall))
	_ = w.control.Flush() // the next Write says what is wrong
	_ = w.control.SetWriteDeadline(time.Time{})
}

// Unwrap is for http.ResponseController.
func (w *timedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
