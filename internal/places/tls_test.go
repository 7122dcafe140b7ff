package places

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
)

// serverConfig is that of a listener with a certificate of its own making.
func serverConfig(t testing.TB) *tls.Config {
	t.Helper()
	public, key, _ := ed25519.GenerateKey(nil)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// clientHello is the first flight of a handshake.
func clientHello(t testing.TB) []byte {
	t.Helper()
	here, there := net.Pipe()
	defer there.Close()
	go tls.Client(here, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}).Handshake()
	buffer := make([]byte, 4096)
	n, err := there.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return buffer[:n]
}
