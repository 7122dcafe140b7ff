package wire

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
)

func TestRevocationVerifiesForItsKeyAndClusterOnly(t *testing.T) {
	r, err := ParseRevocation(mustRevocation(t, testRevocation()))
	if err != nil {
		t.Fatal(err)
	}
	if r.Revocation != testRevocation() {
		t.Errorf("got %+v, want %+v", r.Revocation, testRevocation())
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

func TestEveryFlippedBitOfARevocationIsRefused(t *testing.T) {
	raw := mustRevocation(t, testRevocation())
	for bit := range len(raw) * 8 {
		r, err := ParseRevocation(flipped(raw, bit))
		if err == nil && r.Verify(public(testKey(1)), testCluster) == nil {
			t.Errorf("bit %d flipped: accepted", bit)
		}
	}
}

// The same through both doors, as for epoch statements.
func TestImpossibleRevocationIsRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Revocation)
	}{
		{"no verb", func(r *Revocation) { r.Verb = 0 }},
		{"unknown verb", func(r *Revocation) { r.Verb = 4 }},
		{"no kind", func(r *Revocation) { r.Kind = 0 }},
		{"unknown kind", func(r *Revocation) { r.Kind = 3 }},
		{"no name", func(r *Revocation) { r.Name = "" }},
		{"long name", func(r *Revocation) { r.Name = strings.Repeat("n", MaxName+1) }},
		{"no keeper", func(r *Revocation) { r.Keeper = "" }},
		{"no time", func(r *Revocation) { r.Issued = time.UnixMilli(0) }},
		{"a time after the year 9999", func(r *Revocation) { r.Issued = Forever.Add(time.Millisecond) }},
		{"a time before 1970, or that overflows", func(r *Revocation) { r.Before = time.UnixMilli(-1) }},
		{"a ban that ends", func(r *Revocation) { r.Verb = VerbBan }},
		{"an eviction for ever", func(r *Revocation) { r.Before = Forever }},
		{"the end of a ban for ever", func(r *Revocation) { r.Verb, r.Before = VerbUnban, Forever }},
		{"no reason", func(r *Revocation) { r.Reason = "" }},
		{"long reason", func(r *Revocation) { r.Reason = strings.Repeat("r", MaxReason+1) }},
	} {
		r := testRevocation()
		test.change(&r)
		if _, err := SignRevocation(testKey(1), testCluster, r); err == nil {
			t.Errorf("%s: signed", test.name)
		}
		payload := must(t)(cose.Marshal(revocationBody{
			uint8(r.Verb), uint8(r.Kind), r.Name, r.Key, uint64(r.Before.UnixMilli()), r.Keeper, uint64(r.Issued.UnixMilli()), r.Reason,
		}))
		raw := must(t)(cose.Sign(testKey(1), cose.Context(revocationLabel, testCluster), payload))
		if _, err := ParseRevocation(raw); err == nil {
			t.Errorf("%s: parsed", test.name)
		}
	}
}

// Kind, name and key are all of a subject.
func TestSubjectsHaveHashesOfTheirOwn(t *testing.T) {
	one := testRevocation().Subject
	seen := map[[SubjectSize]byte]bool{one.Hash(): true}
	for _, change := range []func(*Subject){
		func(s *Subject) { s.Kind = KindClient },
		func(s *Subject) { s.Name = "web-2" },
		func(s *Subject) { s.Key[31] = 1 },
	} {
		other := one
		change(&other)
		if seen[other.Hash()] {
			t.Errorf("%+v has the hash of another", other)
		}
		seen[other.Hash()] = true
	}
}

func TestVerbsHaveTheNamesOfTheirCommands(t *testing.T) {
	for verb, want := range map[Verb]string{VerbEvict: "evict", VerbBan: "ban", VerbUnban: "unban", 9: "verb 9"} {
		if got := verb.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
