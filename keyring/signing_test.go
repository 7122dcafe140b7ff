package keyring

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"math/big"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

func testSigningKey(t testing.TB, seed []byte) *SigningKey {
	t.Helper()
	k := must(newSigningKey(func(raw []byte) error { copy(raw, seed); return nil }))(t)
	t.Cleanup(k.Destroy)
	return k
}

// RFC 8032, section 7.1, test 3.
func TestSigningKeyIsEd25519(t *testing.T) {
	seed := must(hex.DecodeString("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"))(t)
	const wantPublic = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
	const want = "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
	k := testSigningKey(t, seed)
	if got := hex.EncodeToString(k.Public().(ed25519.PublicKey)); got != wantPublic {
		t.Errorf("public key: got %s, want %s", got, wantPublic)
	}
	for name, opts := range map[string]crypto.SignerOpts{"no options": nil, "no hash": crypto.Hash(0)} {
		signature, err := k.Sign(rand.Reader, []byte{0xaf, 0x82}, opts)
		if got := hex.EncodeToString(signature); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, want)
		}
	}
}

func TestSigningKeyRefusesOtherVariants(t *testing.T) {
	k := testSigningKey(t, make([]byte, 32))
	for name, opts := range map[string]crypto.SignerOpts{
		"SHA-256":    crypto.SHA256,
		"Ed25519ph":  crypto.SHA512,
		"Ed25519ctx": &ed25519.Options{Context: "x"},
		"options":    &ed25519.Options{Hash: crypto.SHA512},
	} {
		if signature, err := k.Sign(nil, make([]byte, 64), opts); err == nil {
			t.Errorf("%s: got %x, want an error", name, signature)
		}
	}
}

func TestDestroyedKeysDoNothing(t *testing.T) {
	signing, agreement := must(NewSigningKey())(t), must(NewAgreementKey())(t)
	public := signing.Public()
	for range 2 {
		signing.Destroy()
		agreement.Destroy()
	}
	if signature, err := signing.Sign(nil, nil, nil); !errors.Is(err, ErrDestroyed) || signature != nil {
		t.Errorf("Sign: got %x, %v, want ErrDestroyed", signature, err)
	}
	if shared, err := agreement.Agree(basePoint); !errors.Is(err, ErrDestroyed) || shared != nil {
		t.Errorf("Agree: got %x, %v, want ErrDestroyed", shared, err)
	}
	if !signing.Public().(ed25519.PublicKey).Equal(public) {
		t.Error("the public key changed with Destroy")
	}
	locker, path := newTestMachine(t), t.TempDir()+"/key"
	if err := StoreSigningKey(path, locker, signing); !errors.Is(err, ErrDestroyed) {
		t.Errorf("StoreSigningKey: got %v, want ErrDestroyed", err)
	}
	if err := StoreAgreementKey(path, locker, agreement); !errors.Is(err, ErrDestroyed) {
		t.Errorf("StoreAgreementKey: got %v, want ErrDestroyed", err)
	}
	if err := WriteClientKeyFile(path, signing); !errors.Is(err, ErrDestroyed) {
		t.Errorf("WriteClientKeyFile: got %v, want ErrDestroyed", err)
	}
	wantFiles(t, path)
	(*SigningKey)(nil).Destroy()
	(*AgreementKey)(nil).Destroy()
}

// The caller may do with a public key what it likes.
func TestPublicKeyIsTheCallersOwn(t *testing.T) {
	k := testSigningKey(t, make([]byte, 32))
	clear(k.Public().(ed25519.PublicKey))
	if bytes.Equal(k.Public().(ed25519.PublicKey), make([]byte, 32)) {
		t.Error("a caller changed the key's own copy")
	}
}

// crypto/ed25519 keeps a table of keys by address. Signing on many goroutines
// with collections in between is what would upset it.
func TestSigningIsSafeForConcurrentUse(t *testing.T) {
	k := must(NewSigningKey())(t)
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for j := range 100 {
				message := []byte{byte(i), byte(j)}
				signature, err := k.Sign(nil, message, crypto.Hash(0))
				if errors.Is(err, ErrDestroyed) {
					return
				}
				if err != nil || !ed25519.Verify(k.Public().(ed25519.PublicKey), message, signature) {
					t.Errorf("got %x, %v: does not verify", signature, err)
				}
				if j == 50 {
					runtime.GC()
				}
			}
			k.Destroy()
		})
	}
	group.Wait()
}

// The two callers that matter: certificates and TLS 1.3.
func TestSigningKeyServesCertificatesAndTLS(t *testing.T) {
	k := must(NewSigningKey())(t)
	defer k.Destroy()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "node"}, DNSNames: []string{"node"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	raw := must(x509.CreateCertificate(rand.Reader, template, template, k.Public(), k))(t)
	pool := x509.NewCertPool()
	pool.AddCert(must(x509.ParseCertificate(raw))(t))

	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	server := tls.Server(near, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: k}}})
	client := tls.Client(far, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, ServerName: "node"})
	done := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte("x"))
		done <- err
	}()
	if _, err := client.Read(make([]byte, 1)); err != nil {
		t.Errorf("client: %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("server: %v", err)
	}
}
