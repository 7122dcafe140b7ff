// Package hostile makes texts that somebody would send who wants a shell, a
// terminal, a log or a JSON reader to take them for something else. For tests.
package hostile

import (
	"math/rand/v2"
	"strings"
)

// parts are what the texts are made of. CANARY stands for a file that must not come
// into being.
var parts = []string{
	// Shells.
	"$(touch CANARY)", "`touch CANARY`", ";touch CANARY;", "|touch CANARY", "&& touch CANARY", "\ntouch CANARY\n", "> CANARY", "<(touch CANARY)",
	"${IFS}", "$'\\x41'", "'", "\"", "\\", "*", "?", "~", "#", "!", "{a,b}", "--help", "-e", "%s%n", "() { :; }; touch CANARY",
	// Terminals.
	"\x1b[2J", "\x1b]0;title\a", "\x1b]52;c;dG91Y2g=\a", "\x1bP+q\x1b\\", "\u009b31m", "\r", "\b\b\b", "\a", "\x7f", "\x0e", "\f", "\v",
	// The direction of text, and what cannot be seen.
	"\u202e", "\u2066", "\u2069", "\u200f", "\u200b", "\ufeff", "\u2028", "\u2029", "\u0085",
	// Lines and fields.
	"\n", "\r\n", "\t", "\x00", "\n2026-11-28T00:00:00Z level=ERROR msg=forged", "time=x level=INFO msg=\"user event\"", "a=b,c=d",
	// JSON and other forms.
	"\"}", "{\"event\":\"user\"}", "\\u0000", "\\", "]", "</script>", "<!--", "&amp;", "null", "\"},{\"name\":\"x", "---\n- run: x",
	// No UTF-8.
	"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf8\x88\x80\x80\x80", "\xe2\x82", "\x80",
	// Text that is in order.
	"web-1", "deploy", "Grüße", "日本語", "👩‍🚀", " ", "a", "0",
}

// Texts are so many, the same for the same seed: every part by itself, then several
// together, some of them long. File takes the place of CANARY.
func Texts(seed uint64, count int, file string) []string {
	random := rand.New(rand.NewPCG(seed, 0))
	var texts []string
	for len(texts) < count {
		var text strings.Builder
		switch n := len(texts); {
		case n < len(parts):
			text.WriteString(parts[n])
		case n%50 == 0:
			for text.Len() < 4096 {
				text.WriteString(parts[random.IntN(len(parts))])
			}
		default:
			for range 1 + random.IntN(8) {
				text.WriteString(parts[random.IntN(len(parts))])
			}
		}
		texts = append(texts, strings.ReplaceAll(text.String(), "CANARY", file))
	}
	return texts
}
