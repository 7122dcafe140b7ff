package wire

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/secgossip/secgossip/internal/cose"
)

var update = flag.Bool("update", false, "write the vectors in testdata anew")

// A vector is one message in a file of testdata, for whoever writes the other end
// of the protocol. It says whether a receiver accepts it, and why.
type vector struct {
	file   string
	codec  string // name of the codec that reads it
	accept bool
	why    string
	raw    []byte
}

func vectors(t testing.TB) []vector {
	examples := make(map[string][]byte)
	for _, c := range codecs() {
		examples[c.name] = c.example(t)
	}
	changed := func(name string, at int, value byte) []byte {
		raw := bytes.Clone(examples[name])
		raw[at] = value
		return raw
	}
	const signer = "Signed with the Ed25519 key whose seed is 32 bytes 01, in the cluster whose id is 32 bytes c1."
	signedAs := func(label string, body any) []byte {
		return must(t)(cose.Sign(testKey(1), cose.Context(label, testCluster), must(t)(cose.Marshal(body))))
	}
	mapped := recordBody{
		Name: "web-1", Sequence: 1, Boot: [16]byte{1}, Credential: []byte("c"),
		Endpoints: [][]byte{{10: 0xff, 0xff, 192, 0, 2, 1, 0x1f, 0x0a}},
	}
	forked := statementBody{
		Action: 1, Number: 1, Previous: [32]byte{1}, Commitment: [32]byte{7},
		Keeper: "keeper-1", Issued: 1, Reason: "init",
	}
	return []vector{
		{"door", "door", true, "Type 2, hint 010203040506, counter 0x0a0b0c0d0e.", examples["door"]},
		{"door-check", "door", false, "The check bytes are not zero.", changed("door", 15, 1)},
		{"door-type", "door", false, "Type 7 is unknown.", changed("door", 0, 7)},
		{"plaintext", "plaintext", true, "33 bytes of payload need a second step.", examples["plaintext"]},
		{"plaintext-padding", "plaintext", false, "The last byte of the padding is not zero.",
			changed("plaintext", len(examples["plaintext"])-1, 1)},
		{"plaintext-step", "plaintext", false, "The payload would fit a datagram that is a step shorter.",
			changed("plaintext", 1, 30)},
		{"gossip", "gossip", true, "Two pieces of evidence and the packet \"memberlist\".", examples["gossip"]},
		{"gossip-empty", "gossip", false, "No memberlist packet after the evidence.", []byte{1, 0, 1, 'e'}},
		{"events", "batch of events", true, "Two items. What is in them is not this layer's.", examples["batch of events"]},
		{"events-empty", "batch of events", false, "The second item is empty.", []byte{0, 1, 'x', 0, 0}},
		{"record", "node record", true, signer, examples["node record"]},
		{"record-mapped", "node record", false, "The endpoint is IPv4 dressed as IPv6. " + signer, signedAs(recordLabel, mapped)},
		{"statement", "epoch statement", true, signer, examples["epoch statement"]},
		{"statement-first", "epoch statement", false, "Number 1 has a previous epoch. " + signer, signedAs(epochLabel, forked)},
		{"hello", "hello", true, "Purpose 2, highest 7, primary 6.", examples["hello"]},
		{"frame", "frame", true, "A frame of type 1. Its body is not this layer's.", examples["frame"]},
		{"secret-request", "secret request", true, "Epoch 7.", examples["secret request"]},
		{"refusal", "refusal", true, "Code 3.", examples["refusal"]},
		{"knock", "knock", true, "2026-05-28T20:26:40Z, random 0102030405060708, knock key \"the knock key of the tests\", " +
			"in the cluster whose id is 32 bytes c1, for the node web-1.", examples["knock"]},
		{"challenge", "challenge", true, "Token 0102030405060708, the fourth try.", examples["challenge"]},
		{"challenge-padding", "challenge", false, "The last byte is not zero.", changed("challenge", ChallengeSize-1, 1)},
		{"carried", "carried packet", true, "A packet of type 2.", examples["carried packet"]},
		{"carried-type", "carried packet", false, "Type 7 is unknown.", changed("carried packet", 0, 7)},
	}
}

func (v vector) text() []byte {
	var out bytes.Buffer
	verdict := map[bool]string{true: "accept", false: "refuse"}[v.accept]
	fmt.Fprintf(&out, "message: %s\nreceiver: %s\nwhy: %s\n\n", v.codec, verdict, v.why)
	for line := range slices.Chunk([]byte(hex.EncodeToString(v.raw)), 64) {
		fmt.Fprintf(&out, "%s\n", line)
	}
	return out.Bytes()
}

func TestVectors(t *testing.T) {
	all := codecs()
	for _, v := range vectors(t) {
		path := filepath.Join("testdata", v.file+".txt")
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
		_, digits, _ := strings.Cut(string(text), "\n\n")
		raw, err := hex.DecodeString(strings.ReplaceAll(digits, "\n", ""))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		i := slices.IndexFunc(all, func(c codec) bool { return c.name == v.codec })
		if again, err := all[i].again(raw); (err == nil && bytes.Equal(again, raw)) != v.accept {
			t.Errorf("%s: got %v, want accept %t", path, err, v.accept)
		}
	}
}
