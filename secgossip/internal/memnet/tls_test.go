package memnet

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// mustTLS makes two configurations that trust one self-signed certificate, at
// the bubble's time.
func mustTLS(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"b"},
		NotBefore:    time.Now(),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(nil, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}},
		&tls.Config{RootCAs: roots, ServerName: "b"}
}

func TestTLSRunsOverAStream(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		n.Delay(5*time.Millisecond, 50*time.Millisecond)
		serverConfig, clientConfig := mustTLS(t)
		client, server := tls.Client(a, clientConfig), tls.Server(b, serverConfig)
		echoed := make(chan error)
		go func() {
			_, err := io.Copy(server, server)
			echoed <- errors.Join(err, server.Close())
		}()
		// Before two goroutines use the client: see the package comment.
		if err := client.Handshake(); err != nil {
			t.Fatal(err)
		}
		sent := bytes.Repeat([]byte("secgossip"), 50_000)
		go func() {
			client.Write(sent)
			client.CloseWrite()
		}()
		got, err := io.ReadAll(client)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("got %d bytes back, %v, want the %d that were sent", len(got), err, len(sent))
		}
		if err := <-echoed; err != nil {
			t.Errorf("server: %v", err)
		}
	})
}

func TestTLSHandshakeIntoAPartitionEndsAtItsDeadline(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		_, clientConfig := mustTLS(t)
		n.Partition([]netip.Addr{addrA})
		client := tls.Client(a, clientConfig)
		client.SetDeadline(time.Now().Add(time.Second))
		if err := client.Handshake(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want %v", err, os.ErrDeadlineExceeded)
		}
	})
}

func TestTLSSeesACutStream(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		serverConfig, clientConfig := mustTLS(t)
		client, server := tls.Client(a, clientConfig), tls.Server(b, serverConfig)
		go server.Handshake()
		if err := client.Handshake(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		n.CutStreams(addrA, addrB)
		wantError(t, "client", readError(client), syscall.ECONNRESET)
		wantError(t, "server", readError(server), syscall.ECONNRESET)
	})
}
