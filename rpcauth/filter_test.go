package rpcauth

import (
	"strings"
	"testing"
)

func TestAFilterMatchesTheWholeValueOrNothing(t *testing.T) {
	for _, test := range []struct {
		filter string
		tags   map[string]string
		want   bool
	}{
		{"role=web", map[string]string{"role": "web"}, true},
		{"role=web", map[string]string{"role": "web2"}, false},
		{"role=web", map[string]string{"role": "my web"}, false},
		{"role=web|db", map[string]string{"role": "db"}, true},
		{"role=web|db", map[string]string{"role": "web1"}, false}, // Serf's members anchors ^web or db$
		{"role=web|db", map[string]string{"role": "1db"}, false},
		{"role=(?m)web", map[string]string{"role": "web\ndb"}, false},
		{`role=\Qa.b`, map[string]string{"role": "a.b"}, true},
		{`role=\Qa.b`, map[string]string{"role": "axb"}, false},
		{"role=", map[string]string{}, true},
		{"role=", map[string]string{"role": "web"}, false},
		{"role=.+", map[string]string{"rolle": "web"}, false},
		{"role=a=b", map[string]string{"role": "a=b"}, true},
		{"role=(?i)WEB", map[string]string{"role": "web"}, true},
	} {
		filter, err := ParseTagFilter(test.filter)
		if err != nil {
			t.Errorf("%q: %v", test.filter, err)
			continue
		}
		matcher, err := compileTagFilters([]TagFilter{filter})
		if err != nil {
			t.Errorf("%q: %v", test.filter, err)
			continue
		}
		if got := matcher.match(test.tags); got != test.want {
			t.Errorf("%q on %v: got %v, want %v", test.filter, test.tags, got, test.want)
		}
	}
}

func TestAllFiltersMustMatch(t *testing.T) {
	matcher, err := compileTagFilters([]TagFilter{{"role", "web"}, {"zone", "eu-.*"}})
	if err != nil {
		t.Fatal(err)
	}
	if !matcher.match(map[string]string{"role": "web", "zone": "eu-1"}) || matcher.match(map[string]string{"role": "web", "zone": "us-1"}) {
		t.Error("want the web of eu and not that of us")
	}
}

// Each refusal names the field and the limit or the fault.
func TestAFilterOutsideItsLimitsIsRefused(t *testing.T) {
	for _, test := range []struct{ filter, want string }{
		{"role", "TAG=EXPRESSION"},
		{"=web", "1 to 64"},
		{strings.Repeat("r", 65) + "=web", "1 to 64"},
		{"role=" + strings.Repeat("a", 129), "128 is the most"},
		{"role=(", "missing closing"},
		{"role=a)|(b", "unexpected )"},
		{"role=a\\", "trailing backslash"},
		{"role=a\nb", "control characters"},
		{"role=\xff", "control characters"},
		{"role=" + strings.Repeat("a{900}", 20), "1000 are the most"},
		{"role=((a{100}){100}){100}", "invalid repeat count"},
	} {
		if _, err := ParseTagFilter(test.filter); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.60q: got %v, want an error with %q", test.filter, err, test.want)
		}
	}
}

// Bytes alone would not bound what an expression for members costs: this one has 250 of
// them and, without the limit, 240,000 steps for each byte of a tag's value.
func TestAnExpressionThatWouldRunLongIsRefused(t *testing.T) {
	long := "(" + strings.Repeat(".?", 120) + "){1000}"
	for expression, want := range map[string]string{
		long: "1000 are the most", strings.Repeat("a", 257): "at most 256",
		"(": "missing closing", "a)|(b": "unexpected )", `a\`: "trailing backslash",
	} {
		if _, err := WholeMatch("--name", expression); err == nil || !strings.HasPrefix(err.Error(), "--name: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got %v, want an error of --name with %q", expression, err, want)
		}
	}
	if _, err := WholeMatch("--name", strings.Repeat("a", 256)); err != nil {
		t.Errorf("the longest: got %v", err)
	}
}

// Whatever is taken compiles again and matches without an end that is too far.
func FuzzATakenFilterCanBeAsked(f *testing.F) {
	for _, seed := range []string{"role=web|db", `a=\Q`, "a=(?i)x{3}", "a=a)|(b", "a=[^a]*", "a=^x$", "a="} {
		f.Add(seed, "web")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		filter, err := ParseTagFilter(text)
		if err != nil {
			return
		}
		matcher, err := compileTagFilters([]TagFilter{filter})
		if err != nil {
			t.Fatalf("%q was taken and does not compile: %v", text, err)
		}
		matcher.match(map[string]string{filter.Tag: value})
		if err := checkTagFilters([]TagFilter{filter}); err != nil {
			t.Errorf("%q was taken and its form is refused: %v", text, err)
		}
	})
}
