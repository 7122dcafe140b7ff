package main

import (
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect/v2"

	"github.com/secgossip/secgossip/internal/agent"
	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
)

// The exit codes. docs/commands.md lists them; a test compares.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2 // usage or settings
	exitUnreachable = 3 // the agent does not answer
	exitForbidden   = 4
	exitSilent      = 5 // done, but some nodes stayed silent
)

var (
	// errUsage says that the command line was wrong.
	errUsage = errors.New("usage")
	// errUnreachable says that no agent of this cluster answered.
	errUnreachable = errors.New("agent unreachable")
	// errForbidden says that the agent turned our certificate away.
	errForbidden = errors.New("not permitted")
	// errSilent says that some nodes did not answer.
	errSilent = errors.New("some nodes were not reached")
)

// silent is errSilent about the nodes that are missing, with what to do about them;
// nil if none is.
func silent(missing []string, next string) error {
	if len(missing) == 0 {
		return nil
	}
	return &home.Problem{Err: fmt.Errorf("%w: %s", errSilent, strings.Join(missing, ", ")), Next: next}
}

// settingsErrors say that something in the home, or in what was asked, must be
// put right first. None of them comes from an agent: see session.explain.
var settingsErrors = []error{
	errUsage, agent.ErrSetup, home.ErrMissing,
	keyring.ErrPermissions, keyring.ErrWrongKey, keyring.ErrDamaged, keyring.ErrForeign, keyring.ErrNewer,
	keyring.ErrTooLarge, keyring.ErrPassphrase, keyring.ErrLockedMemory,
	pki.ErrExpired, pki.ErrNotYetValid, pki.ErrForeign, pki.ErrProfile, pki.ErrMismatch, pki.ErrUnknownSigner,
	pki.ErrRevoked,
	rpcauth.ErrMalformed,
}

// exitCode decides what a command's error means to the shell.
func exitCode(err error) int {
	switch {
	case errors.Is(err, errSilent):
		return exitSilent
	case errors.Is(err, errUnreachable):
		return exitUnreachable
	case errors.Is(err, errForbidden):
		return exitForbidden
	}
	var answer *connect.Error
	if errors.As(err, &answer) {
		switch answer.Code() {
		case connect.CodeUnauthenticated, connect.CodePermissionDenied:
			return exitForbidden
		case connect.CodeUnavailable, connect.CodeDeadlineExceeded:
			return exitUnreachable
		case connect.CodeInvalidArgument:
			return exitUsage
		}
		return exitFailed
	}
	for _, settings := range settingsErrors {
		if errors.Is(err, settings) {
			return exitUsage
		}
	}
	return exitFailed
}

// message is an error as a person reads it: what an agent answered stands alone,
// without the name of its code.
func message(err error) string {
	var answer *connect.Error
	if errors.As(err, &answer) && answer.IsRemote() && answer.Message() != "" {
		return answer.Message()
	}
	return err.Error()
}

// hintOf is the next step that goes with an error.
func hintOf(err error) string {
	var with interface{ Hint() string }
	if errors.As(err, &with) {
		return with.Hint()
	}
	var rpcError *connect.Error
	if errors.As(err, &rpcError) && rpcError.Code() == connect.CodePermissionDenied {
		return "a keeper makes a client that may: `secgossip pki issue client NAME --grant GRANT --out DIR`"
	}
	if exitCode(err) == exitForbidden {
		return "client/ in your home says who you are; a keeper makes another client with `secgossip pki issue client`"
	}
	return ""
}
