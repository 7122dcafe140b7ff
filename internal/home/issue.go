package home

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
)

// NodeOrder asks for a home for another node of the cluster.
type NodeOrder struct {
	Name   pki.Name
	Keeper bool
	Life   time.Duration // 0: NodeLife
	Config []byte        // content of its config.yaml; none if empty
	Unlock Unlock        // opens the files of the home that issues
}

// ClientOrder asks for a home for a client.
type ClientOrder struct {
	Name    pki.Name
	Grants  []rpcauth.Grant
	Life    time.Duration // 0: pki.ClientLife
	RPCAddr string
	Unlock  Unlock // opens the files of the home that issues
}

// Passphrase returns the passphrase of the root's key. It is asked for only when
// the root is needed.
type Passphrase func() ([]byte, error)

// IssueNode makes a home for another node at target, ready to be copied to its
// host: it holds the gossip epochs of this home's keyring.
func (h Home) IssueNode(ctx context.Context, target Home, order NodeOrder, ask Passphrase, now time.Time) error {
	if err := target.CheckVacant(); err != nil {
		return err
	}
	bundle, err := h.readBundle()
	if err != nil {
		return err
	}
	by, err := h.issuingAuthority(bundle, order.Unlock, order.Keeper, ask)
	if err != nil {
		return err
	}
	o, err := h.unlock(order.Unlock)
	if err != nil {
		return err
	}
	defer o.Destroy()
	ring, err := h.openKeyring(o)
	if err != nil {
		return err
	}
	defer ring.Keyring().Destroy()
	req := nodeRequest{name: order.Name, life: order.Life, ring: ring.Keyring()}
	if order.Keeper {
		req.roles = []pki.Role{pki.RoleKeeper}
	}
	return target.build(ctx, func(draft Home) error {
		if _, err := draft.createNode(req, by, now); err != nil {
			return fmt.Errorf("making node %q: %w", order.Name, err)
		}
		return draft.createRest(bundle, order.Config)
	})
}

// IssueClient makes a home for a client at target.
func (h Home) IssueClient(ctx context.Context, target Home, order ClientOrder, ask Passphrase, now time.Time) error {
	if err := target.CheckVacant(); err != nil {
		return err
	}
	bundle, err := h.readBundle()
	if err != nil {
		return err
	}
	by, err := h.issuingAuthority(bundle, order.Unlock, false, ask)
	if err != nil {
		return err
	}
	return target.build(ctx, func(draft Home) error {
		req := clientRequest{name: order.Name, grants: order.Grants, life: order.Life, rpcAddr: order.RPCAddr}
		if err := draft.createClient(req, by, now); err != nil {
			return fmt.Errorf("making client %q: %w", order.Name, err)
		}
		return draft.writeFile(fileBundle, bundle, 0o644)
	})
}

// issuingAuthority is this node's issuer, or the root when there is none or only
// the root can do it.
func (h Home) issuingAuthority(bundle []byte, unlock Unlock, needRoot bool, ask Passphrase) (*pki.Authority, error) {
	if h.HasIssuer() && !needRoot {
		return h.issuer(bundle, unlock)
	}
	if !h.HasRoot() {
		return nil, &Problem{
			Err:  fmt.Errorf("%s has neither root nor issuer that can do this", h),
			Next: "run this on a keeper; a new keeper needs the host that ran `secgossip init`",
		}
	}
	locker, err := passphraseLocker(ask)
	if err != nil {
		return nil, err
	}
	defer locker.Destroy()
	key, err := keyring.LoadSigningKey(h.path(fileRootKey), locker)
	if err != nil {
		return nil, h.explainRoot(err)
	}
	return h.authority(bundle, fileRootCert, key)
}

func passphraseLocker(ask Passphrase) (*keyring.Locker, error) {
	passphrase, err := ask()
	if err != nil {
		return nil, err
	}
	defer clear(passphrase)
	return keyring.PassphraseLocker(passphrase, 0)
}

// explainRoot adds the next step when the root's key does not open.
func (h Home) explainRoot(err error) error {
	if errors.Is(err, keyring.ErrWrongKey) {
		return &Problem{
			Err:  err,
			Next: "give the passphrase that `secgossip init` was given; nothing else opens the root",
		}
	}
	return h.explain(fileRootKey, err)
}

func (h Home) issuer(bundle []byte, unlock Unlock) (*pki.Authority, error) {
	o, err := h.unlock(unlock)
	if err != nil {
		return nil, err
	}
	defer o.Destroy()
	key, err := keyring.LoadSigningKey(h.path(fileIssuerKey), o.Locker)
	if err != nil {
		return nil, h.explainSealed(o, fileIssuerKey, err)
	}
	return h.authority(bundle, fileIssuerCert, key)
}

// authority puts the certificate in the file called name and its key together.
func (h Home) authority(bundle []byte, name string, key *keyring.SigningKey) (*pki.Authority, error) {
	cert, err := os.ReadFile(h.path(name))
	if err != nil {
		return nil, h.explain(name, err)
	}
	by, err := authority(bundle, cert, key)
	if err != nil {
		return nil, h.explain(name, fmt.Errorf("%q: %w", h.path(name), err))
	}
	return by, nil
}
