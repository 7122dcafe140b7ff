package wire

import (
	"bytes"
	"slices"
	"testing"
)

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	for _, c := range codecs() {
		raw := c.example(t)
		again, err := c.again(raw)
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%s: got %x (%v), want %x", c.name, again, err, raw)
		}
	}
}

// A truncation is refused. Where the last part has no length of its own it may
// be another message, but then it is written exactly as it came.
func TestEveryTruncationIsRefused(t *testing.T) {
	for _, c := range codecs() {
		raw := c.example(t)
		for n := range raw {
			again, err := c.again(raw[:n])
			if err == nil && (!c.open || !bytes.Equal(again, raw[:n])) {
				t.Errorf("%s: %d of %d bytes: accepted", c.name, n, len(raw))
			}
		}
	}
}

func TestEveryExtensionIsRefused(t *testing.T) {
	for _, c := range codecs() {
		if c.open {
			continue
		}
		raw := append(c.example(t), 0)
		if _, err := c.again(raw); err == nil {
			t.Errorf("%s: a byte more: accepted", c.name)
		}
	}
}

// A flipped bit is refused or gives another message, never the same one: no bit
// may be without meaning.
func TestEveryBitHasAMeaning(t *testing.T) {
	for _, c := range codecs() {
		raw := c.example(t)
		for i := range len(raw) * 8 {
			bad := flipped(raw, i)
			if again, err := c.again(bad); err == nil && !bytes.Equal(again, bad) {
				t.Errorf("%s: bit %d flipped: read as %x", c.name, i, again)
			}
		}
	}
}

// The package's rule, for each parser: parse, then append, gives the same bytes.

func FuzzDoorHasOneEncoding(f *testing.F)            { fuzzCodec(f, "door") }
func FuzzPlaintextHasOneEncoding(f *testing.F)       { fuzzCodec(f, "plaintext") }
func FuzzGossipHasOneEncoding(f *testing.F)          { fuzzCodec(f, "gossip") }
func FuzzEventsHaveOneEncoding(f *testing.F)         { fuzzCodec(f, "batch of events") }
func FuzzEpochsHaveOneEncoding(f *testing.F)         { fuzzCodec(f, "batch of epochs") }
func FuzzQueriesHaveOneEncoding(f *testing.F)        { fuzzCodec(f, "batch of queries") }
func FuzzRepliesHaveOneEncoding(f *testing.F)        { fuzzCodec(f, "batch of replies") }
func FuzzReplyHasOneEncoding(f *testing.F)           { fuzzCodec(f, "reply") }
func FuzzTakenHasOneEncoding(f *testing.F)           { fuzzCodec(f, "taken") }
func FuzzReceiptHasOneEncoding(f *testing.F)         { fuzzCodec(f, "receipt") }
func FuzzRosterHasOneEncoding(f *testing.F)          { fuzzCodec(f, "roster") }
func FuzzIssuersHaveOneEncoding(f *testing.F)        { fuzzCodec(f, "issuers") }
func FuzzStatementsHaveOneEncoding(f *testing.F)     { fuzzCodec(f, "statements") }
func FuzzRecordHasOneEncoding(f *testing.F)          { fuzzCodec(f, "node record") }
func FuzzStatementHasOneEncoding(f *testing.F)       { fuzzCodec(f, "epoch statement") }
func FuzzNamingStatementHasOneEncoding(f *testing.F) { fuzzCodec(f, "naming statement") }
func FuzzRevocationHasOneEncoding(f *testing.F)      { fuzzCodec(f, "revocation") }
func FuzzHelloHasOneEncoding(f *testing.F)           { fuzzCodec(f, "hello") }
func FuzzFrameHasOneEncoding(f *testing.F)           { fuzzCodec(f, "frame") }
func FuzzSecretRequestHasOneEncoding(f *testing.F)   { fuzzCodec(f, "secret request") }
func FuzzRefusalHasOneEncoding(f *testing.F)         { fuzzCodec(f, "refusal") }
func FuzzKnockHasOneEncoding(f *testing.F)           { fuzzCodec(f, "knock") }
func FuzzChallengeHasOneEncoding(f *testing.F)       { fuzzCodec(f, "challenge") }
func FuzzResponseHasOneEncoding(f *testing.F)        { fuzzCodec(f, "path response") }
func FuzzCarriedHasOneEncoding(f *testing.F)         { fuzzCodec(f, "carried packet") }

func fuzzCodec(f *testing.F, name string) {
	for _, v := range vectors(f) { // the ones to refuse are good places to start, too
		if v.codec == name {
			f.Add(v.raw)
		}
	}
	all := codecs()
	c := all[slices.IndexFunc(all, func(c codec) bool { return c.name == name })]
	f.Add(c.example(f))
	f.Fuzz(func(t *testing.T, raw []byte) {
		again, err := c.again(raw)
		if err == nil && !bytes.Equal(again, raw) {
			t.Errorf("%x is written as %x", raw, again)
		}
	})
}

func flipped(raw []byte, bit int) []byte {
	bad := bytes.Clone(raw)
	bad[bit/8] ^= 1 << (bit % 8)
	return bad
}
