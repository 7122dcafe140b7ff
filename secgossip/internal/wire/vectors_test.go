package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
	"github.com/secgossip/secgossip/internal/reply"
)

var update = flag.Bool("update", false, "write the vectors in testdata anew")

// A vector is one message in a file of testdata, for whoever writes the other end
// of the protocol. It says whether a receiver accepts it, and why.
// testdata/README.md says more.
type vector struct {
	file   string
	codec  string // name of the codec that reads it
	accept bool
	why    string
	raw    []byte
	given  []given // what a receiver needs besides the bytes
}

// given is a line of a file: what the receiver knows.
type given struct {
	name  string
	value []byte
}

func givenTime(at time.Time) given { return given{"now in ms", fmt.Append(nil, at.UnixMilli())} }

// vectors are all of them, the failures first.
func vectors(t testing.TB) []vector {
	examples := make(map[string][]byte)
	for _, c := range codecs() {
		examples[c.name] = c.example(t)
	}
	changed := func(name string, at int, value byte) []byte {
		raw := bytes.Clone(examples[name])
		raw[(at+len(raw))%len(raw)] = value
		return raw
	}
	cut := func(name string) []byte { return examples[name][:len(examples[name])-1] }
	signedAs := func(label string, cluster [32]byte, payload []byte) []byte {
		return must(t)(cose.Sign(testKey(1), cose.Context(label, cluster), payload))
	}
	encoded := func(body any) []byte { return must(t)(cose.Marshal(body)) }
	record := func(change func(*recordBody)) []byte {
		body := recordBody{
			Name: "web-1", Sequence: 1, Boot: [16]byte{1}, Credential: []byte("c"),
			Endpoints: [][]byte{{192, 0, 2, 1, 0x1f, 0x0a}},
		}
		change(&body)
		return signedAs(recordLabel, testCluster, encoded(body))
	}
	statement := func(change func(*statementBody)) []byte {
		body := statementBody{
			Action: 1, Number: 1, Commitment: [32]byte{7}, Keeper: "keeper-1", Issued: 1, Reason: "init",
		}
		change(&body)
		return signedAs(epochLabel, testCluster, encoded(body))
	}
	naming := func(change func(*statementBody)) []byte {
		return statement(func(b *statementBody) {
			b.Revoked = bytes.Repeat([]byte{0x0d}, 16)
			b.Named = [][]byte{append(bytes.Repeat([]byte{1}, 16), 0, 0, 1, 0, 0, 0, 0, 0), append(bytes.Repeat([]byte{2}, 16), 0, 0, 1, 0, 0, 0, 0, 1)}
			change(b)
		})
	}
	revocation := func(change func(*revocationBody)) []byte {
		body := revocationBody{
			Verb: 1, Kind: 1, Name: "web-1", Key: [32]byte{7}, Before: 1, Keeper: "keeper-1", Issued: 1, Reason: "stolen",
		}
		change(&body)
		return signedAs(revocationLabel, testCluster, encoded(body))
	}
	replied := func(change func(*replyBody)) []byte {
		body := goodReply()
		change(&body)
		return signedAs(replyLabel, testCluster, encoded(body))
	}
	hello := func(change func(*helloBody)) []byte {
		body := helloBody{Purpose: 2, Record: []byte("record"), Highest: 7, Primary: 6, Millis: 1}
		change(&body)
		return encoded(body)
	}
	payload := encoded(recordBody{Name: "web-1", Sequence: 1, Boot: [16]byte{1}, Credential: []byte("c"),
		Endpoints: [][]byte{{192, 0, 2, 1, 0x1f, 0x0a}}})
	// 02 01, key 2 with the sequence 1, in a longer form.
	longer := bytes.Replace(payload, []byte("web-1\x02\x01"), []byte("web-1\x02\x18\x01"), 1)
	// One more field, and the map says so.
	more := append([]byte{payload[0] + 1}, append(bytes.Clone(payload[1:]), 7, 1)...)

	signer := []given{{"cluster", testCluster[:]}, {"public key", public(testKey(1))}}
	known := func(target Target, now time.Time) []given {
		return []given{{"cluster", testCluster[:]}, {"knock secret", testKnockSecret}, {"target", target}, givenTime(now)}
	}
	knock := func(file, why string, accept bool, target Target, now time.Time) vector {
		return vector{file, "knock", accept, why, examples["knock"], known(target, now)}
	}
	unprotected := bytes.Replace(examples["node record"], []byte{0xa0, 0x58}, []byte{0xa1, 0x00, 0x00, 0x58}, 1)

	return []vector{
		{"door-check", "door", false, "The check bytes are not zero.", changed("door", 15, 1), nil},
		{"door-type", "door", false, "Type 99 is unknown.", changed("door", 0, 99), nil},
		{"door-zero", "door", false, "Type 0 is unknown.", changed("door", 0, 0), nil},
		{"plaintext-padding", "plaintext", false, "The last byte of the padding is not zero.", changed("plaintext", -1, 1), nil},
		{"plaintext-step", "plaintext", false, "The payload would fit a datagram that is a step shorter.",
			append(must(t)(AppendPlaintext(nil, []byte("a payload of 30 bytes, 1 step."))), make([]byte, DatagramStep)...), nil},
		{"plaintext-length", "plaintext", false, "The length ends behind the plaintext.", changed("plaintext", 0, 1), nil},
		{"gossip-empty", "gossip", false, "No memberlist packet after the evidence.", []byte{1, 0, 1, 'e'}, nil},
		{"gossip-cut", "gossip", false, "The evidence is cut off.", []byte{1, 0, 9, 'e'}, nil},
		{"gossip-count", "gossip", false, "13 pieces of evidence.", append(append([]byte{13}, bytes.Repeat([]byte{0, 1, 'e'}, 13)...), 'm'), nil},
		{"events-empty", "batch of events", false, "The second item is empty.", []byte{0, 1, 'x', 0, 0}, nil},
		{"events-none", "batch of events", false, "No item.", []byte{}, nil},
		{"events-cut", "batch of events", false, "The second item is cut off.", cut("batch of events"), nil},
		{"events-many", "batch of events", false, "13 items.", bytes.Repeat([]byte{0, 1, 'x'}, 13), nil},
		{"events-long", "batch of events", false, "An item of 1,181 bytes.", append([]byte{0x04, 0x9d}, make([]byte, 1181)...), nil},
		{"challenge-padding", "challenge", false, "The last byte is not zero.", changed("challenge", -1, 1), nil},
		{"challenge-short", "challenge", false, "A byte less than a payload can have.", cut("challenge"), nil},
		{"response-long", "path response", false, "A byte behind the time.", append(bytes.Clone(examples["path response"]), 0), nil},
		{"response-time", "path response", false, "The time is a millisecond after the year 9999.",
			binary.BigEndian.AppendUint64([]byte{1, 2, 3, 4, 5, 6, 7, 8}, (maxUnixSeconds+1)*1000), nil},

		{"record-signature", "node record", false, "One bit of the signature is flipped.",
			changed("node record", -1, examples["node record"][len(examples["node record"])-1]^1), signer},
		{"record-cluster", "node record", false, "It was signed in another cluster.", signedAs(recordLabel, otherCluster, payload), signer},
		{"record-label", "node record", false, "It was signed as an epoch statement.", signedAs(epochLabel, testCluster, payload), signer},
		{"record-key", "node record", false, "Another key signed it.",
			must(t)(cose.Sign(testKey(2), cose.Context(recordLabel, testCluster), payload)), signer},
		{"record-unprotected", "node record", false, "Something is in the unprotected header.", unprotected, signer},
		{"record-longer", "node record", false, "The sequence is an integer in a longer form.", signedAs(recordLabel, testCluster, longer), signer},
		{"record-more", "node record", false, "A field 7.", signedAs(recordLabel, testCluster, more), signer},
		{"record-boot", "node record", false, "The boot nonce is zero.", record(func(b *recordBody) { b.Boot = [16]byte{} }), signer},
		{"record-sequence", "node record", false, "The sequence is 2^63.", record(func(b *recordBody) { b.Sequence = 1 << 63 }), signer},
		{"record-nowhere", "node record", false, "No endpoint.", record(func(b *recordBody) { b.Endpoints = [][]byte{} }), signer},
		{"record-twice", "node record", false, "An endpoint twice.",
			record(func(b *recordBody) { b.Endpoints = append(b.Endpoints, b.Endpoints[0]) }), signer},
		{"record-port", "node record", false, "An endpoint without a port.",
			record(func(b *recordBody) { b.Endpoints = [][]byte{{192, 0, 2, 1, 0, 0}} }), signer},
		{"record-multicast", "node record", false, "The endpoint is a multicast address.",
			record(func(b *recordBody) { b.Endpoints = [][]byte{{224, 0, 0, 1, 0x1f, 0x0a}} }), signer},
		{"record-mapped", "node record", false, "The endpoint is IPv4 dressed as IPv6.",
			record(func(b *recordBody) { b.Endpoints = [][]byte{{10: 0xff, 0xff, 192, 0, 2, 1, 0x1f, 0x0a}} }), signer},
		{"record-loopback", "node record", false, "A loopback endpoint beside another.",
			record(func(b *recordBody) { b.Endpoints = append(b.Endpoints, []byte{127, 0, 0, 1, 0x1f, 0x0a}) }), signer},

		{"statement-first", "epoch statement", false, "Number 1 has a previous epoch.",
			statement(func(b *statementBody) { b.Previous[0] = 1 }), signer},
		{"statement-orphan", "epoch statement", false, "Number 2 has no previous epoch.",
			statement(func(b *statementBody) { b.Number = 2 }), signer},
		{"statement-action", "epoch statement", false, "Action 4 is unknown.", statement(func(b *statementBody) { b.Action = 4 }), signer},
		{"statement-commitment", "epoch statement", false, "No commitment.",
			statement(func(b *statementBody) { b.Commitment = [32]byte{} }), signer},
		{"statement-reason", "epoch statement", false, "No reason.", statement(func(b *statementBody) { b.Reason = "" }), signer},

		{"statement-named-many", "epoch statement", false, "Seven revocations are named.", naming(func(b *statementBody) {
			b.Named = nil
			for i := range 7 {
				b.Named = append(b.Named, append(bytes.Repeat([]byte{byte(i)}, 16), 0, 0, 1, 0, 0, 0, 0, 0))
			}
		}), signer},
		{"statement-named-twice", "epoch statement", false, "A subject is named twice.",
			naming(func(b *statementBody) { b.Named[1] = b.Named[0] }), signer},
		{"statement-named-order", "epoch statement", false, "The named revocations are not ascending.",
			naming(func(b *statementBody) { slices.Reverse(b.Named) }), signer},
		{"statement-named-short", "epoch statement", false, "A named revocation of 23 bytes.",
			naming(func(b *statementBody) { b.Named[1] = b.Named[1][:23] }), signer},
		{"statement-named-none", "epoch statement", false, "Revocations are named, and there is no digest.",
			naming(func(b *statementBody) { b.Revoked = nil }), signer},
		{"statement-named-use", "epoch statement", false, "A use that names revocations.",
			naming(func(b *statementBody) { b.Action = 2 }), signer},
		{"statement-revoked-zero", "epoch statement", false, "The digest of revocations is zero.",
			statement(func(b *statementBody) { b.Revoked = make([]byte, 16) }), signer},

		{"revocation-verb", "revocation", false, "Verb 4 is unknown.", revocation(func(b *revocationBody) { b.Verb = 4 }), signer},
		{"revocation-kind", "revocation", false, "Kind 3 is unknown.", revocation(func(b *revocationBody) { b.Kind = 3 }), signer},
		{"revocation-name", "revocation", false, "No name.", revocation(func(b *revocationBody) { b.Name = "" }), signer},
		{"revocation-before", "revocation", false, "It voids what was issued before 1970.",
			revocation(func(b *revocationBody) { b.Before = 0 }), signer},
		{"revocation-ban", "revocation", false, "A ban that ends.", revocation(func(b *revocationBody) { b.Verb = 2 }), signer},
		{"revocation-ever", "revocation", false, "An eviction for ever.",
			revocation(func(b *revocationBody) { b.Before = maxUnixSeconds * 1000 }), signer},
		{"revocation-reason", "revocation", false, "No reason.", revocation(func(b *revocationBody) { b.Reason = "" }), signer},
		{"revocation-label", "revocation", false, "It was signed as an epoch statement.",
			signedAs(epochLabel, testCluster, encoded(revocationBody{
				Verb: 1, Kind: 1, Name: "web-1", Key: [32]byte{7}, Before: 1, Keeper: "keeper-1", Issued: 1, Reason: "stolen",
			})), signer},

		{"hello-purpose", "hello", false, "Purpose 7 is unknown.", hello(func(b *helloBody) { b.Purpose = 7 }), nil},
		{"hello-primary", "hello", false, "It seals with an epoch above the highest it holds.", hello(func(b *helloBody) { b.Primary = 8 }), nil},
		{"hello-time", "hello", false, "The time is zero.", hello(func(b *helloBody) { b.Millis = 0 }), nil},
		{"frame-type", "frame", false, "Type 12 is unknown.", []byte{12, 0, 0, 0, 0}, nil},
		{"frame-long", "frame", false, "A hello that claims 873 bytes.", []byte{1, 0, 0, 0x03, 0x69}, nil},
		{"frame-cut", "frame", false, "The body is cut off.", cut("frame"), nil},
		{"secret-request-zero", "secret request", false, "Number 0.", make([]byte, SecretRequestSize), nil},
		{"secret-request-short", "secret request", false, "A byte less.", cut("secret request"), nil},
		{"ack-primary", "ack", false, "It seals with an epoch above the highest it holds.", Ack{Lowest: 5, Highest: 6, Primary: 7}.Append(nil), nil},
		{"ack-lowest", "ack", false, "It seals with an epoch below the lowest it holds.", Ack{Lowest: 6, Highest: 7, Primary: 5}.Append(nil), nil},
		{"refusal-code", "refusal", false, "Code 6 is unknown.", []byte{6}, nil},
		{"refusal-text", "refusal", false, "The text is not UTF-8.", []byte{3, 0xff}, nil},
		{"queries-none", "batch of queries", false, "No item.", []byte{}, nil},
		{"queries-long", "batch of queries", false, "A query of 1,101 bytes.", append([]byte{0x04, 0x4d}, make([]byte, 1101)...), nil},
		{"replies-none", "batch of replies", false, "No item.", []byte{}, nil},
		{"replies-cut", "batch of replies", false, "The second item is cut off.", cut("batch of replies"), nil},
		{"taken-short", "taken", false, "A byte less.", cut("taken"), nil},
		{"receipt-short", "receipt", false, "A byte less.", cut("receipt"), nil},
		{"receipt-long", "receipt", false, "A byte more.", append(bytes.Clone(examples["receipt"]), 0), nil},
		{"taken-kind", "taken", false, "Kind 4 is unknown.", changed("taken", -1, 4), nil},
		{"reply-kind", "reply", false, "Kind 4 is unknown.", replied(func(r *replyBody) { r.Kind, r.Payload = 4, nil }), signer},
		{"reply-ack-payload", "reply", false, "An ack with a payload.", replied(func(r *replyBody) { r.Kind = 1 }), signer},
		{"reply-nameless", "reply", false, "No name.", replied(func(r *replyBody) { r.Node = "" }), signer},
		{"reply-query", "reply", false, "A query id of 15 bytes.", replied(func(r *replyBody) { r.Query = r.Query[1:] }), signer},
		{"reply-label", "reply", false, "Signed as an event.", signedAs("secgossip/1 event", testCluster, encoded(goodReply())), signer},
		{"reply-cluster", "reply", false, "Signed for another cluster.", signedAs(replyLabel, otherCluster, encoded(goodReply())), signer},
		{"carried-type", "carried packet", false, "Type 99 is unknown.", changed("carried packet", 0, 99), nil},
		{"carried-empty", "carried packet", false, "No type.", []byte{}, nil},
		{"carried-long", "carried packet", false, "A byte more than a datagram carries.", append([]byte{1}, make([]byte, MaxPayload+1)...), nil},
		knock("knock-late", "It is two minutes and a millisecond old.", false, testTarget, testTime.Add(KnockTolerance+time.Millisecond)),
		knock("knock-early", "It is two minutes and a millisecond ahead.", false, testTarget, testTime.Add(-KnockTolerance-time.Millisecond)),
		knock("knock-target", "It is for another node.", false, NodeTarget("web-2"), testTime),
		{"knock-cluster", "knock", false, "It is for another cluster.",
			MakeKnock(testMAC, otherCluster, testTarget, testTime, [8]byte{1}).Append(nil), known(testTarget, testTime)},
		{"knock-damaged", "knock", false, "One bit of the random bytes is flipped.", changed("knock", 15, 9), known(testTarget, testTime)},

		{"door", "door", true, "Type 2, hint 010203040506, counter 0x0a0b0c0d0e.", examples["door"], nil},
		{"plaintext", "plaintext", true, "33 bytes of payload need a second step.", examples["plaintext"], nil},
		{"gossip", "gossip", true, "Two pieces of evidence and the packet \"memberlist\".", examples["gossip"], nil},
		{"events", "batch of events", true, "Two items. What is in them is not this layer's.", examples["batch of events"], nil},
		{"queries", "batch of queries", true, "Two items. What is in them is not this layer's.", examples["batch of queries"], nil},
		{"replies", "batch of replies", true, "Two items.", examples["batch of replies"], nil},
		{"receipt", "receipt", true, "The event 01020300000000000000000000000000.", examples["receipt"], nil},
		{"taken", "taken", true, "An answer to the query 01020300000000000000000000000000.", examples["taken"], nil},
		{"reply", "reply", true, "An answer of the node web-1.", examples["reply"], signer},
		{"reply-ack", "reply", true, "An ack.", replied(func(r *replyBody) { r.Kind, r.Payload = 1, nil }), signer},
		{"challenge", "challenge", true, "Token 0102030405060708, the fourth try.", examples["challenge"], nil},
		{"response", "path response", true, "Token 0102030405060708, 1,780,000,000 s after 1970.", examples["path response"], nil},
		{"record", "node record", true, "Two endpoints, IPv4 and IPv6.", examples["node record"], signer},
		{"record-leaving", "node record", true, "The node leaves.", record(func(b *recordBody) { b.Leaving = true }), signer},
		{"statement", "epoch statement", true, "Install 7, by the keeper keeper-1.", examples["epoch statement"], signer},
		{"statement-named", "epoch statement", true, "A digest of the revocations, and two that are named.",
			naming(func(*statementBody) {}), signer},
		{"revocation", "revocation", true, "The node web-1 is evicted.", examples["revocation"], signer},
		{"revocation-for-ever", "revocation", true, "A client is banned, by its name alone.", revocation(func(b *revocationBody) {
			b.Verb, b.Kind, b.Key, b.Before = 2, 2, [32]byte{}, maxUnixSeconds*1000
		}), signer},
		{"hello", "hello", true, "Purpose 2, highest 7, primary 6, 1,780,000,000 s after 1970.", examples["hello"], nil},
		{"frame", "frame", true, "A frame of type 1. Its body is not this layer's.", examples["frame"], nil},
		{"secret-request", "secret request", true, "Epoch 7.", examples["secret request"], nil},
		{"ack", "ack", true, "Lowest 5, highest 7, primary 6, 4 datagrams sealed.", examples["ack"], nil},
		{"refusal", "refusal", true, "Code 3.", examples["refusal"], nil},
		{"carried", "carried packet", true, "A packet of type 2.", examples["carried packet"], nil},
		knock("knock", "For the node web-1, when it was made.", true, testTarget, testTime),
		knock("knock-at-the-end", "For the node web-1, two minutes later.", true, testTarget, testTime.Add(KnockTolerance)),
		{"knock-endpoint", "knock", true, "For whoever is at 192.0.2.1, port 7946.",
			MakeKnock(testMAC, testCluster, EndpointTarget(testRecord().Endpoints[0]), testTime, [8]byte{2}).Append(nil),
			known(EndpointTarget(testRecord().Endpoints[0]), testTime)},
	}
}

func (v vector) text() []byte {
	var out bytes.Buffer
	verdict := map[bool]string{true: "accept", false: "refuse"}[v.accept]
	fmt.Fprintf(&out, "message: %s\nreceiver: %s\nwhy: %s\n", v.codec, verdict, v.why)
	for _, g := range v.given {
		if g.name == "now in ms" {
			fmt.Fprintf(&out, "%s: %s\n", g.name, g.value)
		} else {
			fmt.Fprintf(&out, "%s: %x\n", g.name, g.value)
		}
	}
	fmt.Fprintln(&out)
	for line := range slices.Chunk([]byte(hex.EncodeToString(v.raw)), 64) {
		fmt.Fprintf(&out, "%s\n", line)
	}
	return out.Bytes()
}

// accepts says what this code makes of a message: whether it reads, and whether it
// is genuine where that can be told.
func (v vector) accepts(t *testing.T, raw []byte) bool {
	all := codecs()
	c := all[slices.IndexFunc(all, func(c codec) bool { return c.name == v.codec })]
	if again, err := c.again(raw); err != nil || !bytes.Equal(again, raw) {
		return false
	}
	switch v.codec {
	case "node record":
		r, err := ParseRecord(raw)
		return err == nil && r.Verify(public(testKey(1)), testCluster) == nil
	case "epoch statement":
		s, err := ParseStatement(raw)
		return err == nil && s.Verify(public(testKey(1)), testCluster) == nil
	case "revocation":
		r, err := ParseRevocation(raw)
		return err == nil && r.Verify(public(testKey(1)), testCluster) == nil
	case "reply":
		r, err := reply.Parse(raw)
		return err == nil && r.Verify(public(testKey(1)), testCluster) == nil
	case "knock":
		k, err := ParseKnock(raw)
		if err != nil {
			return false
		}
		var millis int64
		if _, err := fmt.Sscan(string(v.given[3].value), &millis); err != nil {
			t.Fatal(err)
		}
		return CheckKnock(k, testMAC, testCluster, []Target{v.given[2].value}, time.UnixMilli(millis))
	}
	return true
}

func TestVectors(t *testing.T) {
	files := make(map[string]bool)
	refused := 0
	for _, v := range vectors(t) {
		path := filepath.Join("testdata", v.file+".txt")
		files[path] = true
		if !v.accept {
			refused++
		}
		if *update {
			if err := os.WriteFile(path, v.text(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text, v.text()) {
			t.Errorf("%s: this code would write\n%s\ninstead of\n%s", path, v.text(), text)
		}
		if got := v.accepts(t, v.raw); got != v.accept {
			t.Errorf("%s: accepted %t, want %t", path, got, v.accept)
		}
	}
	if accepted := len(files) - refused; refused <= accepted {
		t.Errorf("%d vectors are refused and %d accepted: what must be refused is the point", refused, accepted)
	}
	found, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		if !files[path] {
			t.Errorf("%s is no vector of this code", path)
		}
	}
}
