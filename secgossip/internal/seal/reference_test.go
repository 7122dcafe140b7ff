package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"testing"
)

// A reference is the other end of the protocol, written from the package comments
// of seal and wire alone: it shares no code with them, and it can be told to do
// what ours never would.
type reference struct {
	shared, secret   [32]byte
	cluster          [32]byte
	epoch            uint64
	sender, receiver Party
}

func (r reference) doorKey() []byte {
	info := "secgossip/1 door" + string(r.cluster[:]) + string(binary.BigEndian.AppendUint64(nil, r.epoch)) + string(r.receiver.Key[:])
	key, err := hkdf.Key(sha256.New, r.secret[:], nil, info, 32)
	if err != nil {
		panic(err)
	}
	return key
}

func (r reference) secretAndHint() (secret, hint []byte) {
	info := "secgossip/1 traffic" + string(r.cluster[:]) + string(binary.BigEndian.AppendUint64(nil, r.epoch)) +
		string(r.sender.Key[:]) + string(r.receiver.Key[:]) + string(r.sender.Boot[:]) + string(r.receiver.Boot[:])
	out, err := hkdf.Key(sha256.New, append(r.shared[:], r.secret[:]...), nil, info, 38)
	if err != nil {
		panic(err)
	}
	return out[:32], out[32:]
}

// trafficKey is the key that seals a counter.
func (r reference) trafficKey(counter uint64) (key []byte) {
	secret, _ := r.secretAndHint()
	for range counter>>30 + 1 {
		out, err := hkdf.Expand(sha256.New, secret, "secgossip/1 key", 64)
		if err != nil {
			panic(err)
		}
		key, secret = out[:32], out[32:]
	}
	return key
}

// datagram seals any plaintext behind any door.
func (r reference) datagram(packet byte, counter uint64, plaintext []byte) []byte {
	_, hint := r.secretAndHint()
	counterBytes := binary.BigEndian.AppendUint64(nil, counter)

	door := append([]byte{packet}, hint...)
	door = append(door, counterBytes[3:]...)
	door = append(door, 0, 0, 0, 0)
	mustAES(r.doorKey()).Encrypt(door, door)

	gcm, err := cipher.NewGCM(mustAES(r.trafficKey(counter)))
	if err != nil {
		panic(err)
	}
	nonce := append(make([]byte, 4), counterBytes...)
	return append(door, gcm.Seal(nil, nonce, plaintext, door)...)
}

func mustAES(key []byte) cipher.Block {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	return block
}

// padded is a plaintext that the reference would send.
func padded(payload []byte) []byte {
	out := binary.BigEndian.AppendUint16(nil, uint16(len(payload)))
	out = append(out, payload...)
	for (16+len(out)+16)%64 != 0 {
		out = append(out, 0)
	}
	return out
}

func TestAnotherImplementationAndOursUnderstandEachOther(t *testing.T) {
	c := newConversation(t)
	for counter, payload := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("y"), 1182)} {
		want := c.reference().datagram(1, uint64(counter), padded(payload))
		got, err := c.sender.Seal(nil, 1, payload)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("counter %d: got %x (%v), want %x", counter, got, err, want)
		}
		opened, drop := c.inbox.Open(want, nil)
		if drop != Accepted || !bytes.Equal(opened.Payload, payload) {
			t.Errorf("counter %d: got %q (%v), want %q", counter, opened.Payload, drop, payload)
		}
	}
}
