package pki

import (
	"regexp"
	"strings"
	"testing"
)

func TestNamesAreRefusedAndNeverNormalised(t *testing.T) {
	for _, good := range []string{"a", "7", "web-1", "web-1.example.org", "a--b", "a.-b", strings.Repeat("a", 63)} {
		name, err := ParseName(good)
		if err != nil || string(name) != good {
			t.Errorf("ParseName(%q): got %q, %v", good, name, err)
		}
	}
	for _, bad := range []string{
		"", " ", "A", "Web-1", "web_1", "web 1", " web", "web ", "-web", "web-", ".web", "web.", "a..b",
		"web\n", "web\x00", "wéb", "web\u202e", "web/1", "web:1", "web@1", "web%31", "../web", "*.web", "\xff",
		strings.Repeat("a", 64),
	} {
		if name, err := ParseName(bad); err == nil {
			t.Errorf("ParseName(%q): got %q, want an error", bad, name)
		} else if len(bad) > 2 && strings.Contains(err.Error(), bad) {
			t.Errorf("ParseName(%q): the error repeats the name: %v", bad, err)
		}
	}
}

func TestOnlyKnownRolesAreParsed(t *testing.T) {
	if role, err := ParseRole("keeper"); err != nil || role != RoleKeeper {
		t.Errorf("got %q, %v, want %q", role, err, RoleKeeper)
	}
	for _, bad := range []string{"", "Keeper", "kepper", "keeper ", "admin"} {
		if role, err := ParseRole(bad); err == nil {
			t.Errorf("ParseRole(%q): got %q, want an error", bad, role)
		}
	}
}

func TestUnknownKindsPrintAsNumbers(t *testing.T) {
	for kind, want := range map[Kind]string{KindNode: "node", KindClient: "client", 0: "kind 0", 9: "kind 9"} {
		if got := kind.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestClusterIDPrintsShortAndWhole(t *testing.T) {
	id := clusterIDOf(publicOf(testKey(seedRoot)))
	if got := id.Hex(); len(got) != 64 || !strings.HasPrefix(got, id.String()) || len(id.String()) != 16 {
		t.Errorf("String %q, Hex %q", id, got)
	}
	if other := clusterIDOf(publicOf(testKey(seedOther))); other == id {
		t.Error("two roots have one cluster id")
	}
}

// The pattern of the documents, and two dots in a row.
func FuzzNameIsWhatThePatternSays(f *testing.F) {
	pattern := regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)
	for _, seed := range []string{"", "a", "web-1", "a..b", "-a", "A", "a\n", strings.Repeat("x", 64)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := ParseName(s)
		want := pattern.MatchString(s) && !strings.Contains(s, "..") && !strings.HasSuffix(s, "\n")
		if (err == nil) != want {
			t.Fatalf("ParseName(%q): got %v, want accepted=%v", s, err, want)
		}
		if err == nil && string(name) != s {
			t.Errorf("ParseName(%q) changed it to %q", s, name)
		}
	})
}
