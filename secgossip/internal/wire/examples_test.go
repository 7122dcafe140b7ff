package wire

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
	"github.com/secgossip/secgossip/internal/reply"
)

// What the tests of this package build their messages from. All of it is fixed:
// the vectors in testdata depend on it.

var (
	testCluster  = [32]byte(bytes.Repeat([]byte{0xc1}, 32))
	otherCluster = [32]byte(bytes.Repeat([]byte{0xc2}, 32))
	testTime     = time.Unix(1_780_000_000, 0).UTC()
	testTarget   = NodeTarget("web-1")
)

func testKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func public(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

var testKnockSecret = []byte("the knock secret of these tests.")

func testMAC(data []byte) [32]byte {
	h := hmac.New(sha256.New, testKnockSecret)
	h.Write(data)
	return [32]byte(h.Sum(nil))
}

func testRecord() Record {
	return Record{
		Name:     "web-1",
		Sequence: 1_780_000_000_123,
		Boot:     [16]byte(bytes.Repeat([]byte{0xb0}, 16)),
		Endpoints: []netip.AddrPort{
			netip.MustParseAddrPort("192.0.2.1:7946"),
			netip.MustParseAddrPort("[2001:db8::1]:7946"),
		},
		Credential: []byte("credential"),
	}
}

// largestRecord is as long as a record can be in every field.
func largestRecord() Record {
	r := Record{
		Name:       strings.Repeat("n", MaxName),
		Sequence:   1<<63 - 1,
		Boot:       [16]byte(bytes.Repeat([]byte{0xff}, 16)),
		Credential: bytes.Repeat([]byte{0xff}, MaxCredential),
	}
	for i := range MaxEndpoints {
		addr := netip.AddrFrom16([16]byte{0x20, 0x01, 15: byte(i + 1)})
		r.Endpoints = append(r.Endpoints, netip.AddrPortFrom(addr, 65535))
	}
	return r
}

func testStatement() Statement {
	return Statement{
		Action:     ActionInstall,
		Number:     7,
		Previous:   [32]byte(bytes.Repeat([]byte{0x06}, 32)),
		Commitment: [32]byte(bytes.Repeat([]byte{0x07}, 32)),
		Keeper:     "keeper-1",
		Issued:     testTime,
		Reason:     "operator",
	}
}

// namingStatement is testStatement with all that it can say about revocations.
func namingStatement() Statement {
	s := testStatement()
	s.Revoked = [16]byte(bytes.Repeat([]byte{0x0d}, 16))
	for i := range MaxNamed {
		s.Named = append(s.Named, Named{Subject: [16]byte{byte(i + 1)}, Issued: testTime.Add(time.Duration(i) * time.Millisecond)})
	}
	return s
}

func testRevocation() Revocation {
	return Revocation{
		Verb:    VerbEvict,
		Subject: Subject{Kind: KindNode, Name: "web-1", Key: [32]byte(bytes.Repeat([]byte{0x5b}, 32))},
		Before:  testTime.Add(123 * time.Millisecond),
		Keeper:  "keeper-1",
		Issued:  testTime.Add(124 * time.Millisecond),
		Reason:  "stolen",
	}
}

func testHello() Hello {
	return Hello{
		Purpose: PurposeEpoch,
		Record:  []byte("a signed node record"),
		Roster:  [32]byte(bytes.Repeat([]byte{0x44}, 32)),
		Highest: 7,
		Primary: 6,
		Time:    testTime,
	}
}

func mustRecord(t testing.TB, r Record) []byte {
	t.Helper()
	return must(t)(SignRecord(testKey(1), testCluster, r))
}

func mustRevocation(t testing.TB, r Revocation) []byte {
	t.Helper()
	return must(t)(SignRevocation(testKey(1), testCluster, r))
}

func mustStatement(t testing.TB, s Statement) []byte {
	t.Helper()
	return must(t)(SignStatement(testKey(1), testCluster, s))
}

func must(t testing.TB) func([]byte, error) []byte {
	return func(raw []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
}

// A codec reads one kind of message and writes again what it read.
type codec struct {
	name    string
	example func(t testing.TB) []byte
	again   func(raw []byte) ([]byte, error)
	// open says that a shorter message may be a message too: its last part has
	// no length of its own.
	open bool
}

var errBool = errors.New("refused")

func codecs() []codec {
	batch := func(b Batch) func([]byte) ([]byte, error) {
		return func(raw []byte) ([]byte, error) {
			items, err := b.Parse(raw)
			if err != nil {
				return nil, err
			}
			return b.Append(nil, items)
		}
	}
	items := func(b Batch) func(testing.TB) []byte {
		return func(t testing.TB) []byte { return must(t)(b.Append(nil, [][]byte{[]byte("one"), []byte("two")})) }
	}
	return []codec{
		{name: "door", example: func(testing.TB) []byte {
			var block [DoorSize]byte
			Door{Type: PacketEvents, Hint: [6]byte{1, 2, 3, 4, 5, 6}, Counter: 0x0a0b0c0d0e}.Put(&block)
			return block[:]
		}, again: func(raw []byte) ([]byte, error) {
			if len(raw) != DoorSize {
				return nil, errBool
			}
			d, ok := ParseDoor((*[DoorSize]byte)(raw))
			if !ok {
				return nil, errBool
			}
			var block [DoorSize]byte
			d.Put(&block)
			return block[:], nil
		}},
		{name: "plaintext", example: func(t testing.TB) []byte {
			return must(t)(AppendPlaintext(nil, []byte("a payload of 33 bytes, two steps.")))
		}, again: func(raw []byte) ([]byte, error) {
			payload, ok := ParsePlaintext(raw)
			if !ok {
				return nil, errBool
			}
			return AppendPlaintext(nil, payload)
		}},
		{name: "gossip", open: true, example: func(t testing.TB) []byte {
			g := Gossip{Evidence: [][]byte{[]byte("one"), []byte("two")}, Packet: []byte("memberlist")}
			return must(t)(g.Append(nil))
		}, again: func(raw []byte) ([]byte, error) {
			g, err := ParseGossip(raw)
			if err != nil {
				return nil, err
			}
			return g.Append(nil)
		}},
		{name: "batch of events", open: true, example: items(BatchEvents), again: batch(BatchEvents)},
		{name: "batch of epochs", open: true, example: items(BatchEpochs), again: batch(BatchEpochs)},
		{name: "roster", open: true, example: items(BatchRoster), again: batch(BatchRoster)},
		{name: "issuers", open: true, example: items(BatchIssuers), again: batch(BatchIssuers)},
		{name: "statements", open: true, example: items(BatchStatements), again: batch(BatchStatements)},
		{name: "node record", example: func(t testing.TB) []byte {
			return mustRecord(t, testRecord())
		}, again: func(raw []byte) ([]byte, error) {
			r, err := ParseRecord(raw)
			if err != nil {
				return nil, err
			}
			return reencoded(r.Raw, r.message.Payload, r.encode)
		}},
		{name: "epoch statement", example: func(t testing.TB) []byte {
			return mustStatement(t, testStatement())
		}, again: func(raw []byte) ([]byte, error) {
			s, err := ParseStatement(raw)
			if err != nil {
				return nil, err
			}
			return reencoded(s.Raw, s.message.Payload, s.encode)
		}},
		{name: "naming statement", example: func(t testing.TB) []byte {
			return mustStatement(t, namingStatement())
		}, again: func(raw []byte) ([]byte, error) {
			s, err := ParseStatement(raw)
			if err != nil {
				return nil, err
			}
			return reencoded(s.Raw, s.message.Payload, s.encode)
		}},
		{name: "revocation", example: func(t testing.TB) []byte {
			return mustRevocation(t, testRevocation())
		}, again: func(raw []byte) ([]byte, error) {
			r, err := ParseRevocation(raw)
			if err != nil {
				return nil, err
			}
			return reencoded(r.Raw, r.message.Payload, r.encode)
		}},
		{name: "revocations", open: true, example: items(BatchRevocations), again: batch(BatchRevocations)},
		{name: "removals", open: true, example: items(BatchRemovals), again: batch(BatchRemovals)},
		{name: "repair", open: true, example: items(BatchRepair), again: batch(BatchRepair)},
		{name: "revoked", open: true, example: items(BatchRevoked), again: batch(BatchRevoked)},
		{name: "hello", example: func(t testing.TB) []byte {
			return must(t)(testHello().Append(nil))
		}, again: func(raw []byte) ([]byte, error) {
			h, err := ParseHello(raw)
			if err != nil {
				return nil, err
			}
			return h.Append(nil)
		}},
		{name: "frame", example: func(t testing.TB) []byte {
			var out bytes.Buffer
			if err := WriteFrame(&out, FrameHello, []byte("hello")); err != nil {
				t.Fatal(err)
			}
			return out.Bytes()
		}, again: func(raw []byte) ([]byte, error) {
			r := bytes.NewReader(raw)
			frameType, body, err := ReadFrame(r, allFrames()...)
			if err != nil {
				return nil, err
			}
			if r.Len() != 0 {
				return nil, errBool
			}
			var out bytes.Buffer
			err = WriteFrame(&out, frameType, body)
			return out.Bytes(), err
		}},
		{name: "secret request", example: func(testing.TB) []byte {
			return SecretRequest{Number: 7, Commitment: testStatement().Commitment}.Append(nil)
		}, again: func(raw []byte) ([]byte, error) {
			q, err := ParseSecretRequest(raw)
			return q.Append(nil), err
		}},
		{name: "ack", example: func(testing.TB) []byte {
			return Ack{Lowest: 5, Highest: 7, Primary: 6, Sealed: 4}.Append(nil)
		}, again: func(raw []byte) ([]byte, error) {
			a, err := ParseAck(raw)
			return a.Append(nil), err
		}},
		{name: "refusal", open: true, example: func(t testing.TB) []byte {
			return must(t)(Refusal{Code: RefusedUnknown, Text: "no epoch 9 here"}.Append(nil))
		}, again: func(raw []byte) ([]byte, error) {
			r, err := ParseRefusal(raw)
			if err != nil {
				return nil, err
			}
			return r.Append(nil)
		}},
		{name: "knock", example: func(testing.TB) []byte {
			return MakeKnock(testMAC, testCluster, testTarget, testTime, [8]byte{1, 2, 3, 4, 5, 6, 7, 8}).Append(nil)
		}, again: func(raw []byte) ([]byte, error) {
			k, err := ParseKnock(raw)
			return k.Append(nil), err
		}},
		{name: "challenge", example: func(testing.TB) []byte {
			return Challenge{Token: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}, Try: 3}.Append(nil)
		}, again: func(raw []byte) ([]byte, error) {
			c, err := ParseChallenge(raw)
			return c.Append(nil), err
		}},
		{name: "path response", example: func(testing.TB) []byte {
			return Response{Token: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}, Time: testTime}.Append(nil)
		}, again: func(raw []byte) ([]byte, error) {
			r, err := ParseResponse(raw)
			return r.Append(nil), err
		}},
		{name: "batch of queries", open: true, example: items(BatchQueries), again: batch(BatchQueries)},
		{name: "batch of replies", open: true, example: items(BatchReplies), again: batch(BatchReplies)},
		{name: "reply", example: func(t testing.TB) []byte {
			return must(t)(cose.Sign(testKey(1), cose.Context(replyLabel, testCluster), must(t)(cose.Marshal(goodReply()))))
		}, again: func(raw []byte) ([]byte, error) {
			r, err := reply.Parse(raw)
			if err != nil {
				return nil, err
			}
			message, err := cose.Parse(raw)
			if err != nil {
				return nil, err
			}
			return reencoded(raw, message.Payload, func() ([]byte, error) {
				return cose.Marshal(replyBody{r.Query[:], r.Node, uint8(r.Kind), r.Payload})
			})
		}},
		{name: "receipt", example: func(testing.TB) []byte {
			return Receipt{Event: [ReceiptSize]byte{1, 2, 3}}.Append(nil)
		}, again: func(raw []byte) ([]byte, error) {
			r, err := ParseReceipt(raw)
			return r.Append(nil), err
		}},
		{name: "taken", example: func(testing.TB) []byte {
			return Taken{Query: [16]byte{1, 2, 3}, Kind: 2}.Append(nil)
		}, again: func(raw []byte) ([]byte, error) {
			t, err := ParseTaken(raw)
			return t.Append(nil), err
		}},
		{name: "carried packet", open: true, example: func(t testing.TB) []byte {
			return must(t)(Carried{Type: PacketEvents, Payload: []byte("payload")}.Append(nil))
		}, again: func(raw []byte) ([]byte, error) {
			c, err := ParseCarried(raw)
			if err != nil {
				return nil, err
			}
			return c.Append(nil)
		}},
	}
}

// reencoded gives raw back if its payload is what encode writes. The rest of a
// signed message is internal/cose's, which holds the same property.
func reencoded(raw, payload []byte, encode func() ([]byte, error)) ([]byte, error) {
	again, err := encode()
	if err == nil && !bytes.Equal(payload, again) {
		return again, nil // shows up as a difference
	}
	return raw, err
}

func allFrames() []FrameType {
	return []FrameType{
		FrameHello, FrameRoster, FrameIssuers, FrameEpochs, FrameSecretRequest, FrameSecret, FrameAck, FrameRefusal,
		FramePacket, FrameAlive, FrameRevocations, FrameReply, FrameTaken, FrameTally, FrameRepair,
	}
}

// A reply is internal/reply's. Here it is what the document says.
const replyLabel = "secgossip/1 reply"

type replyBody struct {
	Query   []byte `cbor:"1,keyasint"`
	Node    string `cbor:"2,keyasint"`
	Kind    uint8  `cbor:"3,keyasint"`
	Payload []byte `cbor:"4,keyasint,omitempty"`
}

func goodReply() replyBody {
	return replyBody{Query: []byte{1, 2, 3, 15: 0}, Node: "web-1", Kind: 2, Payload: []byte("0.7")}
}
