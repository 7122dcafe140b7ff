package home

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/secgossip/secgossip/pki"
)

// Files are what of a node is no secret and decides whom it believes and who it is.
type Files struct {
	Bundle      []byte
	Certificate []byte // with the issuer's
	Credential  []byte
}

// ReadFiles reads them. Nothing in them is checked yet.
func (h Home) ReadFiles() (Files, error) {
	var f Files
	var err error
	if f.Bundle, err = h.readBundle(); err != nil {
		return Files{}, err
	}
	if f.Certificate, err = h.readOwn(fileNodeCert); err != nil {
		return Files{}, err
	}
	f.Credential, err = h.readOwn(fileNodeCred)
	return f, err
}

// maxIssued bounds what is read of a certificate with its issuer's, or of a credential,
// in bytes. They have less than 3 KiB.
const maxIssued = 16 << 10

// readOwn reads a file of node/ that says who we are. It must be root's or our own, and
// nobody else's to write: the user to whom root hands node/ over may not choose which of
// the cluster's nodes this host is.
func (h Home) readOwn(name string) ([]byte, error) {
	path := h.path(name)
	// Before it is opened: a pipe by this name must not make us wait.
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		if info, err = os.Stat(path); err == nil && !info.Mode().IsRegular() {
			err = errors.New("it is not a regular file")
		}
	}
	if err != nil {
		return nil, h.explain(name, err)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, h.explain(name, err)
	}
	defer file.Close()
	if info, err = file.Stat(); err == nil {
		err = checkTrusted(path, info, os.Geteuid())
	}
	if err != nil {
		return nil, h.explain(name, err)
	}
	return io.ReadAll(io.LimitReader(file, maxIssued))
}

// Public is what can be known of a home's node without a key.
type Public struct {
	Trust *pki.Trust
	Name  pki.Name // of the node
}

// LoadPublic reads and checks what of this home's node is no secret.
func (h Home) LoadPublic(now time.Time) (*Public, error) {
	files, err := h.ReadFiles()
	if err != nil {
		return nil, err
	}
	trust, err := h.parseBundle(files.Bundle)
	if err != nil {
		return nil, err
	}
	name, err := h.checkPublic(files, trust, now)
	if err != nil {
		return nil, err
	}
	return &Public{Trust: trust, Name: name}, nil
}

// Reread checks the files as they are now, which must be of the same cluster and node.
// What it returns brings them into use; until then nothing has changed.
func (p *Public) Reread(h Home, files Files, now time.Time) (use func() error, err error) {
	trust, err := h.parseBundle(files.Bundle)
	if err != nil {
		return nil, err
	}
	name, err := h.checkPublic(files, trust, now)
	if err != nil {
		return nil, err
	}
	if name != p.Name {
		return nil, h.refused(fileNodeCred, fmt.Errorf("%w: of node %q, and this is %q", pki.ErrMismatch, name, p.Name))
	}
	return func() error {
		if err := p.Trust.Replace(files.Bundle); err != nil {
			return h.refused(fileBundle, err)
		}
		for _, issuer := range trust.Issuers() {
			// Verified against these very roots. One too many is told by the events whose
			// tokens then do not verify.
			_, _ = p.Trust.AddIssuer(issuer, now)
		}
		return nil
	}, nil
}

// checkPublic checks certificate and credential, and returns whose they are. trust
// learns the issuer beside the certificate.
func (h Home) checkPublic(files Files, trust *pki.Trust, now time.Time) (pki.Name, error) {
	certs, err := pki.ParseCertificates(files.Certificate)
	if err != nil {
		return "", h.damaged(fileNodeCert, err)
	}
	own := new(tls.Certificate)
	for _, cert := range certs {
		own.Certificate = append(own.Certificate, cert.Raw)
	}
	credential, err := h.checkNode(trust, own, files.Credential, now)
	if err != nil {
		return "", err
	}
	return credential.Name, nil
}
