package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

var update = flag.Bool("update", false, "write the vectors in testdata anew")

// A vector is a file of testdata, for whoever writes the other end of the
// protocol: what one node sealed with, what another opens with, and what it must
// make of the datagrams, in this order. testdata/README.md says more.
type vector struct {
	Why       string `json:"why"`
	Sender    side   `json:"sender"`
	Receiver  side   `json:"receiver"`
	Datagrams []step `json:"datagrams"`
}

// A side is what one of the two knows, and what it derives from that.
type side struct {
	Cluster          text   `json:"cluster"`
	Epoch            uint64 `json:"epoch"`
	Secret           text   `json:"epoch_secret"`
	AgreementPrivate text   `json:"own_agreement_private_key"`
	AgreementPublic  text   `json:"peer_agreement_public_key"`
	SenderKey        text   `json:"sender_key"`
	SenderBoot       text   `json:"sender_boot"`
	ReceiverKey      text   `json:"receiver_key"`
	ReceiverBoot     text   `json:"receiver_boot"`

	Agreement text `json:"agreement"`
	DoorKey   text `json:"door_key"`
	Hint      text `json:"hint"`
}

// A step is one datagram. Type, counter, key and plaintext are those it was sealed
// with; what was done to it then is in the vector's reason.
type step struct {
	Type       byte   `json:"type"`
	Counter    uint64 `json:"counter"`
	TrafficKey text   `json:"traffic_key"`
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

// A scene is what the two nodes of a vector know. Scenarios change one of them.
type scene struct {
	conversation
	alice, bob agreementKeys
}

type agreementKeys struct{ private, public [32]byte }

func agreementOf(seed byte) agreementKeys {
	private := mustAgreementKey(filled[[32]byte](seed))
	return agreementKeys{[32]byte(private.Bytes()), [32]byte(private.PublicKey().Bytes())}
}

func mustAgreementKey(raw [32]byte) *ecdh.PrivateKey {
	key, err := ecdh.X25519().NewPrivateKey(raw[:])
	if err != nil {
		panic(err)
	}
	return key
}

func signingKeyOf(seed byte) [32]byte {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	return [32]byte(private.Public().(ed25519.PublicKey))
}

func newScene() scene {
	s := scene{alice: agreementOf(0xa2), bob: agreementOf(0xb2)}
	s.cluster, s.epoch, s.secret = filled[[32]byte](0xc1), 7, filled[plainSecret](0xee)
	s.conversation.alice = Party{signingKeyOf(0xa1), filled[[16]byte](0xa0)}
	s.conversation.bob = Party{signingKeyOf(0xb1), filled[[16]byte](0xb0)}
	return s
}

// reference seals what these keys seal.
func (s scene) reference(private, public [32]byte) reference {
	peer, err := ecdh.X25519().NewPublicKey(public[:])
	if err != nil {
		panic(err)
	}
	shared, err := mustAgreementKey(private).ECDH(peer)
	if err != nil {
		panic(err)
	}
	c := s.conversation
	c.shared = [32]byte(shared)
	return c.reference()
}

func (s scene) asSender() reference { return s.reference(s.alice.private, s.bob.public) }

func (s scene) side(private, public [32]byte) side {
	r := s.reference(private, public)
	_, hint := r.secretAndHint()
	c := &s.conversation
	return side{
		Cluster: c.cluster[:], Epoch: c.epoch, Secret: c.secret[:],
		AgreementPrivate: private[:], AgreementPublic: public[:],
		SenderKey: c.alice.Key[:], SenderBoot: c.alice.Boot[:],
		ReceiverKey: c.bob.Key[:], ReceiverBoot: c.bob.Boot[:],
		Agreement: r.shared[:], DoorKey: r.doorKey(), Hint: hint,
	}
}

// A scenario is a vector in the making.
type scenario struct {
	name, why        string
	sender, receiver func(*scene) // what this side has otherwise; nil: nothing
	steps            func(reference) []step
}

func (s scenario) vector() vector {
	sender, receiver := newScene(), newScene()
	if s.sender != nil {
		s.sender(&sender)
	}
	if s.receiver != nil {
		s.receiver(&receiver)
	}
	return vector{
		Why:       s.why,
		Sender:    sender.side(sender.alice.private, sender.bob.public),
		Receiver:  receiver.side(receiver.bob.private, receiver.alice.public),
		Datagrams: s.steps(sender.asSender()),
	}
}

// sealed is a datagram as the sender seals it.
func sealed(r reference, outcome Drop, packet byte, counter uint64, plaintext []byte) step {
	s := step{
		Type: packet, Counter: counter, TrafficKey: r.trafficKey(counter), Plaintext: plaintext,
		Datagram: r.datagram(packet, counter, plaintext), Outcome: outcome.String(),
	}
	if outcome == Accepted {
		s.Payload, _ = wire.ParsePlaintext(plaintext)
	}
	return s
}

// under is a datagram whose traffic key is another than its counter's.
func under(r reference, key []byte, counter uint64, plaintext []byte) step {
	s := sealed(r, DropSeal, 1, counter, plaintext)
	gcm, err := cipher.NewGCM(mustAES(key))
	if err != nil {
		panic(err)
	}
	nonce := binary.BigEndian.AppendUint64([]byte{0, 0, 0, 0}, counter)
	s.Datagram, s.TrafficKey = gcm.Seal(s.Datagram[:16:16], nonce, plaintext, s.Datagram[:16]), key
	return s
}

// changed is a datagram after something was done to it.
func changed(s step, outcome Drop, change func(datagram []byte) []byte) step {
	s.Datagram, s.Outcome, s.Payload = change(bytes.Clone(s.Datagram)), outcome.String(), nil
	return s
}

func flip(at int) func([]byte) []byte {
	return func(d []byte) []byte {
		d[(at+len(d))%len(d)] ^= 1
		return d
	}
}

// withDoor puts another door block before the rest, one that the receiver opens.
func withDoor(r reference, change func(block []byte)) func([]byte) []byte {
	return func(d []byte) []byte {
		door := mustAES(r.doorKey())
		door.Decrypt(d, d[:16])
		change(d[:16])
		door.Encrypt(d, d[:16])
		return d
	}
}

// scenarios are all vectors, the failures first, in the order of the checks that
// they fail.
func scenarios() []scenario {
	short, long := padded([]byte("a short payload")), padded(bytes.Repeat([]byte("z"), 1182))
	one := func(outcome Drop, packet byte, counter uint64, plaintext []byte) func(reference) []step {
		return func(r reference) []step { return []step{sealed(r, outcome, packet, counter, plaintext)} }
	}
	damaged := func(outcome Drop, change func([]byte) []byte) func(reference) []step {
		return func(r reference) []step { return []step{changed(sealed(r, Accepted, 1, 0, short), outcome, change)} }
	}
	behindDoor := func(outcome Drop, change func([]byte)) func(reference) []step {
		return func(r reference) []step {
			return []step{changed(sealed(r, Accepted, 1, 0, short), outcome, withDoor(r, change))}
		}
	}
	withPlaintext := func(change func([]byte) []byte) func(reference) []step {
		return one(DropPlaintext, 1, 0, change(bytes.Clone(short)))
	}
	thief := func(r reference) reference {
		r.shared = [32]byte{}
		return r
	}
	return []scenario{
		{name: "nothing", why: "a datagram without a byte", steps: damaged(DropSize, func([]byte) []byte { return []byte{} })},
		{name: "short-by-a-byte", why: "the last byte is missing", steps: damaged(DropSize, func(d []byte) []byte { return d[:63] })},
		{name: "long-by-a-byte", why: "a zero more", steps: damaged(DropSize, func(d []byte) []byte { return append(d, 0) })},
		{name: "over-the-largest", why: "a step more than the largest datagram has", steps: func(r reference) []step {
			return []step{changed(sealed(r, Accepted, 1, 0, long), DropSize, func(d []byte) []byte { return append(d, make([]byte, 64)...) })}
		}},
		{name: "stranger", why: "64 bytes of chance", steps: damaged(DropDoor, func(d []byte) []byte {
			rand.NewChaCha8([32]byte{8}).Read(d)
			return d
		})},
		{name: "damaged-door", why: "one bit of the door is flipped", steps: damaged(DropDoor, flip(0))},
		{name: "check", why: "the last check byte of the door is 1", steps: behindDoor(DropDoor, func(block []byte) { block[15] = 1 })},
		{name: "unknown-type", why: "type 99", steps: one(DropDoor, 99, 0, short)},
		{name: "type-zero", why: "type 0", steps: one(DropDoor, 0, 0, short)},
		{name: "other-epoch", why: "the receiver holds epoch 8", receiver: func(s *scene) { s.epoch = 8 }, steps: one(DropDoor, 1, 0, short)},
		{name: "other-secret", why: "the receiver holds another secret for this epoch",
			receiver: func(s *scene) { s.secret[0]++ }, steps: one(DropDoor, 1, 0, short)},
		{name: "other-node", why: "it reaches another node", receiver: func(s *scene) { s.conversation.bob.Key = signingKeyOf(0xd1) },
			steps: one(DropDoor, 1, 0, short)},
		{name: "other-cluster", why: "it reaches another cluster", receiver: func(s *scene) { s.cluster[0]++ }, steps: one(DropDoor, 1, 0, short)},
		{name: "reflected", why: "it comes back to the node that sealed it, which has a receiver for the other direction",
			receiver: func(s *scene) {
				s.conversation.alice, s.conversation.bob = s.conversation.bob, s.conversation.alice
				s.alice, s.bob = s.bob, s.alice
			}, steps: one(DropDoor, 1, 0, short)},
		{name: "unknown-hint", why: "the door names a hint that no peer has",
			steps: behindDoor(DropSender, func(block []byte) { block[1] ^= 1 })},
		{name: "receiver-restarted", why: "the receiver's boot nonce is new",
			receiver: func(s *scene) { s.conversation.bob.Boot[0]++ }, steps: one(DropSender, 1, 0, short)},
		{name: "sender-restarted", why: "the receiver knows of a new boot nonce of the sender",
			receiver: func(s *scene) { s.conversation.alice.Boot[0]++ }, steps: one(DropSender, 1, 0, short)},
		{name: "sender-set-up-anew", why: "the receiver knows of another signing key of the sender",
			receiver: func(s *scene) { s.conversation.alice.Key = signingKeyOf(0xd1) }, steps: one(DropSender, 1, 0, short)},
		{name: "other-agreement", why: "a member seals in the name of another: with its own agreement key",
			sender: func(s *scene) { s.alice = agreementOf(0xd2) }, steps: one(DropSender, 1, 0, short)},
		{name: "beyond-last", why: "a counter that no key may use", steps: one(DropReplay, 1, 1<<32, short)},
		{name: "largest-counter", why: "the largest counter that a door holds",
			steps: behindDoor(DropReplay, func(block []byte) { copy(block[7:12], bytes.Repeat([]byte{0xff}, 5)) })},
		{name: "stolen-hint", why: "who has the epoch secret and a hint, and not the agreement, seals with an agreement of zeros",
			steps: func(r reference) []step { return []step{under(r, thief(r).trafficKey(0), 0, short)} }},
		{name: "other-type", why: "a member puts type 3 into the door of another's datagram",
			steps: behindDoor(DropSeal, func(block []byte) { block[0] = 3 })},
		{name: "other-counter", why: "a member puts counter 1 into the door of another's datagram",
			steps: behindDoor(DropSeal, func(block []byte) { block[11] = 1 })},
		{name: "damaged-body", why: "one bit behind the door is flipped", steps: damaged(DropSeal, flip(20))},
		{name: "damaged-tag", why: "one bit of the tag is flipped", steps: damaged(DropSeal, flip(-1))},
		{name: "short-by-a-step", why: "the last 64 bytes are missing", steps: func(r reference) []step {
			return []step{changed(sealed(r, Accepted, 1, 0, long), DropSeal, func(d []byte) []byte { return d[:len(d)-64] })}
		}},
		{name: "long-by-a-step", why: "64 zeros behind the tag",
			steps: damaged(DropSeal, func(d []byte) []byte { return append(d, make([]byte, 64)...) })},
		{name: "earlier-key", why: "a counter of the second key, sealed with the first",
			steps: func(r reference) []step { return []step{under(r, r.trafficKey(0), 1<<30, short)} }},
		{name: "later-key", why: "a counter of the first key, sealed with the second",
			steps: func(r reference) []step { return []step{under(r, r.trafficKey(1<<30), 0, short)} }},
		{name: "padding", why: "the last byte of the padding is 1", steps: withPlaintext(flip(-1))},
		{name: "extra-step", why: "64 bytes more padding than needed",
			steps: withPlaintext(func(p []byte) []byte { return append(p, make([]byte, 64)...) })},
		{name: "length-beyond", why: "a length that ends a byte behind the plaintext",
			steps: withPlaintext(func(p []byte) []byte { p[1] = 31; return p })},
		{name: "replay", why: "a datagram comes twice", steps: func(r reference) []step {
			return []step{sealed(r, Accepted, 1, 0, short), sealed(r, DropReplay, 1, 0, short)}
		}},
		{name: "behind-the-window", why: "8,192 counters behind the newest is too late, 8,191 is not", steps: func(r reference) []step {
			return []step{sealed(r, Accepted, 1, 8192, short), sealed(r, DropReplay, 1, 0, short), sealed(r, Accepted, 1, 1, short)}
		}},
		{name: "forged-counter", why: "a forged datagram uses up no counter: the genuine one opens after it", steps: func(r reference) []step {
			genuine := sealed(r, Accepted, 1, 5, short)
			return []step{changed(genuine, DropSeal, flip(-1)), genuine}
		}},
		{name: "forged-generation", why: "a forged datagram of the last key costs the receiver none of the others", steps: func(r reference) []step {
			return []step{changed(sealed(r, Accepted, 1, 3<<30, short), DropSeal, flip(-1)), sealed(r, Accepted, 1, 0, short)}
		}},
		{name: "wrong-plaintext-uses-its-counter", why: "the peer sealed it, so its counter is used, though the padding is wrong",
			steps: func(r reference) []step {
				return []step{sealed(r, DropPlaintext, 1, 0, flip(-1)(bytes.Clone(short))), sealed(r, DropReplay, 1, 0, short)}
			}},

		{name: "short", why: "one step", steps: one(Accepted, 1, 0, short)},
		{name: "empty", why: "no payload at all", steps: one(Accepted, 2, 1, padded(nil))},
		{name: "largest", why: "1182 bytes of payload fill 1216", steps: one(Accepted, 3, 2, long)},
		{name: "path-challenge", why: "token 0102030405060708, the first try", steps: one(Accepted, 5, 3,
			padded(wire.Challenge{Token: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}.Append(nil)))},
		{name: "next-key", why: "the first counter of the second key", steps: one(Accepted, 1, 1<<30, short)},
		{name: "last-counter", why: "the last counter there is", steps: one(Accepted, 1, 1<<32-1, short)},
		{name: "out-of-order", why: "datagrams overtake each other, also where the key changes", steps: func(r reference) []step {
			return []step{sealed(r, Accepted, 1, 1<<30+1, short), sealed(r, Accepted, 1, 1<<30-1, short), sealed(r, Accepted, 1, 1<<30, short)}
		}},
	}
}

func TestVectors(t *testing.T) {
	files := make(map[string]bool)
	failures := 0
	for _, s := range scenarios() {
		v := s.vector()
		path := filepath.Join("testdata", s.name+".json")
		files[path] = true
		if v.fails() {
			failures++
		}
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
	if successes := len(files) - failures; failures <= successes {
		t.Errorf("%d vectors with a failure and %d without: what must not open is the point", failures, successes)
	}
	found, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		if !files[path] {
			t.Errorf("%s is no vector of this code", path)
		}
	}
}

func (v vector) fails() bool {
	for _, s := range v.Datagrams {
		if s.Outcome != Accepted.String() {
			return true
		}
	}
	return false
}

// conversation is the two nodes as a side knows them.
func (s side) conversation(t *testing.T) *conversation {
	return newConversation(t, func(c *conversation) {
		c.cluster, c.epoch = [32]byte(s.Cluster), s.Epoch
		c.secret, c.shared = plainSecret(s.Secret), [32]byte(s.Agreement)
		c.alice = Party{[32]byte(s.SenderKey), [16]byte(s.SenderBoot)}
		c.bob = Party{[32]byte(s.ReceiverKey), [16]byte(s.ReceiverBoot)}
	})
}

// check gives the datagrams to a receiver made of the file alone, and for those
// that ours would send compares what it sends.
func (v vector) check(t *testing.T, path string) {
	sender, receiver := v.Sender.conversation(t).sender, v.Receiver.conversation(t).inbox
	for i, s := range v.Datagrams {
		opened, drop := receiver.Open(s.Datagram, nil)
		if drop.String() != s.Outcome || !bytes.Equal(opened.Payload, s.Payload) {
			t.Errorf("%s, datagram %d: got %v with %x, want %s with %x", path, i, drop, opened.Payload, s.Outcome, s.Payload)
		}
		if drop != Accepted {
			continue
		}
		sender.counter = s.Counter
		again, err := sender.Seal(nil, wire.PacketType(s.Type), s.Payload)
		if sender.chain.made > generationOf(s.Counter)+1 {
			continue // ours goes on and never back: this one it has sealed before
		}
		if err != nil || !bytes.Equal(again, s.Datagram) {
			t.Errorf("%s, datagram %d: got %x (%v), want %x", path, i, again, err, s.Datagram)
		}
	}
}
