package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/internal/rpc"
	"github.com/secgossip/secgossip/pki"
)

// defaultRPC is where an agent listens unless told otherwise.
const defaultRPC = "127.0.0.1:7373"

// session is an operator's connection to one agent.
type session struct {
	*rpc.Client
	operator *home.Client
	addr     string
	timeout  time.Duration
}

// connect reads the client of the home and prepares calls to the agent.
func (e *env) connect() (*session, error) {
	if e.timeout <= 0 {
		return nil, fmt.Errorf("%w: --timeout %s: want more than nothing", errUsage, e.timeout)
	}
	at, err := e.home()
	if err != nil {
		return nil, err
	}
	operator, err := at.LoadClient(time.Now())
	if err != nil {
		return nil, err
	}
	addr := e.rpcAddr
	if addr == "" {
		addr = operator.RPCAddr
	}
	if addr == "" {
		addr = defaultRPC
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, fmt.Errorf("%w: RPC address %q: want HOST:PORT", errUsage, addr)
	}
	own := func() (*tls.Certificate, error) { return operator.Certificate, nil }
	config := operator.Trust.ClientTLS(own, "", time.Now)
	return &session{
		Client:   rpc.NewClient(config, addr, func() string { return operator.Token }),
		operator: operator,
		addr:     addr,
		timeout:  e.timeout,
	}, nil
}

// call runs one call to the agent within the timeout.
func (e *env) call(ctx context.Context, f func(ctx context.Context, s *session) error) error {
	s, err := e.connect()
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	return s.explain(f(ctx, s))
}

// explain says what an error of a call means to the operator: who did not
// answer, or why the agent, which gives no reasons to strangers, may have
// refused.
func (s *session) explain(err error) error {
	var answer *connect.Error
	if !errors.As(err, &answer) {
		return err
	}
	if answer.IsRemote() {
		if answer.Code() == connect.CodeUnauthenticated {
			return s.explainRefusal(err)
		}
		return err
	}
	var transport *url.Error
	var broken *net.OpError // of a stream that was open
	switch {
	case isRefusedHandshake(err):
		return fmt.Errorf("%w: the agent at %s does not accept this client's certificate: %w", errForbidden, s.addr, cause(err))
	case isStranger(err):
		return &home.Problem{
			Err: fmt.Errorf("%w: what answers at %s is no node of this cluster: %w", errUnreachable, s.addr, cause(err)),
			Next: "another cluster's agent may listen there, or bundle.pem in your home is another cluster's; " +
				"name the right agent by --rpc-addr",
		}
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%w: no answer from %s within %s", errUnreachable, s.addr, s.timeout)
	case errors.As(err, &transport), errors.As(err, &broken), answer.Code() == connect.CodeUnavailable:
		err = fmt.Errorf("%w: %s: %w", errUnreachable, s.addr, cause(err))
	default:
		return err
	}
	return &home.Problem{
		Err:  err,
		Next: "is the agent running, and is this its RPC address? name another by --rpc-addr",
	}
}

// explainRefusal adds what we can see ourselves to an agent's refusal.
func (s *session) explainRefusal(err error) error {
	next := "the agent says why in its log: look for \"rpc audit\""
	if problem := s.operator.CheckToken(time.Now()); problem != nil {
		next = problem.Error()
		if hint := hintOf(problem); hint != "" {
			next += "; " + hint
		}
	}
	return &home.Problem{Err: err, Next: next}
}

// cause is the error below the layers of Connect and HTTP, which only repeat the
// code and the address.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	var answer *connect.Error
	if errors.As(err, &answer) && answer.Unwrap() != nil {
		err = answer.Unwrap()
	}
	var transport *url.Error
	if errors.As(err, &transport) {
		return transport.Err
	}
	return err
}

// isRefusedHandshake reports whether the agent turned our certificate away. Under
// TLS 1.3 that comes after our side of the handshake, as the answer to the first
// request, and HTTP keeps only its text.
func isRefusedHandshake(err error) bool {
	return strings.Contains(err.Error(), "remote error: tls:")
}

// isStranger reports whether we turned the agent's certificate away.
func isStranger(err error) bool {
	for _, refusal := range []error{pki.ErrForeign, pki.ErrProfile, pki.ErrMismatch, pki.ErrExpired, pki.ErrNotYetValid} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}
