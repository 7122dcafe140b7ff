package wire

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/secgossip/secgossip/internal/cose"
)

func TestRecordVerifiesForItsKeyAndClusterOnly(t *testing.T) {
	raw := mustRecord(t, testRecord())
	r, err := ParseRecord(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(r.Record, testRecord()) {
		t.Errorf("got %+v, want %+v", r.Record, testRecord())
	}
	if r.Digest != sha256.Sum256(raw) || !bytes.Equal(r.Raw, raw) {
		t.Errorf("digest %x of %x does not belong to %x", r.Digest, r.Raw, raw)
	}
	if err := r.Verify(public(testKey(1)), testCluster); err != nil {
		t.Errorf("Verify: %v", err)
	}
	if err := r.Verify(public(testKey(2)), testCluster); !errors.Is(err, cose.ErrSignature) {
		t.Errorf("another key: got %v, want ErrSignature", err)
	}
	if err := r.Verify(public(testKey(1)), otherCluster); !errors.Is(err, cose.ErrSignature) {
		t.Errorf("another cluster: got %v, want ErrSignature", err)
	}
}

func TestEveryFlippedBitOfARecordIsRefused(t *testing.T) {
	raw := mustRecord(t, testRecord())
	for bit := range len(raw) * 8 {
		r, err := ParseRecord(flipped(raw, bit))
		if err == nil && r.Verify(public(testKey(1)), testCluster) == nil {
			t.Errorf("bit %d flipped: accepted", bit)
		}
	}
}

// What a node signs as one thing must not be taken for the other.
func TestRecordAndStatementDoNotPassForEachOther(t *testing.T) {
	payload, err := testRecord().encode()
	if err != nil {
		t.Fatal(err)
	}
	raw := must(t)(cose.Sign(testKey(1), cose.Context(epochLabel, testCluster), payload))
	r, err := ParseRecord(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(public(testKey(1)), testCluster); !errors.Is(err, cose.ErrSignature) {
		t.Errorf("got %v, want ErrSignature", err)
	}
}

func TestImpossibleRecordIsNotSigned(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Record)
	}{
		{"no name", func(r *Record) { r.Name = "" }},
		{"long name", func(r *Record) { r.Name = strings.Repeat("n", MaxName+1) }},
		{"no sequence", func(r *Record) { r.Sequence = 0 }},
		{"sequence that is no time", func(r *Record) { r.Sequence = 1 << 63 }},
		{"no boot nonce", func(r *Record) { r.Boot = [16]byte{} }},
		{"no endpoint", func(r *Record) { r.Endpoints = nil }},
		{"too many endpoints", func(r *Record) {
			r.Endpoints = append(largestRecord().Endpoints, r.Endpoints[0])
		}},
		{"an endpoint twice", func(r *Record) { r.Endpoints[1] = r.Endpoints[0] }},
		{"loopback beside another", func(r *Record) { r.Endpoints[1] = netip.MustParseAddrPort("127.0.0.2:7946") }},
		{"another beside loopback", func(r *Record) { r.Endpoints[0] = netip.MustParseAddrPort("[::1]:7946") }},
		{"no address", func(r *Record) { r.Endpoints[0] = netip.AddrPort{} }},
		{"no credential", func(r *Record) { r.Credential = nil }},
		{"long credential", func(r *Record) { r.Credential = make([]byte, MaxCredential+1) }},
	} {
		r := testRecord()
		test.change(&r)
		if raw, err := SignRecord(testKey(1), testCluster, r); err == nil {
			t.Errorf("%s: signed as %x", test.name, raw)
		}
	}
}

func TestEndpointThatIsNoHostIsRefused(t *testing.T) {
	for _, text := range []string{
		"0.0.0.0:7946", "[::]:7946", // anywhere
		"224.0.0.251:7946", "[ff02::1]:7946", "255.255.255.255:7946", // everybody
		"[::ffff:192.0.2.1]:7946", // a second form of 192.0.2.1
		"[fe80::1%eth0]:7946",     // means something else on each host
		"192.0.2.1:0",
	} {
		r := testRecord()
		r.Endpoints = []netip.AddrPort{netip.MustParseAddrPort(text)}
		if _, err := SignRecord(testKey(1), testCluster, r); err == nil {
			t.Errorf("%s: signed", text)
		}
	}
}

// What a member with a valid key can sign, against our own checks.
func TestMalformedRecordIsRefusedThoughItVerifies(t *testing.T) {
	v4 := []byte{192, 0, 2, 1, 0x1f, 0x0a}
	mapped := append([]byte{10: 0xff, 11: 0xff}, v4...)
	good := recordBody{Name: "web-1", Sequence: 1, Boot: [16]byte{1}, Endpoints: [][]byte{v4}, Credential: []byte("c")}
	for _, test := range []struct {
		name   string
		change func(*recordBody)
	}{
		{"nothing wrong", nil},
		{"endpoints null", func(b *recordBody) { b.Endpoints = nil }},
		{"endpoints empty", func(b *recordBody) { b.Endpoints = [][]byte{} }},
		{"an endpoint null", func(b *recordBody) { b.Endpoints = [][]byte{nil} }},
		{"five bytes", func(b *recordBody) { b.Endpoints = [][]byte{v4[:5]} }},
		{"IPv4 dressed as IPv6", func(b *recordBody) { b.Endpoints = [][]byte{mapped} }},
		{"loopback beside another", func(b *recordBody) { b.Endpoints = [][]byte{v4, {127, 0, 0, 1, 1, 1}} }},
		{"port zero", func(b *recordBody) { b.Endpoints = [][]byte{{192, 0, 2, 1, 0, 0}} }},
		{"an endpoint twice", func(b *recordBody) { b.Endpoints = [][]byte{v4, v4} }},
		{"nine endpoints", func(b *recordBody) {
			for i := range byte(8) {
				b.Endpoints = append(b.Endpoints, []byte{10, 0, 0, i + 1, 1, 1})
			}
		}},
		{"credential null", func(b *recordBody) { b.Credential = nil }},
		{"boot nonce zero", func(b *recordBody) { b.Boot = [16]byte{} }},
	} {
		body := good
		body.Endpoints = slices.Clone(good.Endpoints)
		if test.change != nil {
			test.change(&body)
		}
		payload := must(t)(cose.Marshal(body))
		raw := must(t)(cose.Sign(testKey(1), cose.Context(recordLabel, testCluster), payload))
		if _, err := ParseRecord(raw); (err == nil) != (test.change == nil) {
			t.Errorf("%s: got %v", test.name, err)
		}
	}
}

// A record outlives the buffer it came in.
func TestRecordKeepsNothingOfItsBuffer(t *testing.T) {
	raw := mustRecord(t, testRecord())
	r, err := ParseRecord(raw)
	if err != nil {
		t.Fatal(err)
	}
	clear(raw)
	if !reflect.DeepEqual(r.Record, testRecord()) || sha256.Sum256(r.Raw) != r.Digest {
		t.Errorf("after clearing the buffer: got %+v", r.Record)
	}
	if err := r.Verify(public(testKey(1)), testCluster); err != nil {
		t.Errorf("after clearing the buffer: %v", err)
	}
}
