package secgossip

import (
	"bytes"
	"maps"
	"strings"
	"testing"
)

func TestABadTagIsNamedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.host("a").start()
		_, err := a.node.UpdateTags(map[string]string{"role": strings.Repeat("x", 256)}, nil)
		if want := `tags refused: tag "role": value of 256 bytes, at most 255`; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	})
}

func TestBadTagsAreRefused(t *testing.T) {
	many := make(map[string]string)
	for i := range maxTags + 1 {
		many[strings.Repeat("t", i+1)] = ""
	}
	for name, tags := range map[string]map[string]string{
		"no name":              {"": "x"},
		"long name":            {strings.Repeat("n", maxTagName+1): "x"},
		"long value":           {"n": strings.Repeat("v", maxTagValue+1)},
		"newline in the value": {"n": "a\nb"},
		"escape in the name":   {"\x1b[2J": "x"},
		"NUL":                  {"n": "\x00"},
		"C1 control":           {"n": "\u009b31m"},
		"not UTF-8":            {"n": "\xff"},
		"too many":             many,
		"too large together":   {"a": strings.Repeat("a", 250), "b": strings.Repeat("b", 250), "c": strings.Repeat("c", 10)},
	} {
		if err := CheckTags(tags); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTagsSurviveTheWire(t *testing.T) {
	for _, tags := range []map[string]string{{}, {"role": "web"}, {"a": "", "ü": "x=1,y\t"[:5]}} {
		if err := CheckTags(tags); err != nil {
			t.Fatal(err)
		}
		got, err := decodeTags(encodeTags(tags))
		if err != nil || !maps.Equal(got, tags) {
			t.Errorf("got %v, %v, want %v", got, err, tags)
		}
	}
}

// Every problem is named, not the first one only.
func TestAllProblemsOfTagsAreReported(t *testing.T) {
	err := CheckTags(map[string]string{"": "x", "n": "a\nb"})
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("got %v, want two problems", err)
	}
}

func FuzzTagsHaveOneEncoding(f *testing.F) {
	f.Add(encodeTags(map[string]string{"role": "web", "zone": "a"}))
	f.Add([]byte{0xa1, 0x61, 'a', 0x60})
	f.Fuzz(func(t *testing.T, meta []byte) {
		tags, err := decodeTags(meta)
		if err == nil && !bytes.Equal(encodeTags(tags), meta) {
			t.Errorf("%x has a second encoding", meta)
		}
	})
}

func TestNewTagsReachEveryMember(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		if err := b.node.SetTags(map[string]string{"role": "db"}); err != nil {
			t.Fatal(err)
		}
		if err := b.node.SetTags(map[string]string{"bell": "\a"}); err == nil {
			t.Error("a tag that is not printable was accepted")
		}
		c.settle()
		for _, h := range []*host{a, b, d} {
			for _, m := range h.node.Members() {
				if m.Name == "b" && m.Tags["role"] != "db" {
					t.Errorf("%s has %v for b, want the role db", h.name, m.Tags)
				}
			}
		}
	})
}
