package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/secgossip/secgossip/internal/hostile"
)

// Threat C13: whatever members and programs say, a terminal only prints it, and no
// line begins like one of ours.
func TestHostileTextsOnlyPrint(t *testing.T) {
	for _, text := range hostile.Texts(5, 2500, "/canary") {
		var out bytes.Buffer
		e := &env{stdout: &out}
		showHandlers(&out, []handlerView{{Name: text, User: text, Filters: []string{text}, Program: text, Degraded: text, Missing: []string{text}}})
		heads := 3 // the head, the handler, what is missing
		showReload(&out, []reloadRow{{"handler added", []string{text}}})
		heads++
		showRun(&out, runView{Begin: time.Unix(0, 0), Event: "user", Name: text, Principal: text, EventID: text, Error: text, Stdout: []byte(text), Stderr: []byte(text)})
		heads++
		if _, err := e.stdout.Write([]byte(line(recordView{Type: "user", Name: text, Principal: text, Payload: []byte(text)}) + "\n")); err != nil {
			t.Fatal(err)
		}
		heads++
		for shown := range strings.SplitSeq(strings.TrimSuffix(out.String(), "\n"), "\n") {
			if strings.ContainsFunc(shown, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q is shown as %q", text, shown)
			}
			if !strings.HasPrefix(shown, "  ") {
				heads--
			}
		}
		if heads != 0 {
			t.Errorf("%q makes %d lines more than there are:\n%s", text, -heads, out.String())
		}
	}
}
