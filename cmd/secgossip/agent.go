package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/secgossip/secgossip/internal/agent"
	"github.com/secgossip/secgossip/internal/home"
)

func newAgentCmd(e *env) *cobra.Command {
	var flags agent.Settings
	var tags []string
	var configFile string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent",
		Long: `agent runs this host's node until it is told to stop. It needs a home made by
init or by pki issue.

Settings come from config.yaml in the home, whose keys are the names of these
flags, and then from the flags. SIGINT leaves the cluster first; SIGTERM stops at
once, and the others will call the node failed until it is back. A second signal
cuts a leave short.`,
		Example: "  secgossip agent --bind 0.0.0.0:7946 --advertise 203.0.113.7 --event-handler user:deploy=/usr/local/bin/deploy",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := e.home()
			if err != nil {
				return err
			}
			flags.RPCAddr = e.rpcAddr
			var badTags error
			flags.Tags, badTags = parseTags("--tag", tags)
			file := agent.NewSettingsFile(at, configFile)
			inFile, badFile := file.Read()
			settings := agent.DefaultSettings().Merge(inFile).Merge(flags)
			// All at once: nobody likes to be told of one mistake after the other.
			if err := errors.Join(badFile, badTags, settings.Check()); err != nil {
				return fmt.Errorf("%w: %w", agent.ErrSetup, err)
			}
			// The flags of this command line stay over whatever the file says later.
			again := func() (agent.Settings, error) {
				inFile, err := file.Reread()
				return agent.DefaultSettings().Merge(inFile).Merge(flags), err
			}
			return e.runAgent(at, settings, again)
		},
	}
	defaults := agent.DefaultSettings()
	f := cmd.Flags()
	f.StringVar(&flags.Bind, "bind", "", "`ADDRESS[:PORT]` to listen on for gossip, UDP and TCP (default "+defaults.Bind+")")
	f.StringArrayVar(&flags.Advertise, "advertise", nil, "`ADDRESS[:PORT]` others reach this node at; repeat for more")
	f.StringVar(&flags.MetricsAddr, "metrics-addr", "", "`ADDRESS:PORT` or unix:PATH where whoever gets there reads figures (default none)")
	f.StringArrayVar(&flags.Join, "join", nil, "`ADDRESS[:PORT]` of a member to join by; at least one must answer")
	f.StringArrayVar(&flags.RetryJoin, "retry-join", nil, "`ADDRESS[:PORT]` of a member to join by, tried until one answers. Both also take srv:NAME, and exec:PATH [ARGUMENT...], a program that prints addresses")
	f.StringVar(&flags.Discover, "discover", "", "`NAME` under which nodes of one link find each other by multicast DNS, which everybody on the link hears (default off)")
	f.StringVar(&flags.MDNSIface, "mdns-iface", "", "network interface for --discover (default the system's choice)")
	f.StringVar(&flags.RetryInterval, "retry-interval", "", "pause between attempts of --retry-join, give or take a quarter (default "+defaults.RetryInterval+")")
	f.IntVar(&flags.RetryMax, "retry-max", 0, "attempts of --retry-join after which the agent gives up; 0 is for ever")
	f.BoolVar(&flags.LeaveOnTerminate, "leave-on-terminate", false, "leave the cluster on SIGTERM too")
	f.BoolVar(&flags.SkipLeaveOnInterrupt, "skip-leave-on-interrupt", false, "do not leave the cluster on SIGINT")
	f.BoolVar(&flags.Rejoin, "rejoin", false, "after a leave, go back to the cluster by itself at the next start")
	f.BoolVar(&flags.Replay, "replay", false, "where no events are on record yet, take those too that were fired before this start")
	f.StringVar(&flags.ReconnectTimeout, "reconnect-timeout", "", "how long a failed member is looked for before it is forgotten (default "+defaults.ReconnectTimeout+")")
	f.StringVar(&flags.TombstoneTimeout, "tombstone-timeout", "", "how long a member that left is remembered (default "+defaults.TombstoneTimeout+")")
	f.StringArrayVar(&flags.EventHandlers, "event-handler", nil, "[FILTER[,FILTER...]=]PROGRAM to run on events; repeat for more")
	f.StringArrayVar(&flags.HandlerWritable, "handler-writable", nil, "`PATH` that handlers may write to; repeat for more")
	f.StringVar(&flags.HandlerUser, "handler-user", "", "user that runs handlers when the agent is root (default "+agent.DefaultHandlerUser+")")
	f.StringVar(&flags.AgentUser, "agent-user", "", "user that the network process becomes when the agent is root (default "+agent.DefaultAgentUser+", or one that no account has)")
	f.StringVar(&flags.RotateEvery, "rotate-every", "", "how long an epoch is used before a keeper makes the next (default "+defaults.RotateEvery+")")
	f.StringVar(&flags.HandlerTimeout, "handler-timeout", "", "how long a handler may run (default "+defaults.HandlerTimeout+")")
	f.StringVar(&flags.HandlerSandbox, "handler-sandbox", "", "strict, or reduced: run handlers where the kernel cannot confine them fully (default "+defaults.HandlerSandbox+")")
	f.StringVar(&flags.Keyring, "keyring", "", "where epochs are kept: disk, or memory (not for a keeper): fetched from a member at every start (default "+defaults.Keyring+")")
	f.StringVar(&flags.UnlockPassphraseFile, "unlock-passphrase-file", "", "`FILE` with the passphrase that opens the node's files (default the machine key, or what the service manager hands over)")
	f.StringVar(&flags.UnlockIdentityFile, "unlock-identity-file", "", "`FILE` with the age identity that opens the node's files")
	f.StringArrayVar(&tags, "tag", nil, "`NAME=VALUE` this node tells the cluster; repeat for more")
	f.StringVar(&flags.Profile, "profile", "", "timings: lan, wan, local or internet (default internet on a public address, else lan)")
	f.StringVar(&flags.LogLevel, "log-level", "", "debug, info, warn or error (default "+defaults.LogLevel+")")
	f.StringVar(&configFile, "config-file", "", "settings `FILE` (default config.yaml in the home)")
	return cmd
}

// parseTags reads NAME=VALUE flags. A tag given twice is a mistake.
func parseTags(flag string, list []string) (map[string]string, error) {
	tags := make(map[string]string)
	var problems []error
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if _, twice := tags[name]; twice {
			problems = append(problems, fmt.Errorf("%s %q is given twice", flag, name))
		}
		if !ok || name == "" {
			problems = append(problems, fmt.Errorf("%s %q: want NAME=VALUE", flag, text))
			continue
		}
		tags[name] = value
	}
	return tags, errors.Join(problems...)
}

// runAgent runs an agent until a signal or a client stops it.
func (e *env) runAgent(at home.Home, settings agent.Settings, again func() (agent.Settings, error)) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	fmt.Fprintln(e.stderr, "==> Starting secgossip agent...")
	return agent.Run(at, settings, again, e.stderr, signals)
}
