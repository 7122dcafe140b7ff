// Package rpc carries the AgentService between an agent and a client: what both
// ends of api/secgossip/v1 need and generated code does not have.
//
// An agent puts its listener together from the inside out:
//
//	handler := rpc.Handler(service, logger)      // the procedures
//	gate, err := rpcauth.NewGate(...)            // rules: rpc.Rules, refusals: rpc.Refuse
//	server := rpc.NewServer(gate.Wrap(handler))
//	server.Serve(rpc.NewListener(listener, tlsConfig))
//
// A client needs one call, NewClient.
//
// # By hand
//
// Every procedure is a POST of a JSON object to /secgossip.v1.AgentService/NAME,
// so curl will do. An agent's certificate carries its name and no address, hence
// --connect-to; the header comes from a file, since arguments are for all to see:
//
//	curl --cacert bundle.pem --cert client.crt --key client.key \
//	    --header @authorization --connect-to NODE:443:ADDRESS:7373 --json '{}' \
//	    https://NODE/secgossip.v1.AgentService/ListMembers
//
// JSON is strict: an unknown field is an error, not a field without effect.
// Names are spelled as in agent.proto, and fields that are zero are written too.
package rpc

import (
	"context"
	"log/slog"
	"net/http"
	"runtime/debug"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/secgossip/secgossip/api/secgossip/v1/secgossipv1connect"
)

// Handler serves the procedures of service by the Connect, gRPC and gRPC-Web
// protocols. It asks nobody who they are: put a gate before it.
func Handler(service secgossipv1connect.AgentServiceHandler, logger *slog.Logger) http.Handler {
	server := connect.NewServer(recoverPanics(logger))
	secgossipv1connect.RegisterAgentServiceHandler(server, service)
	mux := http.NewServeMux()
	connecthttp.Mount(mux, server,
		codecs(),
		// Nothing is compressed: requests are small, and a few bytes from a
		// client must not become many here.
		connecthttp.WithCompressors(),
	)
	return mux
}

// recoverPanics turns a panic, which is a bug of ours, into an error for this
// caller and one log line for the operator.
func recoverPanics(logger *slog.Logger) connect.ServerInterceptor {
	return func(next connect.ServerFunc) connect.ServerFunc {
		return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) (err error) {
			defer func() {
				if cause := recover(); cause != nil {
					logger.Error("internal error in an rpc", "procedure", spec.Procedure, "cause", cause, "stack", string(debug.Stack()))
					err = connect.NewError(connect.CodeInternal, "internal error")
				}
			}()
			return next(ctx, spec, stream)
		}
	}
}
