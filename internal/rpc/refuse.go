package rpc

import (
	"net/http"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/secgossip/secgossip/rpcauth"
)

// Refuse writes a gate's refusal in the protocol that the caller speaks, so that
// its message arrives with streams and by gRPC too. For rpcauth.GateConfig.
func Refuse(w http.ResponseWriter, r *http.Request, verdict rpcauth.Verdict, message string) {
	var code connect.Code
	if err := code.UnmarshalText([]byte(verdict)); err != nil {
		code = connect.CodeUnauthenticated // no such verdict: say the least
	}
	if code == connect.CodeUnauthenticated {
		w.Header().Set("WWW-Authenticate", "Bearer") // RFC 9110, section 15.5.2
	}
	// It fails when the caller is gone, who is the only one to tell.
	_ = connecthttp.NewErrorWriter().Write(w, r, connect.NewError(code, message))
}
