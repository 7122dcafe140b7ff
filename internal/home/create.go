package home

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
	"github.com/secgossip/secgossip/secgossip"
)

// NodeLife is the life of a node's identity made by hand. It is longer than
// pki's default, which is meant for identities that renew themselves.
const NodeLife = 90 * 24 * time.Hour

// InitRequest says what a new cluster is to be.
type InitRequest struct {
	Cluster    pki.Name
	Node       pki.Name
	Passphrase []byte // seals the root's key
	WorkFactor int    // of the passphrase; 0 for the default
	RPCAddr    string // where the operator's commands find the agent
	Config     []byte // content of config.yaml; none if empty
}

// operatorName is the name of the first client.
const operatorName pki.Name = "operator"

// Init makes a cluster: its root, this node as keeper with the first epoch, and
// an operator who may do everything. It overwrites nothing, and leaves nothing
// when it fails or ctx ends.
func (h Home) Init(ctx context.Context, req InitRequest, now time.Time) error {
	return h.build(ctx, func(draft Home) error { return draft.initialise(req, now) })
}

func (h Home) initialise(req InitRequest, now time.Time) error {
	root, err := h.createRoot(req, now)
	if err != nil {
		return fmt.Errorf("making the root: %w", err)
	}
	issuing, err := h.createNode(nodeRequest{name: req.Node, roles: []pki.Role{pki.RoleKeeper}}, root, now)
	if err != nil {
		return fmt.Errorf("making node %q: %w", req.Node, err)
	}
	if err := h.createClient(clientRequest{
		name: operatorName, grants: []rpcauth.Grant{"admin"}, rpcAddr: req.RPCAddr,
	}, issuing, now); err != nil {
		return fmt.Errorf("making the operator: %w", err)
	}
	bundle, err := os.ReadFile(h.path(fileRootCert))
	if err != nil {
		return err
	}
	return h.createRest(bundle, req.Config)
}

// createRoot makes the root and its files.
func (h Home) createRoot(req InitRequest, now time.Time) (*pki.Authority, error) {
	key, err := keyring.NewSigningKey()
	if err != nil {
		return nil, err
	}
	der, err := pki.NewRoot(req.Cluster, key, now)
	if err != nil {
		return nil, err
	}
	locker, err := keyring.PassphraseLocker(req.Passphrase, req.WorkFactor)
	if err != nil {
		return nil, err
	}
	defer locker.Destroy()
	bundle := pki.EncodeCertificates([][]byte{der})
	if err := h.writeFile(fileRootCert, bundle, 0o644); err != nil {
		return nil, err
	}
	if err := keyring.StoreSigningKey(h.path(fileRootKey), locker, key); err != nil {
		return nil, err
	}
	return authority(bundle, bundle, key)
}

// authority puts together a certificate, its key and the bundle above it.
func authority(bundle, certificate []byte, key *keyring.SigningKey) (*pki.Authority, error) {
	trust, err := pki.ParseBundle(bundle)
	if err != nil {
		return nil, err
	}
	certs, err := pki.ParseCertificates(certificate)
	if err != nil {
		return nil, err
	}
	return pki.NewAuthority(certs[0], key, trust)
}

type nodeRequest struct {
	name  pki.Name
	roles []pki.Role
	life  time.Duration
	ring  *keyring.Keyring // the cluster's; nil: this node founds it
}

// createNode makes a node's keys and files. A keeper gets an issuer, which only
// the root can make. It returns who may issue here: the new issuer, or by.
func (h Home) createNode(req nodeRequest, by *pki.Authority, now time.Time) (*pki.Authority, error) {
	if err := os.MkdirAll(h.path("node"), 0o700); err != nil {
		return nil, err
	}
	locker, err := keyring.NewMachineLocker(h.path(fileUnlock))
	if err != nil {
		return nil, err
	}
	defer locker.Destroy()
	if isKeeper(req.roles) {
		if by, err = h.createIssuer(req.name, locker, by, now); err != nil {
			return nil, err
		}
	}
	signing, err := keyring.NewSigningKey()
	if err != nil {
		return nil, err
	}
	agreement, err := keyring.NewAgreementKey()
	if err != nil {
		return nil, err
	}
	life := req.life
	if life == 0 {
		life = NodeLife
	}
	issued, err := by.Node(pki.NodeRequest{
		Name:         req.name,
		SigningKey:   signing.Public().(ed25519.PublicKey),
		AgreementKey: agreement.Public(),
		Roles:        req.roles,
		Life:         life,
	}, now)
	if err != nil {
		return nil, err
	}
	ring := req.ring
	if ring == nil {
		ring, err = secgossip.Found(secgossip.Identity{
			Name: req.name, Credential: issued.Credential, Signing: signing, Agreement: agreement,
		}, by.Trust(), now)
		if err != nil {
			return nil, err
		}
	}
	if _, err := keyring.CreateFile(h.path(fileKeyring), locker, ring); err != nil {
		return nil, err
	}
	return by, errors.Join(
		keyring.StoreSigningKey(h.path(fileSigningKey), locker, signing),
		keyring.StoreAgreementKey(h.path(fileAgreementKey), locker, agreement),
		h.writeFile(fileNodeCert, pki.EncodeCertificates(issued.Chain), 0o644),
		h.writeFile(fileNodeCred, issued.Credential, 0o644),
	)
}

func isKeeper(roles []pki.Role) bool {
	for _, r := range roles {
		if r == pki.RoleKeeper {
			return true
		}
	}
	return false
}

// createIssuer makes a keeper's issuer.
func (h Home) createIssuer(name pki.Name, locker *keyring.Locker, root *pki.Authority, now time.Time) (*pki.Authority, error) {
	if !root.IsRoot() {
		return nil, &Problem{
			Err:  errors.New("only the root can make a keeper"),
			Next: "run this where ca/root.key.age is",
		}
	}
	key, err := keyring.NewSigningKey()
	if err != nil {
		return nil, err
	}
	der, err := root.Issuer(name, key.Public().(ed25519.PublicKey), now)
	if err != nil {
		return nil, err
	}
	if err := h.writeFile(fileIssuerCert, pki.EncodeCertificates([][]byte{der}), 0o644); err != nil {
		return nil, err
	}
	if err := keyring.StoreSigningKey(h.path(fileIssuerKey), locker, key); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	// What the new issuer signs is verified here at once.
	if _, err := root.Trust().AddIssuer(der, now); err != nil {
		return nil, err
	}
	return pki.NewAuthority(cert, key, root.Trust())
}

type clientRequest struct {
	name    pki.Name
	grants  []rpcauth.Grant
	life    time.Duration
	rpcAddr string
}

// createClient makes a client's key, certificate and token.
func (h Home) createClient(req clientRequest, by *pki.Authority, now time.Time) error {
	key, err := keyring.NewSigningKey()
	if err != nil {
		return err
	}
	public := key.Public().(ed25519.PublicKey)
	issued, err := by.Client(pki.ClientRequest{Name: req.name, SigningKey: public, Life: req.life}, now)
	if err != nil {
		return err
	}
	token, _, err := rpcauth.Mint(by, rpcauth.TokenRequest{
		Subject: req.name, Key: public, Grants: req.grants, Life: req.life,
	}, now)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(h.path("client"), 0o700); err != nil {
		return err
	}
	return errors.Join(
		keyring.WriteClientKeyFile(h.path(fileClientKey), key),
		h.writeFile(fileClientCert, pki.EncodeCertificates(issued.Chain), 0o644),
		h.writeFile(fileClientToken, []byte(token+"\n"), 0o600),
		h.writeFile(fileClientRPC, []byte(req.rpcAddr+"\n"), 0o644),
	)
}

// createRest writes what every home has.
func (h Home) createRest(bundle, config []byte) error {
	if err := h.writeFile(fileBundle, bundle, 0o644); err != nil {
		return err
	}
	if len(config) > 0 {
		if err := h.writeFile(fileConfig, config, 0o644); err != nil {
			return err
		}
	}
	return errors.Join(os.MkdirAll(h.State(), 0o700), os.MkdirAll(h.Runner(), 0o700))
}

// parseChain parses a certificate and those above it.
func parseChain(c *tls.Certificate) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, der := range c.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

// certificate is a TLS certificate with a key that stays locked.
func certificate(chain []byte, key crypto.Signer) (*tls.Certificate, error) {
	certs, err := pki.ParseCertificates(chain)
	if err != nil {
		return nil, err
	}
	out := &tls.Certificate{PrivateKey: key, Leaf: certs[0]}
	for _, c := range certs {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}
