package reply

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"

	"github.com/secgossip/secgossip/internal/cose"
)

var (
	key     = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	cluster = [32]byte{1}
	good    = Reply{Query: [16]byte{7}, Node: "web-1", Kind: Answer, Payload: []byte("0.7")}
)

func signed(t testing.TB, r Reply) []byte {
	t.Helper()
	raw, err := Sign(key, cluster, r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestAReplyIsTheNodesWordAndNobodyElses(t *testing.T) {
	s, err := Parse(signed(t, good))
	if err != nil || s.Node != "web-1" || s.Kind != Answer || string(s.Payload) != "0.7" || s.Query != good.Query {
		t.Fatalf("got %+v, %v", s.Reply, err)
	}
	public := key.Public().(ed25519.PublicKey)
	if err := s.Verify(public, cluster); err != nil {
		t.Errorf("the node's own key: %v", err)
	}
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32)).Public().(ed25519.PublicKey)
	if err := s.Verify(other, cluster); !errors.Is(err, cose.ErrSignature) {
		t.Errorf("another node's key: got %v, want ErrSignature", err)
	}
	if err := s.Verify(public, [32]byte{2}); !errors.Is(err, cose.ErrSignature) {
		t.Errorf("in another cluster: got %v, want ErrSignature", err)
	}
}

func TestALargestReplyFits(t *testing.T) {
	r := Reply{Node: strings.Repeat("n", 63), Kind: Answer, Payload: make([]byte, MaxPayload)}
	raw := signed(t, r)
	if _, err := Parse(raw); err != nil {
		t.Errorf("%d bytes: %v", len(raw), err)
	}
	r.Payload = make([]byte, MaxPayload+1)
	if _, err := Sign(key, cluster, r); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one byte more: got %v, want ErrTooLarge", err)
	}
}

func TestRepliesOutsideTheProfileAreRefused(t *testing.T) {
	for name, b := range map[string]body{
		"no node":              {Kind: 1},
		"a long name":          {Node: strings.Repeat("n", 64), Kind: 1},
		"no kind":              {Node: "n"},
		"an unknown kind":      {Node: "n", Kind: 4},
		"an ack with payload":  {Node: "n", Kind: 1, Payload: []byte("x")},
		"nothing with payload": {Node: "n", Kind: 3, Payload: []byte("x")},
	} {
		payload, err := cose.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := cose.Sign(key, cose.Context(label, cluster), payload)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Parse(raw); err == nil {
			t.Errorf("%s: accepted as %+v", name, got.Reply)
		}
	}
	raw := signed(t, good)
	for i := range raw {
		if _, err := Parse(raw[:i]); err == nil {
			t.Errorf("accepted when cut off at %d", i)
		}
		flipped := bytes.Clone(raw)
		flipped[i] ^= 1
		if s, err := Parse(flipped); err == nil && s.Verify(key.Public().(ed25519.PublicKey), cluster) == nil {
			t.Errorf("accepted with byte %d flipped", i)
		}
	}
}

func FuzzReplyHasOneEncoding(f *testing.F) {
	f.Add(signed(f, good))
	f.Add(signed(f, Reply{Node: "n", Kind: Ack}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := Parse(raw)
		if err != nil {
			return
		}
		again, err := cose.Marshal(body{Query: s.Query, Node: s.Node, Kind: uint8(s.Kind), Payload: s.Payload})
		if err != nil || !bytes.Equal(again, s.message.Payload) {
			t.Errorf("second encoding accepted: %x", raw)
		}
	})
}
