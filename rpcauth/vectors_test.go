package rpcauth

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/secgossip/secgossip/internal/cose"
)

// The events in docs/protocol.md are what this code writes for what stands above them,
// and a receiver takes them.
func TestEventsOfTheDocumentAreThoseOfTheCode(t *testing.T) {
	c := newCluster(t, "prod")
	key := testKey("ops")
	id := bytes.Repeat([]byte{0x1d}, 16)
	seconds, ms := uint64(start.Unix()), uint64(start.UnixMilli())
	token := must(cose.Sign(testKey("root of prod"), cose.Context(tokenLabel, c.trust.Cluster()), must(cose.Marshal(claims{
		Subject: "ops", NotBefore: seconds, Expires: seconds + 3600, ID: id, Grants: []Grant{"event:deploy"},
		Confirm: confirmation{Key: okpKey{Type: keyTypeOKP, Curve: curveEd25519, X: public(key)}},
	}))))
	large := bytes.Repeat([]byte("x"), 1000)
	digest := sha256.Sum256(large)
	text, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "### 11.1. Two events\n")
	blocks := regexp.MustCompile("(?s)```\n(.*?)```").FindAllStringSubmatch(section, -1)
	if len(blocks) != 3 {
		t.Fatalf("the document has %d blocks there, want 3", len(blocks))
	}
	given := "cluster    " + hex.EncodeToString(sliceOf(c.trust.Cluster())) + "\nclient     " + hex.EncodeToString(public(key)) + "\n"
	if blocks[0][1] != given {
		t.Errorf("the document has\n%s, want\n%s", blocks[0][1], given)
	}
	for i, change := range []func(*eventBody){
		func(b *eventBody) {
			b.Payload, b.Tags = []byte("v1"), []TagFilter{{Tag: "role", Expr: "web.*"}, {Tag: "zone"}}
		},
		func(b *eventBody) { b.Digest, b.Size = digest[:], uint64(len(large)) },
	} {
		body := eventBody{requestBody: requestBody{ID: id, Name: "deploy", LTime: ms, Issued: ms, Expires: ms + 300_000, Token: token}, Coalesce: true}
		change(&body)
		raw := must(eventKind.sign(key, c.trust.Cluster(), &body))
		var want strings.Builder
		for line := raw; len(line) > 0; line = line[min(32, len(line)):] {
			want.WriteString(hex.EncodeToString(line[:min(32, len(line))]) + "\n")
		}
		if blocks[i+1][1] != want.String() {
			t.Errorf("event %d of the document is\n%s, want\n%s", i+1, blocks[i+1][1], want.String())
		}
		e, err := NewVerifier(c.trust).VerifyEvent(raw, start)
		if err != nil {
			t.Fatal(err)
		}
		if tags := map[string]string{"role": "web-old"}; i == 0 && (!e.For("any", tags) || e.For("any", nil)) {
			t.Error("the first event is for others than it says")
		}
		if i == 1 && e.CheckPayload(large) != nil {
			t.Error("the second event announces another payload")
		}
	}
}

func sliceOf(id [32]byte) []byte { return id[:] }
