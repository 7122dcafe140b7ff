package home

import (
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
	"github.com/secgossip/secgossip/secgossip"
)

// Node is what an agent needs of a home.
type Node struct {
	Identity   secgossip.Identity
	Trust      *pki.Trust
	Keyring    *keyring.File
	Credential *pki.Credential
}

// LoadNode reads and checks this home's node: everything belongs together, is
// ours alone to read, and is valid now. Whatever is wrong comes with what to do.
func (h Home) LoadNode(now time.Time) (*Node, error) {
	trust, err := h.loadTrust()
	if err != nil {
		return nil, err
	}
	chain, err := os.ReadFile(h.path(fileNodeCert))
	if err != nil {
		return nil, h.explain(fileNodeCert, err)
	}
	locker, err := h.unlock()
	if err != nil {
		return nil, err
	}
	defer locker.Destroy()
	signing, err := keyring.LoadSigningKey(h.path(fileSigningKey), locker)
	if err != nil {
		return nil, h.explain(fileSigningKey, err)
	}
	agreement, err := keyring.LoadAgreementKey(h.path(fileAgreementKey), locker)
	if err != nil {
		return nil, h.explain(fileAgreementKey, err)
	}
	own, err := certificate(chain, signing)
	if err != nil {
		return nil, h.damaged(fileNodeCert, err)
	}
	rawCredential, err := os.ReadFile(h.path(fileNodeCred))
	if err != nil {
		return nil, h.explain(fileNodeCred, err)
	}
	credential, err := h.checkNode(trust, own, rawCredential, now)
	if err != nil {
		return nil, err
	}
	if !credential.SigningKey.Equal(signing.Public().(ed25519.PublicKey)) {
		return nil, h.strange(fileSigningKey)
	}
	if credential.AgreementKey != agreement.Public() {
		return nil, h.strange(fileAgreementKey)
	}
	ring, err := h.openKeyring(locker)
	if err != nil {
		return nil, err
	}
	return &Node{
		Identity: secgossip.Identity{
			Name:        credential.Name,
			Credential:  rawCredential,
			Certificate: func() (*tls.Certificate, error) { return own, nil },
			Signing:     signing,
			Agreement:   agreement,
		},
		Trust:      trust,
		Keyring:    ring,
		Credential: credential,
	}, nil
}

// checkNode holds certificate and credential against the roots and each other.
func (h Home) checkNode(trust *pki.Trust, own *tls.Certificate, rawCredential []byte, now time.Time) (*pki.Credential, error) {
	certs, err := parseChain(own)
	if err != nil {
		return nil, h.damaged(fileNodeCert, err)
	}
	identity, err := trust.VerifyChain(certs, now, pki.KindNode)
	if err != nil {
		return nil, h.refused(fileNodeCert, err)
	}
	for _, issuer := range certs[1:] {
		if _, err := trust.AddIssuer(issuer.Raw, now); err != nil {
			return nil, h.refused(fileNodeCert, err)
		}
	}
	credential, err := trust.VerifyCredential(rawCredential, now)
	if err != nil {
		return nil, h.refused(fileNodeCred, err)
	}
	if err := credential.Matches(identity); err != nil {
		return nil, h.refused(fileNodeCred, err)
	}
	return credential, nil
}

// Client is what a command needs of a home to call an agent.
type Client struct {
	home        Home
	Name        pki.Name
	Trust       *pki.Trust
	Certificate *tls.Certificate
	Key         *keyring.SigningKey
	Token       string
	RPCAddr     string
}

// LoadClient reads and checks this home's client. The token is the agent's to
// judge: see CheckToken.
func (h Home) LoadClient(now time.Time) (*Client, error) {
	trust, err := h.loadTrust()
	if err != nil {
		return nil, err
	}
	chain, err := os.ReadFile(h.path(fileClientCert))
	if err != nil {
		return nil, h.explain(fileClientCert, err)
	}
	key, err := keyring.ReadClientKeyFile(h.path(fileClientKey))
	if err != nil {
		return nil, h.explain(fileClientKey, err)
	}
	own, err := certificate(chain, key)
	if err != nil {
		return nil, h.damaged(fileClientCert, err)
	}
	certs, err := parseChain(own)
	if err != nil {
		return nil, h.damaged(fileClientCert, err)
	}
	identity, err := trust.VerifyChain(certs, now, pki.KindClient)
	if err != nil {
		return nil, h.refused(fileClientCert, err)
	}
	if !identity.Key.Equal(key.Public()) {
		return nil, h.strange(fileClientKey)
	}
	token, err := h.readToken()
	if err != nil {
		return nil, h.explain(fileClientToken, err)
	}
	rpcAddr, err := os.ReadFile(h.path(fileClientRPC))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return &Client{
		home: h, Name: identity.Name, Trust: trust, Certificate: own, Key: key,
		Token: token, RPCAddr: strings.TrimSpace(string(rpcAddr)),
	}, nil
}

func (h Home) readToken() (string, error) {
	path := h.path(fileClientToken)
	if err := keyring.CheckSecretFile(path); err != nil {
		return "", err
	}
	token, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(token)), nil
}

// CheckToken says what can be seen from here to be wrong with the client's token.
// It verifies nothing: it tells the client what an agent, which tells strangers
// no reasons, would not.
func (c *Client) CheckToken(now time.Time) error {
	raw, err := rpcauth.ParseTokenText(c.Token)
	if err != nil {
		return c.home.refused(fileClientToken, err)
	}
	token, err := rpcauth.InspectToken(raw)
	if err != nil {
		return c.home.refused(fileClientToken, err)
	}
	if token.Subject != c.Name || !token.Key.Equal(c.Key.Public()) {
		return c.home.refused(fileClientToken, fmt.Errorf("%w: the token of client %q beside the certificate of client %q",
			pki.ErrMismatch, token.Subject, c.Name))
	}
	if err := pki.CheckTime(token.NotBefore, token.NotAfter, now); err != nil {
		return c.home.refused(fileClientToken, err)
	}
	return nil
}

func (h Home) readBundle() ([]byte, error) {
	file, err := OpenTrusted(h.path(fileBundle))
	if err != nil {
		return nil, h.explain(fileBundle, err)
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxBundle))
}

// maxBundle bounds what is read of a bundle, in bytes: two certificates of 2 KiB
// are the most there is, and people write remarks between them.
const maxBundle = 64 << 10

func (h Home) loadTrust() (*pki.Trust, error) {
	bundle, err := h.readBundle()
	if err != nil {
		return nil, err
	}
	trust, err := pki.ParseBundle(bundle)
	if err != nil {
		return nil, &Problem{
			Err:  fmt.Errorf("%q: %w: %w", h.path(fileBundle), keyring.ErrDamaged, err),
			Next: "copy " + fileBundle + " from another host of this cluster: it is the same everywhere, and no secret",
		}
	}
	return trust, nil
}

// unlock opens what opens the node's sealed files.
func (h Home) unlock() (*keyring.Locker, error) {
	locker, err := keyring.OpenMachineLocker(h.path(fileUnlock))
	if err != nil {
		return nil, h.explain(fileUnlock, err)
	}
	return locker, nil
}

func (h Home) openKeyring(locker *keyring.Locker) (*keyring.File, error) {
	ring, err := keyring.OpenFile(h.path(fileKeyring), locker)
	if err != nil {
		return nil, h.explain(fileKeyring, err)
	}
	return ring, nil
}
