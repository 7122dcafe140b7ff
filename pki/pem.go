package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

const pemCertificate = "CERTIFICATE"

// Limits of a file of certificates. 16 certificates of 2 KiB are 44 KiB in
// base64; the longest file we write holds two.
const (
	maxCertificates = 16
	maxPEM          = 64 << 10
)

// EncodeCertificates writes certificates, each given as DER, as PEM.
func EncodeCertificates(certs [][]byte) []byte {
	var out []byte
	for _, raw := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: raw})...)
	}
	return out
}

// ParseCertificates reads from 1 to 16 certificates from exactly the text that
// EncodeCertificates writes. PEM readers skip what they do not understand, so a
// file that means one thing to us could mean another to the next program: a
// comment, a header, a private key, other line ends or trailing bytes are
// errors. It believes nothing about the certificates.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("%d bytes of certificates, the limit is %d", len(text), maxPEM)
	}
	var certs []*x509.Certificate
	for rest := text; len(rest) > 0; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		switch {
		case block == nil && len(certs) == 0:
			return nil, errors.New("not a PEM file")
		case block == nil:
			return nil, fmt.Errorf("%d bytes behind the last certificate are not PEM", len(rest))
		case block.Type != pemCertificate:
			return nil, fmt.Errorf("a PEM block is %q, want only %q", block.Type, pemCertificate)
		case len(certs) == maxCertificates:
			return nil, fmt.Errorf("more than %d certificates", maxCertificates)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate")
	}
	if !bytes.Equal(text, encodeParsed(certs)) {
		return nil, errors.New("not plain PEM: there is text, a header or another line end beside the certificates")
	}
	return certs, nil
}

func encodeParsed(certs []*x509.Certificate) []byte {
	raw := make([][]byte, 0, len(certs))
	for _, cert := range certs {
		raw = append(raw, cert.Raw)
	}
	return EncodeCertificates(raw)
}
