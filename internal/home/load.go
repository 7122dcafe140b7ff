package home

import (
	"crypto"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
	"github.com/secgossip/secgossip/secgossip"
)

// Node is what an agent needs of a home.
type Node struct {
	Identity   secgossip.Identity // as it was when the home was loaded; its certificate is always the newest
	Trust      *pki.Trust
	Keyring    *keyring.File
	Credential *pki.Credential

	home        Home
	locker      *keyring.Locker // of the keyring
	certificate atomic.Pointer[tls.Certificate]
}

// LoadNode reads and checks this home's node: everything belongs together, is
// ours alone to read, and is valid now. Whatever is wrong comes with what to do.
func (h Home) LoadNode(unlock Unlock, now time.Time) (*Node, error) {
	return h.loadNode(unlock, false, nil, now)
}

// LoadNodeInMemory is LoadNode for a node whose epochs are never on its disk: those
// in the keyring file are used, and are gone from it on return. A keeper cannot be
// one: after a power cut of all hosts somebody must have them.
func (h Home) LoadNodeInMemory(unlock Unlock, now time.Time) (*Node, error) {
	return h.loadNode(unlock, true, nil, now)
}

// LoadNodeThen is one of these two for a process that gives up its rights: settle is
// called when the keys are read, and the keyring is read after it.
func (h Home) LoadNodeThen(unlock Unlock, inMemory bool, settle func() error, now time.Time) (*Node, error) {
	return h.loadNode(unlock, inMemory, settle, now)
}

func (h Home) loadNode(unlock Unlock, inMemory bool, settle func() error, now time.Time) (_ *Node, err error) {
	// Said before anything is unlocked: without them there is no node here.
	files, err := h.ReadFiles()
	if err != nil {
		return nil, err
	}
	trust, err := h.parseBundle(files.Bundle)
	if err != nil {
		return nil, err
	}
	o, err := h.unlock(unlock)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			o.Destroy()
		}
	}()
	signing, err := keyring.LoadSigningKey(h.path(fileSigningKey), o.Locker)
	if err != nil {
		return nil, h.explainSealed(o, fileSigningKey, err)
	}
	agreement, err := keyring.LoadAgreementKey(h.path(fileAgreementKey), o.Locker)
	if err != nil {
		return nil, h.explainSealed(o, fileAgreementKey, err)
	}
	issued, err := h.checkIssued(files, trust, signing, agreement.Public(), now)
	if err != nil {
		return nil, err
	}
	if inMemory && issued.credential.HasRole(pki.RoleKeeper) {
		return nil, &Problem{
			Err:  fmt.Errorf("%w: a keeper keeps its epochs on disk", ErrKeeper),
			Next: "take `keyring: memory` out of this host's settings: when all hosts lose power, a keeper is who still has the epochs",
		}
	}
	if settle != nil {
		if err = settle(); err != nil {
			return nil, err
		}
	}
	ring, err := h.openKeyring(o)
	if err != nil {
		return nil, err
	}
	if err = secgossip.CheckKeyring(ring.Keyring(), trust); err != nil {
		ring.Keyring().Destroy()
		return nil, h.refused(fileKeyring, err)
	}
	if inMemory {
		if err = ring.MemoryOnly(); err != nil {
			ring.Keyring().Destroy()
			return nil, h.explain(fileKeyring, err)
		}
	}
	o.SealOnly()
	n := &Node{Trust: trust, Keyring: ring, Credential: issued.credential, home: h, locker: o.Locker}
	n.certificate.Store(issued.own)
	n.Identity = secgossip.Identity{
		Name:        issued.credential.Name,
		Credential:  issued.raw,
		Certificate: func() (*tls.Certificate, error) { return n.certificate.Load(), nil },
		Signing:     signing,
		Agreement:   agreement,
	}
	return n, nil
}

// Destroy wipes the node's secrets. Whoever still uses one gets an error.
func (n *Node) Destroy() {
	n.Keyring.Keyring().Destroy()
	n.locker.Destroy()
	for _, key := range []any{n.Identity.Signing, n.Identity.Agreement} {
		if key, ok := key.(interface{ Destroy() }); ok {
			key.Destroy()
		}
	}
}

// Fresh is what Reread has found in order and nobody uses yet.
type Fresh struct {
	Raw        []byte // the credential, as signed
	Credential *pki.Credential
	use        func() error
}

// Use brings it into use: the roots and the certificate in use are then the new ones;
// the new credential is the caller's to use. Its error, which changes nothing, is not to
// be expected.
func (f *Fresh) Use() error { return f.use() }

// Reread checks bundle, certificate and credential as they are now, which must be of the
// same node and keys. It changes nothing.
func (n *Node) Reread(files Files, now time.Time) (*Fresh, error) {
	trust, err := n.home.parseBundle(files.Bundle)
	if err != nil {
		return nil, err
	}
	issued, err := n.home.checkIssued(files, trust, n.Identity.Signing, n.Identity.Agreement.Public(), now)
	if err != nil {
		return nil, err
	}
	if issued.credential.Name != n.Identity.Name {
		return nil, n.home.strange(fileNodeCred)
	}
	use := func() error {
		if err := n.Trust.Replace(files.Bundle); err != nil {
			return n.home.refused(fileBundle, err)
		}
		for _, issuer := range trust.Issuers() {
			// They were verified against these very roots. One too many is told by the
			// credential that then does not verify.
			_, _ = n.Trust.AddIssuer(issuer, now)
		}
		n.certificate.Store(issued.own)
		return nil
	}
	return &Fresh{issued.raw, issued.credential, use}, nil
}

// issued is what an authority has signed for a node.
type issued struct {
	own        *tls.Certificate
	raw        []byte // the credential, as signed
	credential *pki.Credential
}

// checkIssued checks certificate and credential of the node with these keys. trust
// learns the issuer beside the certificate.
func (h Home) checkIssued(files Files, trust *pki.Trust, signing crypto.Signer, agreement [32]byte, now time.Time) (issued, error) {
	own, err := certificate(files.Certificate, signing)
	if err != nil {
		return issued{}, h.damaged(fileNodeCert, err)
	}
	raw := files.Credential
	credential, err := h.checkNode(trust, own, raw, now)
	if err != nil {
		return issued{}, err
	}
	if !credential.SigningKey.Equal(signing.Public().(ed25519.PublicKey)) {
		return issued{}, h.strange(fileSigningKey)
	}
	if credential.AgreementKey != agreement {
		return issued{}, h.strange(fileAgreementKey)
	}
	return issued{own: own, raw: raw, credential: credential}, nil
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
	return h.parseBundle(bundle)
}

func (h Home) parseBundle(bundle []byte) (*pki.Trust, error) {
	trust, err := pki.ParseBundle(bundle)
	if err != nil {
		return nil, &Problem{
			Err:  fmt.Errorf("%q: %w: %w", h.path(fileBundle), keyring.ErrDamaged, err),
			Next: "copy " + fileBundle + " from another host of this cluster: it is the same everywhere, and no secret",
		}
	}
	return trust, nil
}

func (h Home) openKeyring(o opener) (*keyring.File, error) {
	ring, err := keyring.OpenFile(h.path(fileKeyring), o.Locker)
	if err != nil {
		return nil, h.explainSealed(o, fileKeyring, err)
	}
	return ring, nil
}
