package keyring

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"testing"
)

func TestMACIsHMAC(t *testing.T) {
	raw := bytes.Repeat([]byte{7}, SecretSize)
	secret, err := SecretFrom(bytes.Clone(raw))
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{nil, []byte("knock"), make([]byte, 300)} {
		h := hmac.New(sha256.New, raw)
		h.Write(data)
		got, err := secret.MAC(data)
		if err != nil || !bytes.Equal(got[:], h.Sum(nil)) {
			t.Errorf("%d bytes: got %x, %v, want %x", len(data), got, err, h.Sum(nil))
		}
	}
	secret.Destroy()
	if _, err := secret.MAC(nil); !errors.Is(err, ErrDestroyed) {
		t.Errorf("after Destroy: got %v, want ErrDestroyed", err)
	}
}
