package keyring

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// RFC 8410, section 10.3: the same bytes as openssl writes.
const rfc8410Key = `-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
`

const rfc8410Public = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"

func TestClientKeyFileIsOrdinaryPEM(t *testing.T) {
	path := filepath.Join(t.TempDir(), "client.key")
	if err := os.WriteFile(path, []byte(rfc8410Key), 0o600); err != nil {
		t.Fatal(err)
	}
	k := must(ReadClientKeyFile(path))(t)
	defer k.Destroy()
	if got := hex.EncodeToString(k.Public().(ed25519.PublicKey)); got != rfc8410Public {
		t.Errorf("public key: got %s, want %s", got, rfc8410Public)
	}
	again := filepath.Join(t.TempDir(), "client.key")
	if err := WriteClientKeyFile(again, k); err != nil {
		t.Fatal(err)
	}
	if got := string(must(os.ReadFile(again))(t)); got != rfc8410Key {
		t.Errorf("written again: got %q, want %q", got, rfc8410Key)
	}
}

func TestPEMIsWhatTheStandardLibraryReads(t *testing.T) {
	signing, agreement := must(NewSigningKey())(t), must(NewAgreementKey())(t)
	defer signing.Destroy()
	defer agreement.Destroy()
	text := must(signing.pem())(t)
	defer text.destroy()
	block, _ := pem.Decode(text.buffer.Bytes())
	if got := must(x509.ParsePKCS8PrivateKey(block.Bytes))(t).(ed25519.PrivateKey).Public(); !signing.public.Equal(got) {
		t.Errorf("signing key: got %x, want %x", got, signing.public)
	}
	text2 := must(agreement.pem())(t)
	defer text2.destroy()
	block, _ = pem.Decode(text2.buffer.Bytes())
	if got := must(x509.ParsePKCS8PrivateKey(block.Bytes))(t).(*ecdh.PrivateKey).PublicKey().Bytes(); !bytes.Equal(got, agreement.public[:]) {
		t.Errorf("agreement key: got %x, want %x", got, agreement.public)
	}
}

func TestOperatorsOwnLineEndsAreAccepted(t *testing.T) {
	for name, text := range map[string]string{
		"CRLF":          strings.ReplaceAll(rfc8410Key, "\n", "\r\n"),
		"no last line":  strings.TrimSuffix(rfc8410Key, "\n"),
		"a remark":      "key of the operator\n" + rfc8410Key,
		"a blank line":  rfc8410Key + "\n",
		"shorter lines": strings.Replace(rfc8410Key, "IENTu", "IENT\nu", 1),
	} {
		k, err := parseSigningKey([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		k.Destroy()
	}
}

func TestWrongKeyFilesAreRefusedWithoutAWordOfThem(t *testing.T) {
	der := func(key any) []byte { return must(x509.MarshalPKCS8PrivateKey(key))(t) }
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	ec := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	x := must(ecdh.X25519().GenerateKey(rand.Reader))(t)
	block, _ := pem.Decode([]byte(rfc8410Key))
	withHeader := &pem.Block{Type: pemType, Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: block.Bytes}
	longer := append(bytes.Clone(block.Bytes), 0)
	// RFC 8410, section 10.3, the form with attributes and public key.
	withPublic := must(hex.DecodeString("3072020101300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842a01f301d060a2a864886f70d01090914310f0c0d437572646c65204368616972738121001" +
		"9bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"))(t)

	for name, text := range map[string]string{
		"empty line":           "\n",
		"garbage":              "not a key at all, but hunter2 all the same",
		"P-256":                encode(pemType, der(ec)),
		"X25519":               encode(pemType, der(x)),
		"SEC 1":                encode("EC PRIVATE KEY", der(ec)),
		"encrypted":            encode("ENCRYPTED PRIVATE KEY", block.Bytes),
		"public":               encode("PUBLIC KEY", block.Bytes),
		"certificate":          encode("CERTIFICATE", block.Bytes),
		"with PEM headers":     string(pem.EncodeToMemory(withHeader)),
		"two keys":             rfc8410Key + rfc8410Key,
		"key and text":         rfc8410Key + "hunter2",
		"truncated DER":        encode(pemType, block.Bytes[:47]),
		"trailing DER":         encode(pemType, longer),
		"with public key":      encode(pemType, withPublic),
		"empty DER":            encode(pemType, nil),
		"sealed, not unsealed": "age-encryption.org/v1\n-> scrypt",
	} {
		path := filepath.Join(t.TempDir(), "client.key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := ReadClientKeyFile(path)
		if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, %v, want ErrForeign and the path", name, k, err)
			continue
		}
		for _, word := range []string{"hunter2", "MC4C", "d4ee", "scrypt", "CERTIFICATE"} {
			if strings.Contains(err.Error(), word) {
				t.Errorf("%s: the error echoes the file: %v", name, err)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "client.key")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadClientKeyFile(path); !errors.Is(err, ErrDamaged) {
		t.Errorf("empty file: got %v, want ErrDamaged", err)
	}
}

func TestEveryTruncationOfAClientKeyIsRefused(t *testing.T) {
	text := strings.TrimSuffix(rfc8410Key, "\n") // the last line end may be missing
	for n := range len(text) {
		if k, err := parseSigningKey([]byte(text[:n])); err == nil {
			t.Errorf("%d of %d bytes: accepted as %v", n, len(text), k)
		}
	}
}

func TestStoredKeysComeBack(t *testing.T) {
	dir := t.TempDir()
	signing, agreement := must(NewSigningKey())(t), must(NewAgreementKey())(t)
	defer signing.Destroy()
	defer agreement.Destroy()
	for name, locker := range map[string]*Locker{"machine": newTestMachine(t), "root": newTestPassphrase(t, "correct horse")} {
		signingPath, agreementPath := filepath.Join(dir, name+"-signing"), filepath.Join(dir, name+"-agreement")
		if err := errors.Join(StoreSigningKey(signingPath, locker, signing), StoreAgreementKey(agreementPath, locker, agreement)); err != nil {
			t.Fatal(err)
		}
		gotSigning, gotAgreement := must(LoadSigningKey(signingPath, locker))(t), must(LoadAgreementKey(agreementPath, locker))(t)
		if !gotSigning.public.Equal(signing.Public()) || gotAgreement.Public() != agreement.Public() {
			t.Errorf("%s: another key came back", name)
		}
		if got := must(gotSigning.Sign(nil, []byte("m"), nil))(t); !bytes.Equal(got, must(signing.Sign(nil, []byte("m"), nil))(t)) {
			t.Errorf("%s: the key that came back signs differently", name)
		}
		gotSigning.Destroy()
		gotAgreement.Destroy()

		if k, err := LoadSigningKey(agreementPath, locker); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), agreementPath) {
			t.Errorf("%s: an agreement key as signing key: got %v, %v, want ErrForeign and the path", name, k, err)
		}
		if k, err := LoadAgreementKey(signingPath, locker); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: a signing key as agreement key: got %v, %v, want ErrForeign", name, k, err)
		}
		if f, err := OpenFile(signingPath, locker); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: a signing key as keyring: got %v, %v, want ErrForeign", name, f, err)
		}
	}
}

// What the parser accepts, writing it gives back.
func FuzzKeyReadsAsWritten(f *testing.F) {
	f.Add([]byte(rfc8410Key))
	f.Add([]byte(rfc8410Key[:60]))
	f.Add([]byte(strings.ReplaceAll(rfc8410Key, "\n", "\r\n")))
	f.Fuzz(func(t *testing.T, text []byte) {
		var seed, again [seedSize]byte
		if decodePEM(seed[:], text, signingPrefix) != nil {
			return
		}
		memory := must(lockedCopy(seed[:]))(t)
		defer memory.destroy()
		written := must(encodePEM(memory, signingPrefix))(t)
		defer written.destroy()
		if err := decodePEM(again[:], written.buffer.Bytes(), signingPrefix); err != nil || seed != again {
			t.Errorf("got %x, %v, want %x", again, err, seed)
		}
	})
}
