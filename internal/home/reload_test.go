package home

import (
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
)

// renewal is what a keeper signs for a node anew.
func renewal(t *testing.T, by Home, request pki.NodeRequest) *pki.Issued {
	t.Helper()
	bundle, err := by.readBundle()
	if err != nil {
		t.Fatal(err)
	}
	authority, err := by.issuer(bundle, Unlock{})
	if err != nil {
		t.Fatal(err)
	}
	issued, err := authority.Node(request, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

func overwrite(t *testing.T, h Home, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(h.path(name), content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func serialOf(t *testing.T, n *Node) string {
	t.Helper()
	own, err := n.Identity.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	certs, err := parseChain(&tls.Certificate{Certificate: own.Certificate})
	if err != nil {
		t.Fatal(err)
	}
	return certs[0].SerialNumber.String()
}

func TestRenewedIdentityIsInUseAfterReload(t *testing.T) {
	f := homes(t)
	h := copyOf(t, f.node)
	n, err := h.LoadNode(Unlock{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	before := serialOf(t, n)
	issued := renewal(t, f.keeper, pki.NodeRequest{
		Name: "web-2", SigningKey: n.Credential.SigningKey, AgreementKey: n.Credential.AgreementKey,
	})
	overwrite(t, h, fileNodeCert, pki.EncodeCertificates(issued.Chain))
	overwrite(t, h, fileNodeCred, issued.Credential)
	raw, credential, err := reload(n)
	if err != nil {
		t.Fatal(err)
	}
	if string(raw) != string(issued.Credential) || credential.Name != "web-2" || serialOf(t, n) == before {
		t.Errorf("after the renewal: credential of %q, certificate %s, before %s", credential.Name, serialOf(t, n), before)
	}
}

// A renewal that does not belong to this node leaves everything as it was.
func TestReloadOfWhatDoesNotBelongChangesNothing(t *testing.T) {
	f := homes(t)
	loaded, err := f.node.LoadNode(Unlock{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	own := pki.NodeRequest{Name: "web-2", SigningKey: loaded.Credential.SigningKey, AgreementKey: loaded.Credential.AgreementKey}
	spare, err := keyring.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	defer spare.Destroy()
	otherName, otherKey := own, own
	otherName.Name = "web-9"
	otherKey.SigningKey = spare.Public().(ed25519.PublicKey)
	foreignBundle, err := f.foreign.readBundle()
	if err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct {
		change func(h Home)
		want   error
	}{
		"another node's": {func(h Home) {
			issued := renewal(t, f.keeper, otherName)
			overwrite(t, h, fileNodeCert, pki.EncodeCertificates(issued.Chain))
			overwrite(t, h, fileNodeCred, issued.Credential)
		}, pki.ErrMismatch},
		"for another key": {func(h Home) {
			issued := renewal(t, f.keeper, otherKey)
			overwrite(t, h, fileNodeCert, pki.EncodeCertificates(issued.Chain))
			overwrite(t, h, fileNodeCred, issued.Credential)
		}, pki.ErrMismatch},
		"half of it": {func(h Home) { overwrite(t, h, fileNodeCert, nil) }, keyring.ErrDamaged},
		"another cluster's": {func(h Home) {
			issued := renewal(t, f.foreign, own)
			overwrite(t, h, fileNodeCert, pki.EncodeCertificates(issued.Chain))
			overwrite(t, h, fileNodeCred, issued.Credential)
		}, pki.ErrForeign},
		"another cluster's, with its bundle": {func(h Home) {
			issued := renewal(t, f.foreign, own)
			overwrite(t, h, fileNodeCert, pki.EncodeCertificates(issued.Chain))
			overwrite(t, h, fileNodeCred, issued.Credential)
			overwrite(t, h, fileBundle, foreignBundle)
		}, pki.ErrForeign},
		"no bundle": {func(h Home) { os.Remove(h.path(fileBundle)) }, ErrMissing},
	} {
		h := copyOf(t, f.node)
		n, err := h.LoadNode(Unlock{}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		before := serialOf(t, n)
		test.change(h)
		if _, _, err := reload(n); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", what, err, test.want)
		}
		if serialOf(t, n) != before {
			t.Errorf("%s: the certificate in use has changed", what)
		}
		own, _ := n.Identity.Certificate()
		certs, err := parseChain(own)
		if err == nil {
			_, err = n.Trust.VerifyChain(certs, time.Now(), pki.KindNode)
		}
		if err != nil {
			t.Errorf("%s: our own certificate does not verify any more: %v", what, err)
		}
	}
}

// reload lets a node take its files as they are now.
func reload(n *Node) ([]byte, *pki.Credential, error) {
	files, err := n.home.ReadFiles()
	if err != nil {
		return nil, nil, err
	}
	fresh, err := n.Reread(files, time.Now())
	if err != nil {
		return nil, nil, err
	}
	return fresh.Raw, fresh.Credential, fresh.Use()
}
