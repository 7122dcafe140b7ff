package discover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestProviderIsAProgramAndItsArguments(t *testing.T) {
	program, arguments, ok := Provider("exec:/usr/local/bin/nodes  --region eu")
	if !ok || program != "/usr/local/bin/nodes" || !slices.Equal(arguments, []string{"--region", "eu"}) {
		t.Errorf("got %q, %q, %v", program, arguments, ok)
	}
	if _, _, ok := Provider("srv:/usr/local/bin/nodes"); ok {
		t.Error("another place is a provider")
	}
	for _, place := range []string{
		"exec:", "exec: ", "exec:nodes", "exec:./nodes", "exec:/nodes a\x00b", "exec:/nodes \xff", "exec:/nodes \x1b[2J",
		"exec:/nodes" + strings.Repeat(" a", maxArguments+1), "exec:/" + strings.Repeat("a", maxCommand),
	} {
		if CheckPlace(place) == nil {
			t.Errorf("%.80q is taken", place)
		}
	}
	if err := CheckPlace("exec:/usr/local/bin/nodes --region eu"); err != nil {
		t.Error(err)
	}
}

func TestWhatAProviderPrintsIsAddressesOrRefused(t *testing.T) {
	good := "# of this morning\n203.0.113.7:7946\n\n  [2001:db8::1]:7946\t\r\n2001:db8::2\n[2001:db8::3]\nweb-1.example.org:7946 # the first\nweb_2\n203.0.113.7:7946\n"
	got, err := ParseAddresses([]byte(good))
	want := []string{"203.0.113.7:7946", "[2001:db8::1]:7946", "2001:db8::2", "[2001:db8::3]", "web-1.example.org:7946", "web_2"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if got, err := ParseAddresses(nil); err != nil || len(got) > 0 {
		t.Errorf("nothing: got %q, %v", got, err)
	}
	for _, line := range []string{
		"web-1:0", "web-1:65536", "web-1:port", ":7946", "0.0.0.0:7946", "[::]:7946", "224.0.0.1", "fe80::1%eth0", "web 1", "exec:/bin/sh",
		"srv:_secgossip", "-web", "http://web-1", "wéb", "a\x1b[2J", strings.Repeat("a", MaxAddress+1),
	} {
		got, err := ParseAddresses([]byte("web-1\n" + line + "\n" + line + "x\nweb-2\n"))
		if err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%.40q: got %v, want its line named", line, err)
		}
		if len(got) < 2 || got[0] != "web-1" || got[len(got)-1] != "web-2" || slices.Contains(got, line) {
			t.Errorf("%.40q: got %.80q, want the others alone", line, got)
		}
	}
}

func TestProviderNamesSoManyAddressesAtMost(t *testing.T) {
	var text strings.Builder
	for i := range 10 * MaxAddresses {
		fmt.Fprintf(&text, "web-%d\n", i)
	}
	if got, err := ParseAddresses([]byte(text.String())); len(got) != MaxAddresses || err == nil {
		t.Errorf("%d addresses, %v, want %d and a word about the others", len(got), err, MaxAddresses)
	}
	// A line without an end is none.
	if got, err := ParseAddresses([]byte("web-1\n" + strings.Repeat("a", 1<<17))); len(got) != 1 || err == nil {
		t.Errorf("%d addresses, %v", len(got), err)
	}
}

func TestProgramIsRunForWhoeverMayAndForNobodyElse(t *testing.T) {
	place := "exec:/usr/local/bin/nodes --password x"
	if got, err := (Finder{}).Find(t.Context(), []string{place, "web-9"}); !errors.Is(err, ErrNoPrograms) || !slices.Equal(got, []string{"web-9"}) {
		t.Errorf("got %q, %v, want %v", got, err, ErrNoPrograms)
	}
	var asked []string
	f := Finder{Run: func(_ context.Context, place string) ([]string, error) {
		asked = append(asked, place)
		return []string{"web-1", "web-2"}, errors.New("exit 1")
	}}
	got, err := f.Find(t.Context(), []string{place, "web-9"})
	if !slices.Equal(got, []string{"web-1", "web-2", "web-9"}) || !slices.Equal(asked, []string{place}) {
		t.Errorf("got %q after asking %q", got, asked)
	}
	if err == nil || !strings.Contains(err.Error(), "/usr/local/bin/nodes") || strings.Contains(err.Error(), "password") {
		t.Errorf("got %v, want the program and not its arguments", err)
	}
	f.Run = func(context.Context, string) ([]string, error) { return nil, nil }
	if got, err := f.Find(t.Context(), []string{place}); err == nil || len(got) > 0 {
		t.Errorf("it names nobody: got %q, %v", got, err)
	}
}
