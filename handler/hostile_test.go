package handler

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/secgossip/secgossip/internal/hostile"
)

const hostileTexts = 2500

// Threat C12: what a handler reads is what was sent, byte for byte, or it is not run.
func TestHostileTextsReachAHandlerUnchangedOrNotAtAll(t *testing.T) {
	for _, text := range hostile.Texts(1, hostileTexts, "/canary") {
		payload := []byte(text)
		want := text
		if !strings.HasSuffix(text, "\n") {
			want += "\n"
		}
		e := Event{Kind: KindUser, Name: "x", Payload: payload}
		if got := standardInput(e); string(got) != want {
			t.Errorf("payload %q is read as %q", text, got)
		}
		var d document
		line, err := jsonInput(e)
		if err != nil || json.Unmarshal(line, &d) != nil || string(d.Payload) != text || bytes.Count(line, []byte("\n")) != 1 {
			t.Errorf("payload %q is read as %q, %v", text, line, err)
		}
		if (d.Text != nil) != utf8.ValidString(text) || d.Text != nil && *d.Text != text {
			t.Errorf("payload %q as text is %v", text, d.Text)
		}

		members := Event{Kind: KindMemberJoin, Members: []Member{{Name: text, Role: text, Tags: map[string]string{text: text}}, {Name: "next"}}}
		lines := strings.SplitAfter(string(standardInput(members)), "\n")
		if len(lines) != 3 || strings.Count(lines[0], "\t") != 3 || lines[1] != "next\t\t\t\n" {
			t.Errorf("member %q breaks the lines: %q", text, lines)
		}
		escaped := strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(text)
		if lines[0] != escaped+"\t\t"+escaped+"\t"+escaped+"="+escaped+"\n" {
			t.Errorf("member %q is read as %q", text, lines[0])
		}
		d = document{}
		line, err = jsonInput(members)
		switch {
		case err == nil != utf8.ValidString(text):
			t.Errorf("member %q: %v", text, err)
		case err != nil:
		case json.Unmarshal(line, &d) != nil || len(d.Members) != 2 || d.Members[0].Name != text || d.Members[0].Role != text || d.Members[0].Tags[text] != text:
			t.Errorf("member %q is read as %q", text, line)
		}
	}
}

var variable = regexp.MustCompile(`^[A-Z0-9_]+$`)

// Threat C12: no text from the network makes a variable of its own, or a line in one.
func TestHostileTextsStayInTheirVariablesOrAreRefused(t *testing.T) {
	number := func(e Event) int {
		env, err := environment(e, "/scratch")
		if err != nil {
			t.Fatal(err)
		}
		return len(env)
	}
	plain := number(Event{Kind: KindUser, Name: "x"})
	accepted := 0
	for _, text := range hostile.Texts(2, hostileTexts, "/canary") {
		for what, e := range map[string]Event{
			"name":      {Kind: KindUser, Name: text},
			"principal": {Kind: KindUser, Name: "x", Principal: text},
			"id":        {Kind: KindUser, Name: "x", EventID: text},
			"self":      {Kind: KindUser, Name: "x", SelfName: text},
			"role":      {Kind: KindUser, Name: "x", SelfTags: map[string]string{"role": text}},
			"tag":       {Kind: KindUser, Name: "x", SelfTags: map[string]string{text: text}},
		} {
			env, err := environment(e, "/scratch")
			if err != nil {
				continue
			}
			accepted++
			for _, entry := range env {
				name, value, _ := strings.Cut(entry, "=")
				if !variable.MatchString(name) || strings.ContainsAny(value, "\x00\n\r\x1b") || !utf8.ValidString(value) {
					t.Errorf("%s %q: there is a variable %q", what, text, entry)
				}
			}
			want := plain
			if len(e.SelfTags) > 0 {
				want += 2
			}
			if len(env) != want {
				t.Errorf("%s %q: %d variables, want %d", what, text, len(env), want)
			}
			if !slices.ContainsFunc(env, func(entry string) bool { return strings.HasSuffix(entry, "="+text) }) {
				t.Errorf("%s %q is in no variable as it was", what, text)
			}
		}
	}
	if accepted < hostileTexts/4 {
		t.Errorf("%d were accepted: this test does not look at much", accepted)
	}
}

// Threat C13: whatever a handler is sent, writes or fails with is one line of the log.
func TestHostileTextsSplitNoLineOfTheLog(t *testing.T) {
	var log bytes.Buffer
	w := &worker{spec: Spec{Program: "/x"}, queue: newQueue(1), logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, text := range hostile.Texts(3, hostileTexts, "/canary") {
		log.Reset()
		w.log(Result{Event: Event{Kind: KindUser, Name: text}, ExitCode: 1, Stdout: Output{Head: []byte(text)}, Stderr: Output{Head: []byte(text)}, Err: errors.New(text)})
		w.log(Result{Started: true, Event: Event{Kind: KindUser, Name: text}, Stdout: Output{Head: []byte(text)}})
		lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
		if len(lines) != 2 {
			t.Errorf("%q makes %d lines of 2", text, len(lines))
		}
		for _, line := range lines {
			if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q is in the log as %q", text, line)
			}
		}
	}
}
