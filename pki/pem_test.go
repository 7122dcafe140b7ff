package pki

import (
	"bytes"
	"encoding/pem"
	"strings"
	"testing"
)

func TestCertificatesSurvivePEM(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	for n := 1; n <= maxCertificates; n++ {
		var in [][]byte
		for range n {
			in = append(in, c.rootDER)
		}
		certs, err := ParseCertificates(EncodeCertificates(in))
		if err != nil || len(certs) != n {
			t.Errorf("%d certificates: got %d, %v", n, len(certs), err)
		}
	}
}

func TestOnlyPlainPEMIsRead(t *testing.T) {
	c := newCluster(t, "prod", seedRoot)
	good := EncodeCertificates([][]byte{c.rootDER, c.issuerDER})
	block := func(b pem.Block) []byte { return pem.EncodeToMemory(&b) }
	huge := rootRecipe(t)
	huge.extra(t, false, make([]byte, maxPEM*3/4), 1, 2, 3, 4)
	var tooMany [][]byte
	for range maxCertificates + 1 {
		tooMany = append(tooMany, c.rootDER)
	}
	for name, text := range map[string][]byte{
		"nothing":             nil,
		"white space":         []byte("\n"),
		"DER":                 c.rootDER,
		"text before":         append([]byte("root of prod\n"), good...),
		"text behind":         append(bytes.Clone(good), "trailing"...),
		"a newline behind":    append(bytes.Clone(good), '\n'),
		"a zero byte behind":  append(bytes.Clone(good), 0),
		"no last newline":     good[:len(good)-1],
		"other line ends":     bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")),
		"an empty line":       bytes.Replace(good, []byte("-----\n-----"), []byte("-----\n\n-----"), 1),
		"one long line":       []byte("-----BEGIN CERTIFICATE-----\n" + strings.ReplaceAll(string(good), "\n", "")),
		"a header":            block(pem.Block{Type: pemCertificate, Headers: map[string]string{"Proc-Type": "4"}, Bytes: c.rootDER}),
		"a private key":       append(bytes.Clone(good), block(pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}})...),
		"trusted certificate": block(pem.Block{Type: "TRUSTED CERTIFICATE", Bytes: c.rootDER}),
		"no certificate":      block(pem.Block{Type: pemCertificate, Bytes: []byte("not DER")}),
		"empty block":         block(pem.Block{Type: pemCertificate}),
		"DER with a tail":     block(pem.Block{Type: pemCertificate, Bytes: append(bytes.Clone(c.rootDER), 0)}),
		"too many":            EncodeCertificates(tooMany),
		"too long":            EncodeCertificates([][]byte{huge.bake(t)}),
	} {
		if certs, err := ParseCertificates(text); err == nil {
			t.Errorf("%s: got %d certificates, want an error", name, len(certs))
		}
	}
	for n := range good {
		// Cut between the two certificates there is one whole file left.
		if n == len(EncodeCertificates([][]byte{c.rootDER})) {
			continue
		}
		if _, err := ParseCertificates(good[:n]); err == nil {
			t.Errorf("%d of %d bytes: accepted", n, len(good))
		}
	}
}

func FuzzParseCertificatesHasOneEncoding(f *testing.F) {
	c := newCluster(f, "prod", seedRoot)
	f.Add(EncodeCertificates([][]byte{c.rootDER}))
	f.Add(EncodeCertificates([][]byte{c.rootDER, c.issuerDER}))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		certs, err := ParseCertificates(text)
		if err == nil && !bytes.Equal(encodeParsed(certs), text) {
			t.Errorf("a second encoding is accepted: %q", text)
		}
		if trust, err := ParseBundle(text); err == nil {
			if again, err := ParseBundle(encodeParsed(trust.roots.certs)); err != nil || again.Cluster() != trust.Cluster() {
				t.Errorf("a bundle does not read back: %v", err)
			}
		}
	})
}
