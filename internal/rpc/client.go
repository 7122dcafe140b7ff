package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/secgossip/secgossip/api/secgossip/v1/secgossipv1connect"
)

const (
	dialTimeout = 5 * time.Second
	// maxResponse is the longest response message in bytes: 10,000 members with
	// 400 bytes of tags each.
	maxResponse = 4 << 20
)

// Client calls one agent. Close it to give up its connection.
type Client struct {
	secgossipv1connect.AgentServiceClient
	transport *http.Transport
}

// NewClient returns a client for the agent at addr, "HOST:PORT". config comes
// from pki.Trust.ClientTLS. token is asked for the text of the token at each
// call. Nothing is dialled before the first call, whose context bounds it all.
func NewClient(config *tls.Config, addr string, token func() string) *Client {
	config = config.Clone()
	config.NextProtos = []string{"h2"}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{
		// No Proxy: a variable of the environment must not decide who sees us.
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    handshakeTimeout,
		Protocols:              protocols,
		IdleConnTimeout:        idleTimeout,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: bodyTimeout, // an agent that died is noticed within 20 s
			PingTimeout:     bodyTimeout,
		},
	}
	client := connect.NewClient(
		connecthttp.NewTransport(
			&http.Client{Transport: transport, CheckRedirect: noRedirect},
			"https://"+addr,
			codecs(),
			connecthttp.WithReadMaxBytes(maxResponse),
			connecthttp.WithCompressors(),
		),
		bearer(token),
	)
	return &Client{secgossipv1connect.NewAgentServiceClient(client), transport}
}

// Close gives up the connection. Calls that are under way go on.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// bearer adds the token to each call.
func bearer(token func() string) connect.ClientInterceptor {
	return func(next connect.ClientFunc) connect.ClientFunc {
		return func(ctx context.Context, spec connect.Spec) (connect.ClientStream, error) {
			if call, ok := connect.CallInfoForClientContext(ctx); ok {
				call.RequestHeader().Set("Authorization", "Bearer "+token())
			}
			return next(ctx, spec)
		}
	}
}

// noRedirect: an agent sends nobody elsewhere, and a token goes nowhere else.
func noRedirect(*http.Request, []*http.Request) error {
	return errors.New("the agent answered with a redirect")
}
