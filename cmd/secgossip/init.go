package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/secgossip/secgossip/internal/agent"
	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/pki"
)

func newInitCmd(e *env) *cobra.Command {
	var cluster, node, advertise, passphraseFile string
	cmd := &cobra.Command{
		Use:   "init --cluster NAME --node NAME",
		Short: "Make a new cluster with this host as its first keeper",
		Long: `init makes the root of a new cluster, sealed with a passphrase; this node's
identity, as keeper; the first gossip epoch; and a client called operator who may
do everything. It overwrites nothing, and leaves nothing behind when it fails.`,
		Example: "  secgossip init --cluster demo --node web-1 --advertise 203.0.113.7",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := e.home()
			if err != nil {
				return err
			}
			req := home.InitRequest{RPCAddr: e.clientRPC(), WorkFactor: e.workFactor}
			if req.Cluster, err = parseName("--cluster", cluster); err != nil {
				return err
			}
			if req.Node, err = parseName("--node", node); err != nil {
				return err
			}
			if req.Config, err = agent.ConfigFor(advertised(advertise), nil); err != nil {
				return fmt.Errorf("%w: --advertise: %w", errUsage, err)
			}
			if err := at.CheckVacant(); err != nil {
				return err // before anybody thinks of a passphrase
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			if req.Passphrase, err = e.newPassphrase(ctx, passphraseFile); err != nil {
				return err
			}
			defer clear(req.Passphrase)
			if err := at.Init(ctx, req, time.Now()); err != nil {
				return err
			}
			return e.print(map[string]string{"cluster": cluster, "node": node, "home": string(at)}, func(w io.Writer) {
				fmt.Fprintf(w, "Cluster %s is made, and node %s is its first keeper. Everything is in %s.\n\n", cluster, node, at)
				fmt.Fprintf(w, "Start this node:\n  secgossip --home %s agent\n\n", at)
				fmt.Fprintf(w, "Make a home for another host, then copy the folder there:\n  secgossip --home %s pki issue node NAME --out DIR\n\n", at)
				fmt.Fprintf(w, "Keep the passphrase: without it nobody makes another keeper. Back up %s/ca and take it off this host.\n", at)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cluster, "cluster", "", "name of the cluster")
	flags.StringVar(&node, "node", "", "name of this node")
	flags.StringVar(&advertise, "advertise", "", "public `ADDRESS[:PORT]` others reach this node at; written to config.yaml")
	flags.StringVar(&passphraseFile, "passphrase-file", "", "`FILE` with the passphrase that seals the root, - for stdin (default: ask)")
	return cmd
}

// parseName reads a name given by a flag or argument.
func parseName(what, text string) (pki.Name, error) {
	if text == "" {
		return "", fmt.Errorf("%w: %s is missing", errUsage, what)
	}
	name, err := pki.ParseName(text)
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", errUsage, what, err)
	}
	return name, nil
}

func advertised(flag string) []string {
	if flag == "" {
		return nil
	}
	return []string{flag}
}

// clientRPC is the RPC address written into a new client's home.
func (e *env) clientRPC() string {
	if e.rpcAddr != "" {
		return e.rpcAddr
	}
	return defaultRPC
}
