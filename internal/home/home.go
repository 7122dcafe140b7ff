// Package home is the folder a secgossip installation lives in: which files
// there are, how they are made and how they are read.
//
//	ca/root.crt, ca/root.key.age    the cluster's root, where the root lives
//	bundle.pem                      trusted roots, on every host
//	node/                           this node: certificate, credential, keys, keyring; an issuer on keepers
//	client/                         an operator: certificate, key, token, the agent's RPC address
//	state/                          what an agent's network process remembers
//	runner/                         what its runner remembers
//	config.yaml                     settings, optional
//
// A home is made elsewhere and moved into place in one step: there is never half
// of one. Every private key in node/ and ca/ is sealed; node/unlock.key opens
// those of the node, unless an Unlock names what else does.
package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/secgossip/secgossip/keyring"
)

// Home is the path of a home.
type Home string

// Default is the home in force when no flag names one: $SECGOSSIP_HOME, else
// /etc/secgossip as root, else ~/.config/secgossip.
func Default() (Home, error) {
	if dir := os.Getenv("SECGOSSIP_HOME"); dir != "" {
		return Home(dir), nil
	}
	if os.Geteuid() == 0 {
		return "/etc/secgossip", nil
	}
	user, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding a home: %w; name one by --home", err)
	}
	return Home(filepath.Join(user, ".config", "secgossip")), nil
}

// The files of a home.
const (
	fileBundle       = "bundle.pem"
	fileConfig       = "config.yaml"
	fileRootCert     = "ca/root.crt"
	fileRootKey      = "ca/root.key.age"
	fileUnlock       = "node/unlock.key"
	fileNodeCert     = "node/node.crt"
	fileNodeCred     = "node/node.cred"
	fileSigningKey   = "node/signing.key.age"
	fileAgreementKey = "node/agreement.key.age"
	fileKeyring      = "node/keyring.age"
	fileIssuerCert   = "node/issuer.crt"
	fileIssuerKey    = "node/issuer.key.age"
	fileClientCert   = "client/client.crt"
	fileClientKey    = "client/client.key"
	fileClientToken  = "client/token"
	fileClientRPC    = "client/rpc-addr"
	dirState         = "state"
	dirRunner        = "runner"
)

func (h Home) path(name string) string { return filepath.Join(string(h), filepath.FromSlash(name)) }

// Config is the path of the settings file. It need not exist.
func (h Home) Config() string { return h.path(fileConfig) }

// State is the folder for what an agent's network process remembers.
func (h Home) State() string { return h.path(dirState) }

// Runner is the folder for what an agent's runner remembers. The network process cannot
// reach it: what is there decides which programs run again.
func (h Home) Runner() string { return h.path(dirRunner) }

// MakeRunner makes that folder, in a home that has none yet. It must be ours alone:
// what is in it decides which programs run again.
func (h Home) MakeRunner() error {
	path := h.Runner()
	if err := os.Mkdir(path, 0o700); err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case !info.IsDir() || info.Mode().Perm()&0o077 != 0:
		err = fmt.Errorf("%q: %w: it is not a folder of ours alone; run: chmod 0700 %q", path, keyring.ErrPermissions, path)
	default:
		err = checkOurs(path)
	}
	if err != nil {
		return &Problem{
			Err:  err,
			Next: "give it to the user that starts the agent; or remove it: then no event from before the next start is run",
		}
	}
	return nil
}

// Keyring are the files of the keyring: the version in use and the one before it.
func (h Home) Keyring() []string { return []string{h.path(fileKeyring), h.path(fileKeyring + ".prev")} }

// Private are the folders that are there and that nobody but the agent may look
// into. Scripts that operators keep beside them are none of these.
func (h Home) Private() []string {
	var dirs []string
	for _, name := range []string{"ca", "node", "client", dirState, dirRunner} {
		if exists(h.path(name)) {
			dirs = append(dirs, h.path(name))
		}
	}
	return dirs
}

// HasRoot reports whether the cluster's root lives here.
func (h Home) HasRoot() bool { return exists(h.path(fileRootKey)) }

// HasIssuer reports whether this node can issue identities.
func (h Home) HasIssuer() bool { return exists(h.path(fileIssuerKey)) }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Problem is an error with the next step to take.
type Problem struct {
	Err  error
	Next string
}

func (p *Problem) Error() string { return p.Err.Error() }
func (p *Problem) Unwrap() error { return p.Err }

// Hint is the next step, for the operator.
func (p *Problem) Hint() string { return p.Next }

// ErrMissing says that a home lacks what is needed of it.
var ErrMissing = errors.New("not set up")

// ErrKeeper says that a keeper was told to do what only other nodes may.
var ErrKeeper = errors.New("not for a keeper")

// ErrExists says that a home would be overwritten.
var ErrExists = errors.New("already set up")

// ErrInterrupted says that making a home was called off in time.
var ErrInterrupted = errors.New("interrupted; nothing was made")
