package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/secgossip/secgossip/internal/agent"
	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
)

// answered is an error that an agent sent; broken is one of the way to it.
func answered(code connect.Code, message string) error {
	return connect.NewError(code, message).WithRemote()
}

func broken(code connect.Code, cause error) error {
	return connect.NewError(code, cause.Error()).WithCause(cause)
}

func TestExitCodesTellTheShellWhatToDo(t *testing.T) {
	dial := &url.Error{Op: "Post", URL: "https://127.0.0.1:1", Err: &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}}
	tests := []struct {
		name string
		err  error // as a command returns it
		want int
	}{
		{"anything", errors.New("anything"), exitFailed},
		{"wrong flag", fmt.Errorf("%w: x", errUsage), exitUsage},
		{"not started", fmt.Errorf("%w: x", agent.ErrSetup), exitUsage},
		{"no home", &home.Problem{Err: home.ErrMissing}, exitUsage},
		{"a home in the way", &home.Problem{Err: home.ErrExists}, exitFailed},
		{"interrupted", home.ErrInterrupted, exitFailed},
		{"unsafe file", fmt.Errorf("x: %w", keyring.ErrPermissions), exitUsage},
		{"wrong passphrase", fmt.Errorf("x: %w", keyring.ErrWrongKey), exitUsage},
		{"weak passphrase", fmt.Errorf("x: %w", keyring.ErrPassphrase), exitUsage},
		{"damaged file", fmt.Errorf("x: %w", keyring.ErrDamaged), exitUsage},
		{"newer file", fmt.Errorf("x: %w", keyring.ErrNewer), exitUsage},
		{"expired certificate", fmt.Errorf("x: %w", pki.ErrExpired), exitUsage},
		{"foreign certificate", fmt.Errorf("x: %w", pki.ErrForeign), exitUsage},
		{"token that does not read", fmt.Errorf("x: %w", rpcauth.ErrMalformed), exitUsage},
		{"disk", &fs.PathError{Op: "open", Path: "x", Err: syscall.EIO}, exitFailed},
		{"some nodes silent", fmt.Errorf("%w: web-1", errSilent), exitSilent},

		{"no certificate or token", answered(connect.CodeUnauthenticated, "unauthenticated"), exitForbidden},
		{"no grant", answered(connect.CodePermissionDenied, "needs"), exitForbidden},
		{"what the agent finds wrong", answered(connect.CodeInvalidArgument, "x"), exitUsage},
		{"not a keeper", answered(connect.CodeFailedPrecondition, "x"), exitFailed},
		{"busy", answered(connect.CodeResourceExhausted, "x"), exitFailed},
		{"bug of the agent", answered(connect.CodeInternal, "internal error"), exitFailed},
		{"agent that stops", answered(connect.CodeUnavailable, "x"), exitUnreachable},

		{"nobody there", broken(connect.CodeUnavailable, dial), exitUnreachable},
		{"somebody else", broken(connect.CodeUnavailable, fmt.Errorf("certificate is %w", pki.ErrForeign)), exitUnreachable},
		{"agent whose time is over", broken(connect.CodeUnavailable, fmt.Errorf("certificate %w", pki.ErrExpired)), exitUnreachable},
		{"cut off", broken(connect.CodeUnknown, &url.Error{Op: "Post", Err: syscall.ECONNRESET}), exitUnreachable},
		{"stream cut off", broken(connect.CodeCanceled, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}), exitUnreachable},
		{"too slow", broken(connect.CodeDeadlineExceeded, context.DeadlineExceeded), exitUnreachable},
		{"certificate refused", broken(connect.CodeUnavailable, errors.New("remote error: tls: bad certificate")), exitForbidden},
	}
	s := session{addr: "127.0.0.1:1", timeout: time.Second, operator: new(home.Client)}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := s.explain(test.err)
			if got := exitCode(err); got != test.want {
				t.Errorf("%v: got exit code %d, want %d", err, got, test.want)
			}
			if (test.want == exitUnreachable || test.want == exitForbidden) && !isRemote(err) && !strings.Contains(err.Error(), s.addr) {
				t.Errorf("%v: it does not name the agent's address", err)
			}
			if test.want == exitForbidden && hintOf(err) == "" {
				t.Errorf("%v: no hint", err)
			}
			if strings.Contains(message(err), "https://") {
				t.Errorf("%s: nobody has typed that address", message(err))
			}
		})
	}
}

func isRemote(err error) bool {
	var answer *connect.Error
	return errors.As(err, &answer) && answer.IsRemote()
}

func TestWhatAnAgentAnsweredStandsAlone(t *testing.T) {
	if got := message(fmt.Errorf("calling: %w", answered(connect.CodePermissionDenied, "needs a grant"))); got != "needs a grant" {
		t.Errorf("got %q, want the agent's words", got)
	}
	if got := message(answered(connect.CodeInternal, "")); got == "" {
		t.Error("got nothing")
	}
}

// documents is beside this module's code.
const documents = "../../docs/commands.md"

func TestTheDocumentsHaveTheExitCodes(t *testing.T) {
	text, err := os.ReadFile(documents)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("docs/commands.md is not there")
	}
	if err != nil {
		t.Fatal(err)
	}
	// A word of each meaning; how it is put is the document's to choose.
	want := map[int]string{
		exitDone: "done", exitFailed: "failed", exitUsage: "usage or settings",
		exitUnreachable: "agent", exitForbidden: "not permitted", exitSilent: "silent",
	}
	rows := regexp.MustCompile(`(?m)^\| (\d) \| (.*) \|$`).FindAllStringSubmatch(string(text), -1)
	if len(rows) != len(want) {
		t.Errorf("got %d rows, want %d", len(rows), len(want))
	}
	for _, row := range rows {
		code, _ := strconv.Atoi(row[1])
		if meaning, ok := want[code]; !ok || !strings.Contains(row[2], meaning) {
			t.Errorf("exit code %d is %q, want %q", code, row[2], meaning)
		}
	}
}
