package rpcauth

import (
	"time"

	"github.com/secgossip/secgossip/pki"
)

// AuditRecord is one decision of a gate. Its texts hold nothing unquoted that
// a stranger wrote.
type AuditRecord struct {
	Time    time.Time
	Who     pki.Name // from a verified certificate; empty if there was none
	Token   string   // the token's id; empty if none was accepted
	What    string   // the procedure; empty if there is no such procedure
	Verdict Verdict
	Reason  string // for the operator: why it was refused; empty if it was not
	Source  string // the caller's address and port
	Skipped uint64 // earlier refusals of the same verdict that have no record
}

// Verdict is how a call was decided: allowed, or else the code of the refusal as
// Connect and gRPC spell it.
type Verdict string

const (
	Allowed           Verdict = "allowed"
	Unauthenticated   Verdict = "unauthenticated"    // not recognised; the caller learns no reason
	PermissionDenied  Verdict = "permission_denied"  // recognised; the caller learns which grant is missing
	Unimplemented     Verdict = "unimplemented"      // recognised; there is no such procedure
	ResourceExhausted Verdict = "resource_exhausted" // turned away unread after too many failures
)
