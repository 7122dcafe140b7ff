package seal_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// This file opens the vectors with the rules of docs/protocol.md and nothing else:
// it is the proof that the document is enough. It must not use any package of ours,
// and it is written to be read beside section 4.

type document struct {
	Why       string `json:"why"`
	Sender    known  `json:"sender"`
	Receiver  known  `json:"receiver"`
	Datagrams []struct {
		Type       byte        `json:"type"`
		Counter    uint64      `json:"counter"`
		TrafficKey hexadecimal `json:"traffic_key"`
		Plaintext  hexadecimal `json:"plaintext"`
		Datagram   hexadecimal `json:"datagram"`
		Outcome    string      `json:"outcome"`
		Payload    hexadecimal `json:"payload"`
	} `json:"datagrams"`
}

type known struct {
	Cluster          hexadecimal `json:"cluster"`
	Epoch            uint64      `json:"epoch"`
	Secret           hexadecimal `json:"epoch_secret"`
	AgreementPrivate hexadecimal `json:"own_agreement_private_key"`
	AgreementPublic  hexadecimal `json:"peer_agreement_public_key"`
	SenderKey        hexadecimal `json:"sender_key"`
	SenderBoot       hexadecimal `json:"sender_boot"`
	ReceiverKey      hexadecimal `json:"receiver_key"`
	ReceiverBoot     hexadecimal `json:"receiver_boot"`

	Agreement hexadecimal `json:"agreement"`
	DoorKey   hexadecimal `json:"door_key"`
	Hint      hexadecimal `json:"hint"`
}

type hexadecimal []byte

func (b *hexadecimal) UnmarshalText(digits []byte) (err error) {
	*b, err = hex.DecodeString(string(digits))
	return err
}

// keys are those of section 4.4.
type keys struct {
	agreement, door, hint []byte
	traffic               [4][]byte
}

func (k known) derive(t *testing.T) keys {
	t.Helper()
	private, err := ecdh.X25519().NewPrivateKey(k.AgreementPrivate)
	must(t, err)
	public, err := ecdh.X25519().NewPublicKey(k.AgreementPublic)
	must(t, err)
	agreement, err := private.ECDH(public)
	must(t, err)

	epoch := string(binary.BigEndian.AppendUint64(nil, k.Epoch))
	doorInfo := "secgossip/1 door" + string(k.Cluster) + epoch + string(k.ReceiverKey)
	door, err := hkdf.Key(sha256.New, k.Secret, nil, doorInfo, 32)
	must(t, err)
	trafficInfo := "secgossip/1 traffic" + string(k.Cluster) + epoch +
		string(k.SenderKey) + string(k.ReceiverKey) + string(k.SenderBoot) + string(k.ReceiverBoot)
	out, err := hkdf.Key(sha256.New, append(bytes.Clone(agreement), k.Secret...), nil, trafficInfo, 38)
	must(t, err)

	all := keys{agreement: agreement, door: door, hint: out[32:]}
	secret := out[:32]
	for g := range all.traffic {
		next, err := hkdf.Expand(sha256.New, secret, "secgossip/1 key", 64)
		must(t, err)
		all.traffic[g], secret = next[:32], next[32:]
	}
	for name, pair := range map[string][2][]byte{
		"agreement": {all.agreement, k.Agreement}, "door key": {all.door, k.DoorKey}, "hint": {all.hint, k.Hint},
	} {
		if !bytes.Equal(pair[0], pair[1]) {
			t.Errorf("%s: derived %x, the file has %x", name, pair[0], pair[1])
		}
	}
	return all
}

// receiver is one with one epoch and one peer.
type receiver struct {
	keys    keys
	highest uint64
	seen    map[uint64]bool // the window, section 4.7
}

// open is section 4.6. The words are those of the drops there.
func (r *receiver) open(datagram []byte) (kind byte, payload []byte, drop string) {
	if len(datagram) < 64 || len(datagram) > 1216 || len(datagram)%64 != 0 {
		return 0, nil, "size"
	}
	block := make([]byte, 16)
	aesOf(r.keys.door).Decrypt(block, datagram[:16])
	if !bytes.Equal(block[12:], make([]byte, 4)) || block[0] < 1 || block[0] > 8 {
		return 0, nil, "door"
	}
	if !bytes.Equal(block[1:7], r.keys.hint) {
		return 0, nil, "sender"
	}
	counter := binary.BigEndian.Uint64(append(make([]byte, 3), block[7:12]...))
	if counter >= 1<<32 || r.seen[counter] || counter+8192 <= r.highest {
		return 0, nil, "replay"
	}
	nonce := binary.BigEndian.AppendUint64(make([]byte, 4), counter)
	plaintext, err := gcmOf(r.keys.traffic[counter>>30]).Open(nil, nonce, datagram[16:], datagram[:16])
	if err != nil {
		return 0, nil, "seal"
	}
	r.seen[counter] = true
	r.highest = max(r.highest, counter)

	length := int(binary.BigEndian.Uint16(plaintext))
	if length > 1182 || 2+length > len(plaintext) || len(plaintext)-2-length >= 64 {
		return 0, nil, "plaintext"
	}
	for _, padding := range plaintext[2+length:] {
		if padding != 0 {
			return 0, nil, "plaintext"
		}
	}
	return block[0], plaintext[2 : 2+length], "accepted"
}

// seal is section 4.5, but for the padding: vectors have it wrong on purpose.
func seal(k keys, kind byte, counter uint64, plaintext []byte) []byte {
	count := binary.BigEndian.AppendUint64(nil, counter)
	door := append([]byte{kind}, k.hint...)
	door = append(door, count[3:]...)
	door = append(door, 0, 0, 0, 0)
	aesOf(k.door).Encrypt(door, door)
	nonce := append(make([]byte, 4), count...)
	return append(door, gcmOf(k.traffic[counter>>30]).Seal(nil, nonce, plaintext, door)...)
}

func TestDocumentIsEnoughToOpenTheVectors(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	must(t, err)
	if len(files) < 40 {
		t.Fatalf("%d vectors: they are elsewhere", len(files))
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".json"), func(t *testing.T) {
			raw, err := os.ReadFile(path)
			must(t, err)
			var v document
			must(t, json.Unmarshal(raw, &v))
			sender := v.Sender.derive(t)
			r := receiver{keys: v.Receiver.derive(t), seen: make(map[uint64]bool)}
			for i, d := range v.Datagrams {
				kind, payload, drop := r.open(d.Datagram)
				if drop != d.Outcome || !bytes.Equal(payload, d.Payload) {
					t.Errorf("datagram %d (%s): got %s with %x, want %s with %x", i, v.Why, drop, payload, d.Outcome, d.Payload)
				}
				if drop != "accepted" {
					continue
				}
				if kind != d.Type || !bytes.Equal(d.TrafficKey, sender.traffic[d.Counter>>30]) {
					t.Errorf("datagram %d: got type %d and key %x, want %d and %x", i, kind, sender.traffic[d.Counter>>30], d.Type, d.TrafficKey)
				}
				if again := seal(sender, d.Type, d.Counter, d.Plaintext); !bytes.Equal(again, d.Datagram) {
					t.Errorf("datagram %d: sealed again it is %x, want %x", i, again, d.Datagram)
				}
			}
		})
	}
}

func TestDocumentIsReadWithoutOurCode(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "document_test.go", nil, parser.ImportsOnly)
	must(t, err)
	for _, spec := range file.Imports {
		if strings.Contains(spec.Path.Value, ".") {
			t.Errorf("document_test.go imports %s", spec.Path.Value)
		}
	}
}

func aesOf(key []byte) cipher.Block {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	return block
}

func gcmOf(key []byte) cipher.AEAD {
	gcm, err := cipher.NewGCM(aesOf(key))
	if err != nil {
		panic(err)
	}
	return gcm
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
