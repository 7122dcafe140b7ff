package handler

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSettingsOfAHandlerLieOverThoseOfAll(t *testing.T) {
	got, err := Config{
		Settings: Settings{User: "all", Writable: []string{"/a"}, Timeout: time.Minute, Sandbox: Reduced},
		Specs: []Spec{
			{Program: "/x"},
			{Program: "/y", Name: "y", Settings: Settings{
				User: "own", Writable: []string{"/b"}, Readable: []string{"/c"}, Network: true, Timeout: time.Second, Concurrency: 2,
				Queue: 3, Memory: 64 << 20, Processes: 5, FileSize: 1 << 20, Input: InputJSON, Idempotent: true, Sandbox: Strict,
			}},
		},
	}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	want := []Settings{
		{
			User: "all", Writable: []string{"/a"}, Readable: []string{}, Timeout: time.Minute, Concurrency: 1, Queue: 64,
			Memory: 256 << 20, Processes: 64, FileSize: 16 << 20, Input: InputSerf, Sandbox: Reduced,
		},
		{
			User: "own", Writable: []string{"/a", "/b"}, Readable: []string{"/c"}, Network: true, Timeout: time.Second, Concurrency: 2,
			Queue: 3, Memory: 64 << 20, Processes: 5, FileSize: 1 << 20, Input: InputJSON, Idempotent: true, Sandbox: Strict,
		},
	}
	for i, spec := range got.Specs {
		if diff := cmp.Diff(want[i], spec.Settings); diff != "" {
			t.Errorf("handler %d (-want +got):\n%s", i, diff)
		}
	}
}

// What is left out is the strictest there is.
func TestSettingsThatSayNothingGrantNothing(t *testing.T) {
	s := Settings{}.withDefaults()
	if s.Network || s.Idempotent || s.Sandbox != Strict || len(s.Writable) > 0 || s.User != "" {
		t.Errorf("got %+v", s)
	}
}

func TestSettingsThatMakeNoSenseAreAllReported(t *testing.T) {
	err := Settings{
		Timeout: 2 * time.Hour, Concurrency: 33, Queue: 1025, Memory: 1, Processes: -1, FileSize: 1, Input: "xml", Sandbox: "off",
	}.Check()
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{
		"timeout 2h0m0s", "concurrency 33", "queue 1025", "memory 1", "processes -1", "file-size 1", `input "xml"`, `sandbox "off"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	if _, err := (Config{Specs: []Spec{{Program: "/x", Name: "a"}, {Program: "/y", Name: "a"}}}).withDefaults(); err == nil {
		t.Error("two handlers of one name were accepted")
	}
}
