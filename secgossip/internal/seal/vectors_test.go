package seal

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

var update = flag.Bool("update", false, "write the vectors in testdata anew")

// A vector is one datagram in a file of testdata, with everything that a receiver
// needs, for whoever writes the other end of the protocol. The keys are those of
// the sender; the receiver derives its own from what is given for it.
type vector struct {
	Why          string `json:"why"`
	Cluster      text   `json:"cluster"`
	Epoch        uint64 `json:"epoch"`
	Secret       text   `json:"epoch_secret"`
	Shared       text   `json:"agreement"`
	SenderKey    text   `json:"sender_key"`
	SenderBoot   text   `json:"sender_boot"`
	ReceiverKey  text   `json:"receiver_key"`
	ReceiverBoot text   `json:"receiver_boot"`

	DoorKey    text   `json:"door_key"`
	TrafficKey text   `json:"traffic_key"`
	Hint       text   `json:"hint"`
	Type       byte   `json:"type"`
	Counter    uint64 `json:"counter"`
	Plaintext  text   `json:"plaintext"`
	Datagram   text   `json:"datagram"`

	Outcome string `json:"outcome"` // a Drop's name
	Payload text   `json:"payload,omitempty"`
}

// text is bytes, written in hexadecimal.
type text []byte

func (b text) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

func (b *text) UnmarshalText(digits []byte) (err error) {
	*b, err = hex.DecodeString(string(digits))
	return err
}

func vectors(t testing.TB) map[string]vector {
	c := newConversation(t)
	make := func(why string, outcome Drop, packet byte, counter uint64, plaintext []byte, change func(*conversation, []byte)) vector {
		r := c.reference()
		_, hint := r.secretAndHint()
		datagram := r.datagram(packet, counter, plaintext)
		receiver := *c
		if change != nil {
			change(&receiver, datagram)
		}
		v := vector{
			Why: why, Cluster: receiver.cluster[:], Epoch: receiver.epoch, Secret: receiver.secret[:], Shared: receiver.shared[:],
			SenderKey: receiver.alice.Key[:], SenderBoot: receiver.alice.Boot[:],
			ReceiverKey: receiver.bob.Key[:], ReceiverBoot: receiver.bob.Boot[:],
			DoorKey: r.doorKey(), TrafficKey: r.trafficKey(counter), Hint: hint, Type: packet, Counter: counter,
			Plaintext: plaintext, Datagram: datagram, Outcome: outcome.String(),
		}
		if outcome == Accepted {
			v.Payload, _ = wire.ParsePlaintext(plaintext)
		}
		return v
	}
	short := padded([]byte("a short payload"))
	earlierKey := func(_ *conversation, d []byte) {
		gcm, err := cipher.NewGCM(mustAES(c.reference().trafficKey(0)))
		if err != nil {
			t.Fatal(err)
		}
		nonce := binary.BigEndian.AppendUint64([]byte{0, 0, 0, 0}, 1<<30)
		gcm.Seal(d[16:16], nonce, short, d[:16])
	}
	badPadding := bytes.Clone(short)
	badPadding[len(badPadding)-1] = 1
	return map[string]vector{
		"short":         make("one step", Accepted, 1, 0, short, nil),
		"empty":         make("no payload at all", Accepted, 2, 1, padded(nil), nil),
		"largest":       make("1182 bytes of payload fill 1216", Accepted, 3, 2, padded(bytes.Repeat([]byte("z"), 1182)), nil),
		"last-counter":  make("the last counter a key may use", Accepted, 1, 1<<32-1, short, nil),
		"next-key":      make("the first counter of the second key", Accepted, 1, 1<<30, short, nil),
		"earlier-key":   make("a counter of the second key, sealed with the first", DropSeal, 1, 1<<30, short, earlierKey),
		"beyond-last":   make("a counter that no key may use", DropReplay, 1, 1<<32, short, nil),
		"unknown-type":  make("type 7", DropDoor, 7, 0, short, nil),
		"padding":       make("the last byte of the padding is 1", DropPlaintext, 1, 0, badPadding, nil),
		"extra-step":    make("64 bytes more padding than needed", DropPlaintext, 1, 0, append(bytes.Clone(short), bytes.Repeat([]byte{0}, 64)...), nil),
		"damaged-door":  make("one bit of the door is flipped", DropDoor, 1, 0, short, func(_ *conversation, d []byte) { d[0] ^= 1 }),
		"damaged-tag":   make("one bit of the tag is flipped", DropSeal, 1, 0, short, func(_ *conversation, d []byte) { d[len(d)-1] ^= 1 }),
		"other-epoch":   make("the receiver holds epoch 8", DropDoor, 1, 0, short, func(c *conversation, _ []byte) { c.epoch = 8 }),
		"other-node":    make("it reaches another node", DropDoor, 1, 0, short, func(c *conversation, _ []byte) { c.bob.Key[0]++ }),
		"other-cluster": make("it reaches another cluster", DropDoor, 1, 0, short, func(c *conversation, _ []byte) { c.cluster[0]++ }),
		"receiver-restarted": make("the receiver's boot nonce is new", DropSender, 1, 0, short,
			func(c *conversation, _ []byte) { c.bob.Boot[0]++ }),
		"sender-restarted": make("the receiver knows of a new boot nonce of the sender", DropSender, 1, 0, short,
			func(c *conversation, _ []byte) { c.alice.Boot[0]++ }),
	}
}

func TestVectors(t *testing.T) {
	for name, v := range vectors(t) {
		path := filepath.Join("testdata", name+".json")
		written, err := json.MarshalIndent(v, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		written = append(written, '\n')
		if *update {
			if err := os.WriteFile(path, written, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(file, written) {
			t.Errorf("%s: this code would write\n%s\ninstead of\n%s", path, written, file)
		}
		var read vector
		if err := json.NewDecoder(strings.NewReader(string(file))).Decode(&read); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		read.check(t, path)
	}
}

// check gives the datagram to a receiver made of the file alone, and for those
// that ours would send compares what it sends.
func (v vector) check(t *testing.T, path string) {
	c := newConversation(t, func(c *conversation) {
		c.cluster, c.epoch = [32]byte(v.Cluster), v.Epoch
		c.secret, c.shared = plainSecret(v.Secret), [32]byte(v.Shared)
		c.alice = Party{[32]byte(v.SenderKey), [16]byte(v.SenderBoot)}
		c.bob = Party{[32]byte(v.ReceiverKey), [16]byte(v.ReceiverBoot)}
	})
	opened, drop := c.inbox.Open(v.Datagram, nil)
	if drop.String() != v.Outcome || !bytes.Equal(opened.Payload, v.Payload) {
		t.Errorf("%s: got %v with %x, want %s with %x", path, drop, opened.Payload, v.Outcome, v.Payload)
	}
	if drop != Accepted {
		return
	}
	c.sender.counter = v.Counter
	sealed, err := c.sender.Seal(nil, wire.PacketType(v.Type), v.Payload)
	if err != nil || !bytes.Equal(sealed, v.Datagram) {
		t.Errorf("%s: got %x (%v), want %x", path, sealed, err, v.Datagram)
	}
}
