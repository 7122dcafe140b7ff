package handler

import (
	"errors"
	"os"
	"testing"
)

// testdata/handler.sh is the script of a post of 2015, byte for byte. It
// writes to a file of its own choice, which is why this test cannot use a
// directory of its own.
func TestScriptOf2015RunsUnchanged(t *testing.T) {
	const fixed = "/tmp/mem.txt"
	file, err := os.OpenFile(fixed, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		t.Skipf("%s exists: it is not this test's to change", fixed)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(fixed) })
	file.Close()
	give(t, fixed)

	program := install(t, "testdata/handler.sh")
	config := Config{Specs: []Spec{everyEvent(program)}, Settings: Settings{Writable: []string{fixed}}}
	r := runConfig(t, config, Event{Kind: KindUser, Name: "memresponse", Payload: []byte("xcxx")})
	if !r.Done() {
		t.Errorf("exit %d, err %v, stderr %q", r.ExitCode, r.Err, r.Stderr)
	}
	if got, want := read(t, fixed), "xcxx\n\\n\n"; got != want {
		t.Errorf("%s holds %q, want %q", fixed, got, want)
	}
	if r := runConfig(t, config, Event{Kind: KindUser, Name: "other", Payload: []byte("no")}); !r.Done() {
		t.Errorf("another event: exit %d, err %v", r.ExitCode, r.Err)
	}
	config.Settings.Writable = nil
	if r := runConfig(t, config, Event{Kind: KindUser, Name: "memresponse", Payload: []byte("no")}); r.Done() {
		t.Error("the script wrote to a file that was not granted")
	}
	if got, want := read(t, fixed), "xcxx\n\\n\n"; got != want {
		t.Errorf("%s holds %q, want %q", fixed, got, want)
	}
}
