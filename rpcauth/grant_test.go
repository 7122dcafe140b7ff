package rpcauth

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/secgossip/secgossip/pki"
)

func TestEveryGrantOfTheManualParses(t *testing.T) {
	for _, text := range []string{
		"members:read", "monitor", "event:deploy", "event:*", "event:deploy-?", "query:load*", "keys:read",
		"keys:rotate", "node:tags", "node:join", "node:leave", "node:evict", "token:mint", "enroll:mint", "admin",
		"event:" + strings.Repeat("a", MaxEventName), "query:" + strings.Repeat("?", MaxEventName),
	} {
		got, err := ParseGrant(text)
		if err != nil || string(got) != text {
			t.Errorf("ParseGrant(%q): got %q, %v", text, got, err)
		}
	}
}

func TestEveryOtherGrantIsRefused(t *testing.T) {
	for _, text := range []string{
		"", "*", "root", "Admin", "admin ", " admin", "admin:", "admin:*", "members", "members:", "members:*", "members:write",
		"monitor:debug", "event", "event:", "query:", "events:*", "event:**", "event:a**", "event:a b", "event:a,b", "event:[ab]",
		"event:{a,b}", "event:a/b", "event:a:b", "event:a\n", "event:\x00", "event:dépl", "event:\u202edeploy", "event:\xff",
		"event: deploy", "EVENT:deploy", "keys:install", "keys", "node:*", "event:deploy\nadmin",
		"event:" + strings.Repeat("a", maxGrantSize), strings.Repeat("a", 1<<20),
	} {
		if got, err := ParseGrant(text); err == nil {
			t.Errorf("ParseGrant(%.40q): accepted as %q", text, got)
		}
	}
}

func TestAnErrorNamesTheGrantsThereAre(t *testing.T) {
	_, err := ParseGrant("member:read")
	if err == nil || !strings.Contains(err.Error(), `"member:read"`) || !strings.Contains(err.Error(), "members:read") || !strings.Contains(err.Error(), "event:GLOB") {
		t.Errorf("got %v, want the wrong grant and the right ones", err)
	}
}

func TestAListOfGrantsHasOneOrder(t *testing.T) {
	got, err := ParseGrants([]string{"monitor", "event:b", "admin", "event:a", "monitor"})
	want := []Grant{"admin", "event:a", "event:b", "monitor"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if got, err := ParseGrants([]string{}); err == nil {
		t.Errorf("no grants: accepted as %q", got)
	}
	if _, err := ParseGrants([]string{"monitor", "nonsense"}); err == nil {
		t.Error("one unknown grant among known ones: accepted")
	}
	var many []string
	for i := range MaxGrants + 1 {
		many = append(many, fmt.Sprintf("event:job-%d", i))
	}
	if got, err := ParseGrants(many); err == nil {
		t.Errorf("%d grants: accepted", len(got))
	}
}

// everyNeed is one need for each verb.
var everyNeed = []Grant{
	"members:read", "monitor", "event:deploy", "query:deploy", "answer:deploy", "keys:read", "keys:rotate", "node:tags", "node:join",
	"node:leave", "node:evict", "token:mint", "enroll:mint", "admin",
}

// What each grant allows of everyNeed, and nothing else.
func TestEachGrantAllowsItsOwnAndNothingElse(t *testing.T) {
	for _, test := range []struct {
		grant Grant
		wants []Grant
	}{
		{"members:read", []Grant{"members:read"}},
		{"monitor", []Grant{"monitor"}},
		{"event:deploy", []Grant{"event:deploy"}},
		{"event:*", []Grant{"event:deploy"}},
		{"event:d?ploy", []Grant{"event:deploy"}},
		{"event:deploy-*", nil},
		{"event:Deploy", nil},
		{"event:deplo", nil},
		{"event:deploy?", nil},
		{"query:deploy", []Grant{"query:deploy"}},
		{"query:*", []Grant{"query:deploy"}},
		{"answer:*", []Grant{"answer:deploy"}},
		{"keys:read", []Grant{"keys:read"}},
		{"keys:rotate", []Grant{"keys:rotate"}},
		{"node:tags", []Grant{"node:tags"}},
		{"node:join", []Grant{"node:join"}},
		{"node:leave", []Grant{"node:leave"}},
		{"node:evict", []Grant{"node:evict"}},
		{"token:mint", []Grant{"token:mint"}},
		{"enroll:mint", []Grant{"enroll:mint"}},
		{"admin", everyNeed},
	} {
		for _, need := range everyNeed {
			if got, want := test.grant.Allows(need), slices.Contains(test.wants, need); got != want {
				t.Errorf("%q allows %q: got %v, want %v", test.grant, need, got, want)
			}
		}
	}
}

func TestWhatIsNoGrantAllowsNothingAndIsAllowedByNothing(t *testing.T) {
	for _, bad := range []Grant{"", "*", "root", "events:x"} {
		for _, need := range everyNeed {
			if bad.Allows(need) {
				t.Errorf("%q allows %q", bad, need)
			}
		}
		if Grant(Admin).Allows(bad) {
			t.Errorf("admin allows %q, which is no grant", bad)
		}
	}
}

func TestGlobs(t *testing.T) {
	for _, test := range []struct {
		glob, name string
		want       bool
	}{
		{"*", "a", true}, {"*", "", true}, {"?", "", false}, {"?", "a", true}, {"?", "ab", false},
		{"a*", "a", true}, {"a*", "ba", false}, {"*a", "ba", true}, {"*a", "ab", false},
		{"a*b*c", "abc", true}, {"a*b*c", "axxbxxc", true}, {"a*b*c", "axxcxxb", false}, {"*ab*", "aab", true},
		{"a?c", "abc", true}, {"a?c", "ac", false}, {"a.c", "abc", false}, {"", "a", false}, {"abc", "abcd", false},
		{"*a*a*a*a*a*a*a*b", strings.Repeat("a", 64), false}, // 64 * 16 steps, not 2^64
	} {
		if got := globCovers(test.glob, test.name); got != test.want {
			t.Errorf("glob %q, name %q: got %v, want %v", test.glob, test.name, got, test.want)
		}
	}
}

// words returns every word over alphabet of up to size letters.
func words(alphabet string, size int) []string {
	all := []string{""}
	for from := 0; size > 0; size-- {
		to := len(all)
		for _, word := range all[from:to] {
			for _, c := range alphabet {
				all = append(all, word+string(c))
			}
		}
		from = to
	}
	return all
}

// Exhaustive for small ones: if a glob is said to cover another, it fits all
// names that the other fits.
func TestACoveredGlobFitsNoNameThatItsCoverDoesNot(t *testing.T) {
	globs, names := words("ab*?", 4), words("ab", 5)
	fits := make(map[string][]bool)
	for _, glob := range globs {
		for _, name := range names {
			fits[glob] = append(fits[glob], globCovers(glob, name))
		}
	}
	covered := 0
	for _, parent := range globs {
		for _, child := range globs {
			if !globCovers(parent, child) {
				continue
			}
			covered++
			for i, name := range names {
				if fits[child][i] && !fits[parent][i] {
					t.Fatalf("%q is said to cover %q, but only %q fits %q", parent, child, child, name)
				}
			}
		}
	}
	if covered < len(globs) {
		t.Errorf("%d pairs are covered; every glob should at least cover itself", covered)
	}
}

func TestAChildTokenIsNarrower(t *testing.T) {
	for _, test := range []struct {
		child, parent string
		want          bool
	}{
		{"event:deploy", "event:deploy", true},
		{"event:deploy", "event:*", true},
		{"event:deploy-*", "event:deploy*", true},
		{"event:deploy-?", "event:deploy-*", true},
		{"event:?", "event:?", true},
		{"event:*", "event:*", true},
		{"event:a*c*", "event:a*", true},
		{"admin", "admin", true},
		{"event:*", "admin", true},
		{"monitor members:read", "admin", true},
		{"monitor", "monitor members:read", true},

		{"event:*", "event:deploy", false},
		{"event:deploy*", "event:deploy-*", false},
		{"event:*", "event:?", false},
		{"event:a*b", "event:a?b", false},
		{"event:?*", "event:*?", false}, // the same names, but not provably
		{"event:deploy", "query:*", false},
		{"query:*", "event:*", false},
		{"admin", "event:* query:* keys:read keys:rotate members:read monitor node:tags", false},
		{"monitor admin", "monitor", false},
		{"monitor event:x", "monitor", false},
		{"event:[ab]", "event:a event:b", false},
	} {
		if got := Narrower(split(test.child), split(test.parent)); got != test.want {
			t.Errorf("child %q, parent %q: got %v, want %v", test.child, test.parent, got, test.want)
		}
	}
	if !Narrower(nil, nil) || Narrower([]Grant{"monitor"}, nil) {
		t.Error("nothing is narrower than nothing, and nothing else is")
	}
}

func split(text string) []Grant {
	var out []Grant
	for _, word := range strings.Fields(text) {
		out = append(out, Grant(word))
	}
	return out
}

func TestAGrantErrorNamesWhoWhatAndWhatThereIs(t *testing.T) {
	token := &Token{Subject: pki.Name("ops"), Grants: []Grant{"event:deploy", "monitor"}}
	err := token.Require(EventGrant("restart"))
	wantError(t, "Require", err, ErrGrant)
	want := `client "ops" needs the grant "event:restart"; its token holds "event:deploy", "monitor"`
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	if err := token.Require(EventGrant("deploy")); err != nil {
		t.Errorf("a grant it has: %v", err)
	}
}

// What ParseGrant accepts is spelled as it will be signed, and is allowed by
// itself and by admin.
func FuzzParsedGrantIsItsText(f *testing.F) {
	for _, seed := range []string{"admin", "event:deploy-*", "query:?", "event:", "event:**", "members:read", "x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		grant, err := ParseGrant(text)
		if err != nil {
			return
		}
		if string(grant) != text || len(text) > maxGrantSize || grant.Verb() == "" {
			t.Errorf("accepted %q as %q, verb %q", text, grant, grant.Verb())
		}
		if !grant.Allows(grant) || !Grant(Admin).Allows(grant) {
			t.Errorf("%q is allowed neither by itself nor by admin", grant)
		}
	})
}
