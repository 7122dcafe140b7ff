package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// Command is one run of secgossip that ends by itself.
type Command struct {
	Args  []string
	Stdin string
	// Prefix is what starts the program: nothing, or such as [Namespace.Prefix].
	Prefix []string
}

// Refusal is a command that did not exit with 0.
type Refusal struct {
	Args   []string
	Code   int    // -1 if it was killed
	Stderr string // without the last newline
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("secgossip %s: exit code %d: %s", strings.Join(r.Args, " "), r.Code, r.Stderr)
}

// Run runs a command and returns its standard output. The error of one that
// ended otherwise than with 0 is a *[Refusal].
func (l *Lab) Run(ctx context.Context, what Command) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	argv := slices.Concat(what.Prefix, []string{l.Bin}, what.Args)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(what.Stdin), &stdout, &stderr
	cmd.SysProcAttr = apart()
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); ended {
		return "", &Refusal{what.Args, cmd.ProcessState.ExitCode(), strings.TrimSpace(stderr.String())}
	}
	return stdout.String(), err
}

// Ask calls a node's agent with the client of a home and returns what is printed.
func (l *Lab) Ask(ctx context.Context, home string, at *Node, args ...string) (string, error) {
	args = append([]string{"--home", l.In(home), "--rpc-addr", at.RPC}, args...)
	return l.Run(ctx, Command{Args: args, Prefix: at.Prefix})
}

// AskJSON is Ask for commands with --json.
func (l *Lab) AskJSON(ctx context.Context, into any, home string, at *Node, args ...string) error {
	out, err := l.Ask(ctx, home, at, append(args, "--json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), into)
}
