package wire

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/secgossip/secgossip/internal/cose"
)

func TestMarkHoldsForItsEventOriginAndClusterOnly(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	public := [32]byte(key.Public().(ed25519.PublicKey))
	cluster := [32]byte{1}
	mark := Mark{Origin: Origin{Node: OriginHint(public), Start: 7}, Sequence: 3}
	raw := must(t)(MarkEvent(key, cluster, mark, []byte("event")))
	verify := func(raw []byte, cluster [32]byte) error {
		m, err := ParseMarkedEvent(raw)
		if err != nil {
			return err
		}
		return m.Verify(public, cluster)
	}
	if err := verify(raw, cluster); err != nil {
		t.Fatalf("genuine: %v", err)
	}
	if err := verify(raw, [32]byte{2}); !errors.Is(err, cose.ErrSignature) {
		t.Errorf("another cluster: got %v, want ErrSignature", err)
	}
	for bit := range 8 * len(raw) {
		altered := bytes.Clone(raw)
		altered[bit/8] ^= 1 << (bit % 8)
		if verify(altered, cluster) == nil {
			t.Errorf("bit %d flipped: accepted", bit)
		}
	}
	for n := range len(raw) {
		if verify(raw[:n], cluster) == nil {
			t.Errorf("cut to %d bytes: accepted", n)
		}
	}
}

func TestLargestMarkedEventFitsADatagram(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	raw := must(t)(MarkEvent(key, [32]byte{}, Mark{Sequence: 1}, make([]byte, MaxEventRaw)))
	if _, err := BatchEvents.Append(nil, [][]byte{raw}); err != nil {
		t.Error(err)
	}
	for _, event := range [][]byte{nil, make([]byte, MaxEventRaw+1)} {
		if _, err := MarkEvent(key, [32]byte{}, Mark{Sequence: 1}, event); err == nil {
			t.Errorf("an event of %d bytes was marked", len(event))
		}
	}
}
