package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/keyring"
)

// version is set by the build.
var version = "dev"

// env is what every command works with.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	// workFactor is how hard the root's passphrase is to guess; 0 is what
	// keyring thinks right. Only tests, which have no secrets, set it.
	workFactor int

	homeDir string
	rpcAddr string
	json    bool
	timeout time.Duration
}

// run runs one command line and returns its exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return runIn(&env{stdin: stdin, stdout: stdout, stderr: stderr}, args)
}

func runIn(e *env, args []string) int {
	root := newRootCmd(e)
	root.SetArgs(args)
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	cmd, err := root.ExecuteContextC(context.Background())
	if err == nil {
		return exitDone
	}
	code := exitCode(err)
	fmt.Fprintf(e.stderr, "secgossip: error: %s\n", safeLines(message(err)))
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(e.stderr, "secgossip: hint: %s\n", safeLines(hint))
	} else if errors.Is(err, errUsage) {
		fmt.Fprintf(e.stderr, "secgossip: hint: see `%s --help`\n", cmd.CommandPath())
	}
	return code
}

func newRootCmd(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "secgossip",
		Short: "Cluster membership and signed events over a hostile network",
		Long: `secgossip keeps hosts that share only a hostile network in one cluster: who is
there, who failed, and events that run programs on every host. Everything is
encrypted, every caller is authenticated, and there is no way to switch that off.

Start with:
  secgossip init --cluster NAME --node NAME
  secgossip agent`,
		Example:       "  secgossip members --status alive",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("%w: no command given", errUsage)
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	flags := root.PersistentFlags()
	flags.StringVar(&e.homeDir, "home", "", "folder with this host's identity and settings (default $SECGOSSIP_HOME, /etc/secgossip as root, or ~/.config/secgossip)")
	flags.StringVar(&e.rpcAddr, "rpc-addr", "", "address of the agent's RPC, `HOST:PORT` (default from client/rpc-addr, else 127.0.0.1:7373)")
	flags.BoolVar(&e.json, "json", false, "print JSON")
	flags.DurationVar(&e.timeout, "timeout", 10*time.Second, "how long to wait for the agent")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w", errUsage, err)
	})
	root.AddCommand(
		newInitCmd(e), newPKICmd(e), newAgentCmd(e),
		newEventCmd(e), newMembersCmd(e), newInfoCmd(e), newStatusCmd(e), newStreamCmd(e), newMonitorCmd(e), newLeaveCmd(e), newRTTCmd(e),
		newQueryCmd(e), newRespondCmd(e), newReachabilityCmd(e),
		newJoinCmd(e), newForceLeaveCmd(e), newTagsCmd(e),
		newHandlersCmd(e), newReloadCmd(e),
		newEvictCmd(e), newBanCmd(e), newUnbanCmd(e),
		newKeysCmd(e), newKeygenCmd(), newVersionCmd(e),
	)
	return root
}

// untilSignal is ctx until somebody wants this command to stop. It is for what
// must not be left half-done; a second signal ends the process at once.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// usageArgs makes a wrong number of arguments a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		return nil
	}
}

// lockedBuffers is how many secrets a command holds in locked memory at most.
const lockedBuffers = 16

// home is the home that flags and environment name. Whoever opens one meets
// secrets: from here on the process is closed to others and leaves no core.
func (e *env) home() (home.Home, error) {
	if err := keyring.Harden(lockedBuffers); err != nil {
		return "", err
	}
	if e.homeDir != "" {
		return home.Home(e.homeDir), nil
	}
	return home.Default()
}

// group is a command that only has commands below it.
func group(use, short, example string, below ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:     use,
		Short:   short,
		Example: example,
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return fmt.Errorf("%w: no command given", errUsage)
		},
	}
	cmd.AddCommand(below...)
	return cmd
}

func newVersionCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  secgossip version",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return e.print(struct {
				Version string `json:"version"`
			}{version}, func(w io.Writer) { fmt.Fprintf(w, "secgossip %s\n", version) })
		},
	}
}

func newKeygenCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "keygen",
		Short:   "Not needed: keys are never typed here",
		Example: "  secgossip keys rotate",
		Args:    cobra.ArbitraryArgs,
		Hidden:  true,
		RunE: func(*cobra.Command, []string) error {
			return &home.Problem{
				Err:  fmt.Errorf("%w: gossip keys are made by keepers and never typed, copied or shown", errUsage),
				Next: "`secgossip init` makes the first one, `secgossip keys rotate` the next",
			}
		},
	}
}
