package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/secgossip/secgossip/internal/agent"
	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
)

func newPKICmd(e *env) *cobra.Command {
	return group("pki", "Make identities", "  secgossip pki issue node web-2 --out web-2",
		group("issue", "Make a ready home for a node or a client", "  secgossip pki issue client deployer --grant event:deploy --out deployer",
			newIssueNodeCmd(e), newIssueClientCmd(e)))
}

func newIssueNodeCmd(e *env) *cobra.Command {
	var out, role, advertise, passphraseFile string
	var life time.Duration
	var unlock home.Unlock
	cmd := &cobra.Command{
		Use:   "node NAME --out DIR",
		Short: "Make a home for another node, to be copied to its host",
		Long: `node makes keys, certificate and keyring of another node. Copy the folder to its
host over a channel you trust, and delete it here: whoever has it is that node.

The home's settings join by this host's advertised address, if it has one.`,
		Example: "  secgossip pki issue node web-2 --advertise 198.51.100.9 --out web-2",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := e.home()
			if err != nil {
				return err
			}
			order := home.NodeOrder{Life: life}
			if err := checkLife(life); err != nil {
				return err
			}
			if order.Name, err = parseName("node name", args[0]); err != nil {
				return err
			}
			switch role {
			case "":
			case string(pki.RoleKeeper):
				order.Keeper = true
			default:
				return fmt.Errorf("%w: --role %q: the only role is keeper", errUsage, role)
			}
			if err := needOut(out); err != nil {
				return err
			}
			seeds, err := agent.Advertised(at)
			if err != nil {
				return err
			}
			if order.Unlock, err = unlockOf(at, unlock); err != nil {
				return err
			}
			if order.Config, err = agent.ConfigFor(advertised(advertise), seeds); err != nil {
				return fmt.Errorf("%w: --advertise: %w", errUsage, err)
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			if err := at.IssueNode(ctx, home.Home(out), order, e.rootPassphrase(ctx, passphraseFile), time.Now()); err != nil {
				return err
			}
			return e.print(map[string]string{"node": args[0], "out": out}, func(w io.Writer) {
				fmt.Fprintf(w, "The home of node %s is in %s. Copy it to its host as /etc/secgossip, delete it here, and start it there:\n", args[0], out)
				fmt.Fprintf(w, "  secgossip agent%s\n", joinFlag(seeds))
			})
		},
	}
	unlockFlags(cmd, &unlock)
	flags := cmd.Flags()
	flags.StringVar(&out, "out", "", "folder to make")
	flags.StringVar(&role, "role", "", "keeper: may start epochs and issue identities (needs the root)")
	flags.StringVar(&advertise, "advertise", "", "public `ADDRESS[:PORT]` others reach that node at")
	flags.DurationVar(&life, "life", home.NodeLife, "how long the identity is valid")
	flags.StringVar(&passphraseFile, "passphrase-file", "", "`FILE` with the root's passphrase if the root is needed, - for stdin")
	return cmd
}

// joinFlag reminds of --join when the new home's settings name nobody to join.
func joinFlag(seeds []string) string {
	if len(seeds) == 0 {
		return " --join ADDRESS-OF-THIS-HOST"
	}
	return ""
}

func newIssueClientCmd(e *env) *cobra.Command {
	var out, passphraseFile string
	var grants []string
	var life time.Duration
	var unlock home.Unlock
	cmd := &cobra.Command{
		Use:   "client NAME --grant GRANT --out DIR",
		Short: "Make a home for a client, with a token for what it may do",
		Long: `client makes key, certificate and token of somebody who calls agents.

Grants: members:read, monitor, event:GLOB, query:GLOB, keys:read, keys:rotate,
node:tags, node:join, node:leave, node:evict, token:mint, enroll:mint, admin.`,
		Example: "  secgossip pki issue client deployer --grant 'event:deploy-*' --out deployer",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := e.home()
			if err != nil {
				return err
			}
			order := home.ClientOrder{Life: life, RPCAddr: e.clientRPC()}
			if err := checkLife(life); err != nil {
				return err
			}
			if order.Name, err = parseName("client name", args[0]); err != nil {
				return err
			}
			if len(grants) == 0 {
				return fmt.Errorf("%w: --grant is missing: a client that may do nothing is of no use", errUsage)
			}
			if order.Grants, err = rpcauth.ParseGrants(grants); err != nil {
				return fmt.Errorf("%w: --grant: %w", errUsage, err)
			}
			if err := needOut(out); err != nil {
				return err
			}
			if order.Unlock, err = unlockOf(at, unlock); err != nil {
				return err
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			if err := at.IssueClient(ctx, home.Home(out), order, e.rootPassphrase(ctx, passphraseFile), time.Now()); err != nil {
				return err
			}
			return e.print(map[string]string{"client": args[0], "out": out}, func(w io.Writer) {
				fmt.Fprintf(w, "The home of client %s is in %s. Use it with:\n  secgossip --home %s event NAME\n", args[0], out, out)
			})
		},
	}
	unlockFlags(cmd, &unlock)
	flags := cmd.Flags()
	flags.StringVar(&out, "out", "", "folder to make")
	flags.StringArrayVar(&grants, "grant", nil, "what the client may do; repeat for more")
	flags.DurationVar(&life, "life", pki.ClientLife, "how long identity and token are valid")
	flags.StringVar(&passphraseFile, "passphrase-file", "", "`FILE` with the root's passphrase if the root is needed, - for stdin")
	return cmd
}

func needOut(out string) error {
	if out == "" {
		return fmt.Errorf("%w: --out is missing", errUsage)
	}
	return nil
}

// checkLife refuses lives nothing can have. Too long a one is cut to the issuer's.
func checkLife(life time.Duration) error {
	if life < pki.MinLife {
		return fmt.Errorf("%w: --life %s: the shortest is %s", errUsage, life, pki.MinLife)
	}
	return nil
}

// rootPassphrase asks for the root's passphrase when it is needed.
func (e *env) rootPassphrase(ctx context.Context, file string) home.Passphrase {
	return func() ([]byte, error) { return e.passphrase(ctx, file, "Passphrase of the root's key: ") }
}
