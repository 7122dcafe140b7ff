package handler

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/secgossip/secgossip/internal/hostile"
)

// Threat C12: the same with programs that really run, and nothing else does.
func TestHostileTextsAreReadByProgramsAndRunByNobody(t *testing.T) {
	dir := granted(t)
	canary := filepath.Join(dir, "canary")
	texts := hostile.Texts(4, hostileTexts, canary)
	program := func(form string) Spec {
		s := everyEvent(script(t, "cat > "+filepath.Join(dir, form)))
		s.Settings = Settings{Input: Input(form), Writable: []string{dir}}
		return s
	}
	results := make(chan Result, 2)
	r := launch(t, Config{Specs: []Spec{program("serf"), program("json")}, OnResult: func(r Result) { results <- r }})
	run := func(e Event) (serf, document string) {
		r.Dispatch(e)
		for range 2 {
			if got := receive(t, results); !got.Done() {
				t.Fatalf("handler %d: exit %d, %v, %s", got.Handler, got.ExitCode, got.Err, got.Stderr)
			}
		}
		return read(t, filepath.Join(dir, "serf")), read(t, filepath.Join(dir, "json"))
	}

	// All of them at once, as the names and tags of many members.
	var all Event
	all.Kind = KindMemberJoin
	for _, text := range texts {
		if utf8.ValidString(text) {
			all.Members = append(all.Members, Member{Name: text, Tags: map[string]string{text: text}})
		}
	}
	serf, line := run(all)
	if serf != string(standardInput(all)) {
		t.Error("the members that a program read are not those that were sent")
	}
	var d document
	if err := json.Unmarshal([]byte(line), &d); err != nil {
		t.Fatal(err)
	}
	for i, m := range d.Members {
		if want := all.Members[i].Name; m.Name != want || m.Tags[want] != want {
			t.Errorf("member %q was read as %q", want, m.Name)
		}
	}

	// And one in fifty as a payload: a run takes its time.
	for i := 0; i < len(texts); i += 50 {
		serf, line := run(Event{Kind: KindUser, Name: "x", Payload: []byte(texts[i])})
		if serf != string(standardInput(Event{Kind: KindUser, Payload: []byte(texts[i])})) {
			t.Errorf("payload %q was read as %q", texts[i], serf)
		}
		var d document
		if err := json.Unmarshal([]byte(line), &d); err != nil || string(d.Payload) != texts[i] {
			t.Errorf("payload %q was read as %q, %v", texts[i], d.Payload, err)
		}
	}
	if _, err := os.Lstat(canary); err == nil {
		t.Error("something of it was executed")
	}
}
