package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/secgossip/secgossip/internal/agent"
	"github.com/secgossip/secgossip/internal/home"
)

// unlockFlags adds the flags that say what opens the node's files, for commands
// that work in the home of a node.
func unlockFlags(cmd *cobra.Command, unlock *home.Unlock) {
	f := cmd.Flags()
	f.StringVar(&unlock.PassphraseFile, "unlock-passphrase-file", "", "`FILE` with the passphrase that opens this home's node (default as in config.yaml)")
	f.StringVar(&unlock.IdentityFile, "unlock-identity-file", "", "`FILE` with the age identity that opens this home's node (default as in config.yaml)")
}

// unlockOf is what opens the node of a home: what flags say, else its settings.
func unlockOf(at home.Home, flags home.Unlock) (home.Unlock, error) {
	if err := flags.Check(); err != nil {
		return home.Unlock{}, fmt.Errorf("%w: %w", errUsage, err)
	}
	if flags.Set() {
		return flags, nil
	}
	unlock, err := agent.UnlockOf(at)
	if err != nil {
		return home.Unlock{}, fmt.Errorf("%w: %w", errUsage, err)
	}
	return unlock, nil
}

func newResealCmd(e *env) *cobra.Command {
	var from, to home.Unlock
	var machine bool
	cmd := &cobra.Command{
		Use:   "reseal --to-machine | --to-passphrase-file FILE | --to-identity-file FILE",
		Short: "Seal the node's files with something else, while its agent is stopped",
		Long: `reseal seals the files in node/ with something else: a machine key, which is made
anew in node/; a passphrase, which FILE holds on one line; or an age identity, such
as age-keygen writes. A kill at any moment leaves files that what was before opens,
or what is now. It writes no settings: it says which the agent then needs.`,
		Example: "  secgossip keys reseal --to-passphrase-file unlock",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			at, err := e.home()
			if err != nil {
				return err
			}
			if err := to.Check(); err != nil || machine == to.Set() {
				return fmt.Errorf("%w: name one of --to-machine, --to-passphrase-file and --to-identity-file", errUsage)
			}
			if from, err = unlockOf(at, from); err != nil {
				return err
			}
			with, err := at.Reseal(from, to)
			if err != nil {
				return err
			}
			return e.print(map[string]string{"home": string(at), "sealed_with": with}, func(w io.Writer) {
				fmt.Fprintf(w, "The files of %s/node are sealed with the %s now. ", at, with)
				describeUnlock(w, to)
			})
		},
	}
	unlockFlags(cmd, &from)
	f := cmd.Flags()
	f.BoolVar(&machine, "to-machine", false, "seal with a new machine key, node/unlock.key")
	f.StringVar(&to.PassphraseFile, "to-passphrase-file", "", "seal with the passphrase in `FILE`")
	f.StringVar(&to.IdentityFile, "to-identity-file", "", "seal with the age identity in `FILE`")
	return cmd
}

// describeUnlock says what an agent is to be told from now on.
func describeUnlock(w io.Writer, to home.Unlock) {
	setting, file := "unlock-passphrase-file", to.PassphraseFile
	if to.IdentityFile != "" {
		setting, file = "unlock-identity-file", to.IdentityFile
	}
	if !to.Set() {
		fmt.Fprintln(w, "The agent needs no setting for that: take unlock-passphrase-file and unlock-identity-file out of config.yaml.")
		return
	}
	fmt.Fprintf(w, "Set this in config.yaml:\n  %s: %s\nor hand the file to the agent as the credential secgossip.unlock.\n", setting, file)
}
