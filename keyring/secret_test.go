package keyring

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// RFC 5869, appendix A.1 and A.3, and the 82 bytes of A.2's lengths against the
// standard library below.
func TestDeriveIsHKDF(t *testing.T) {
	for _, test := range []struct{ name, input, salt, info, want string }{
		{"RFC 5869 A.1", strings.Repeat("0b", 22), "000102030405060708090a0b0c", "f0f1f2f3f4f5f6f7f8f9",
			"3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"},
		{"RFC 5869 A.3", strings.Repeat("0b", 22), "", "",
			"8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"},
	} {
		input, salt, info := must(hex.DecodeString(test.input))(t), must(hex.DecodeString(test.salt))(t), must(hex.DecodeString(test.info))(t)
		if got := hex.EncodeToString(derive(salt, info, 42, input[:10], input[10:])); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	bytesOf := func(n int) []byte {
		raw := make([]byte, n)
		for i := range raw {
			raw[i] = byte(random.Uint32())
		}
		return raw
	}
	for range 300 {
		salt, info := bytesOf(random.IntN(sha256.BlockSize+1)), bytesOf(random.IntN(200))
		a, b, size := bytesOf(random.IntN(150)), bytesOf(random.IntN(150)), 1+random.IntN(300)
		want := must(hkdf.Key(sha256.New, append(bytes.Clone(a), b...), salt, string(info), size))(t)
		if got := derive(salt, info, size, a, b); !bytes.Equal(got, want) {
			t.Fatalf("salt %x info %x input %x %x size %d: got %x, want %x", salt, info, a, b, size, got, want)
		}
	}
	if got, want := derive(nil, nil, maxDerived, []byte{1}), must(hkdf.Key(sha256.New, []byte{1}, nil, "", maxDerived))(t); !bytes.Equal(got, want) {
		t.Errorf("%d bytes differ from crypto/hkdf's", maxDerived)
	}
}

func TestDerivationWipesItsState(t *testing.T) {
	k := &kdf{inner: sha256.New(), outer: sha256.New()}
	k.mac([]byte("key"), []byte("secret"))
	k.key = k.sum
	k.wipe()
	if k.pad != [sha256.BlockSize]byte{} || k.key != [sha256.Size]byte{} || k.sum != [sha256.Size]byte{} {
		t.Errorf("got %x %x %x, want zeros", k.pad, k.key, k.sum)
	}
}

func TestSecretDerivesFromPrefixAndItself(t *testing.T) {
	raw := bytes.Repeat([]byte{9}, SecretSize)
	s := newTestSecret(t, 9)
	for _, prefix := range [][]byte{nil, {}, {1, 2, 3}, bytes.Repeat([]byte{5}, 32), bytes.Repeat([]byte{5}, 1000)} {
		want := must(hkdf.Key(sha256.New, append(bytes.Clone(prefix), raw...), nil, "purpose", 48))(t)
		if got := must(s.Derive(prefix, []byte("purpose"), 48))(t); !bytes.Equal(got, want) {
			t.Errorf("prefix of %d bytes: got %x, want %x", len(prefix), got, want)
		}
	}
}

func TestDeriveRefusesImpossibleSizes(t *testing.T) {
	s := newTestSecret(t, 1)
	for _, size := range []int{-1, 0, maxDerived + 1, math.MaxInt} {
		if key, err := s.Derive(nil, nil, size); !errors.Is(err, ErrSize) || key != nil {
			t.Errorf("%d bytes: got %d bytes and %v, want ErrSize", size, len(key), err)
		}
	}
}

func TestSecretFromTakesOver(t *testing.T) {
	raw := bytes.Repeat([]byte{7}, SecretSize)
	s := must(SecretFrom(raw))(t)
	defer s.Destroy()
	if !bytes.Equal(raw, make([]byte, SecretSize)) {
		t.Error("the caller's bytes were not wiped")
	}
	for _, size := range []int{0, 1, SecretSize - 1, SecretSize + 1, 64} {
		raw := bytes.Repeat([]byte{7}, size)
		if _, err := SecretFrom(raw); !errors.Is(err, ErrSize) {
			t.Errorf("%d bytes: got %v, want ErrSize", size, err)
		}
		if !bytes.Equal(raw, make([]byte, size)) {
			t.Errorf("%d bytes: refused, and not wiped", size)
		}
	}
}

func TestCommitmentSaysWhichSecret(t *testing.T) {
	a, again, b := newTestSecret(t, 1), newTestSecret(t, 1), newTestSecret(t, 2)
	if a.Commitment() != again.Commitment() || a.Fingerprint() != again.Fingerprint() {
		t.Error("one secret, two commitments or fingerprints")
	}
	if a.Commitment() == b.Commitment() || a.Fingerprint() == b.Fingerprint() {
		t.Error("two secrets, one commitment or fingerprint")
	}
	// Others compute it from the secret they were sent: it must never change.
	commitment := a.Commitment()
	const want = "e8a6d9cc2af148afcda2f62289a452e4c47627b7027295e8926e20fc519fb25c"
	if got := hex.EncodeToString(commitment[:]); got != want {
		t.Errorf("commitment of 32 times 0x01: got %s, want %s", got, want)
	}
	if got := a.Fingerprint(); got != "819a362c" {
		t.Errorf("fingerprint of 32 times 0x01: got %s, want %s", got, "819a362c")
	}
	if (*Secret)(nil).Commitment() != [32]byte{} {
		t.Error("the commitment of no secret is not zero")
	}
	x, y := must(NewSecret())(t), must(NewSecret())(t)
	defer x.Destroy()
	defer y.Destroy()
	if x.Commitment() == y.Commitment() {
		t.Error("NewSecret made the same secret twice")
	}
}

func TestWriteToWritesTheSecretOnce(t *testing.T) {
	s := newTestSecret(t, 3)
	var out bytes.Buffer
	n, err := s.WriteTo(&out)
	if n != SecretSize || err != nil || !bytes.Equal(out.Bytes(), bytes.Repeat([]byte{3}, SecretSize)) {
		t.Errorf("got %d bytes written, %v, %x", n, err, out.Bytes())
	}
	var kept keeper
	must(s.WriteTo(&kept))(t)
	if !bytes.Equal(kept.last, make([]byte, SecretSize)) {
		t.Error("a writer that keeps what it was given still has the secret")
	}
	broken := errors.New("broken")
	if n, err := s.WriteTo(failing{broken}); !errors.Is(err, broken) || n != 5 {
		t.Errorf("broken writer: got %d, %v", n, err)
	}
}

type keeper struct{ last []byte }

func (k *keeper) Write(p []byte) (int, error) { k.last = p; return len(p), nil }

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 5, f.err }

func TestDestroyedSecretDerivesNothing(t *testing.T) {
	destroyed := newTestSecret(t, 4)
	before := destroyed.Commitment()
	destroyed.Destroy()
	destroyed.Destroy()
	for name, s := range map[string]*Secret{"destroyed": destroyed, "nil": nil, "zero": {}} {
		if key, err := s.Derive(nil, nil, 32); !errors.Is(err, ErrDestroyed) || key != nil {
			t.Errorf("%s: Derive: got %x, %v, want ErrDestroyed", name, key, err)
		}
		var out bytes.Buffer
		if _, err := s.WriteTo(&out); !errors.Is(err, ErrDestroyed) || out.Len() != 0 {
			t.Errorf("%s: WriteTo: got %d bytes, %v, want ErrDestroyed", name, out.Len(), err)
		}
		s.Destroy()
	}
	if destroyed.Commitment() != before {
		t.Error("the commitment changed with Destroy")
	}
}

// Touching destroyed memory would end this process, not fail this test.
func TestDestroyWhileOthersDeriveNeverFaults(t *testing.T) {
	for range 50 {
		s := must(NewSecret())(t)
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				for {
					if _, err := s.Derive(nil, []byte("x"), 32); err != nil {
						if !errors.Is(err, ErrDestroyed) {
							t.Errorf("got %v, want ErrDestroyed", err)
						}
						return
					}
				}
			})
		}
		s.Destroy()
		group.Wait()
	}
}

// A stream that hangs must not hold up the retirement of the epoch it carries.
func TestDestroyDoesNotWaitForABlockedWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(NewSecret())(t)
		writer := blocked{make(chan struct{}), make(chan struct{})}
		go s.WriteTo(writer)
		<-writer.entered
		s.Destroy()
		close(writer.released)
	})
}

type blocked struct{ entered, released chan struct{} }

func (b blocked) Write(p []byte) (int, error) {
	close(b.entered)
	<-b.released
	return len(p), nil
}

func TestKeysWorkInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := newTestKeyring(t, 3)
		key := must(NewSigningKey())(t)
		defer key.Destroy()
		done := make(chan error)
		go func() {
			_, err := key.Sign(nil, []byte("message"), nil)
			done <- errors.Join(err, ring.Remove(1))
		}()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
