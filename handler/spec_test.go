package handler

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSpecsAreReadAsSerfReadsThem(t *testing.T) {
	all := []Filter{{Kind: kindAny}}
	for text, want := range map[string]Spec{
		"./handler.sh":              {Filters: all, Program: "./handler.sh"},
		"=x":                        {Filters: all, Program: "x"},
		"*=x":                       {Filters: all, Program: "x"},
		"*=a=b.sh":                  {Filters: all, Program: "a=b.sh"},
		"*==":                       {Filters: all, Program: "="},
		"*= x ":                     {Filters: all, Program: " x "},
		"user=x":                    {Filters: []Filter{{Kind: KindUser}}, Program: "x"},
		"user:=x":                   {Filters: []Filter{{Kind: KindUser}}, Program: "x"},
		"user:deploy=x":             {Filters: []Filter{{KindUser, "deploy"}}, Program: "x"},
		"user:a:b=x":                {Filters: []Filter{{KindUser, "a:b"}}, Program: "x"},
		"query:load=x":              {Filters: []Filter{{KindQuery, "load"}}, Program: "x"},
		"member-join,member-reap=x": {Filters: []Filter{{Kind: KindMemberJoin}, {Kind: KindMemberReap}}, Program: "x"},
		"member-evict,epoch=x":      {Filters: []Filter{{Kind: KindMemberEvict}, {Kind: KindEpoch}}, Program: "x"},
		"member-quarantine=x":       {Filters: []Filter{{Kind: KindMemberQuarantine}}, Program: "x"},
		"user,user:deploy,*=x":      {Filters: []Filter{{Kind: KindUser}, {KindUser, "deploy"}, {Kind: kindAny}}, Program: "x"},
	} {
		got, err := ParseSpec(text)
		if err != nil {
			t.Errorf("ParseSpec(%q): %v", text, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ParseSpec(%q) (-want +got):\n%s", text, diff)
		}
	}
}

func TestSpecsThatSerfWouldRefuseAreRefused(t *testing.T) {
	for _, text := range []string{
		"", "=", "user=", "*=", // no program
		"User=x", "MEMBER-JOIN=x", // case matters
		" user=x", "user =x", "user, query=x", // nothing is trimmed
		"member=x", "member-joined=x", "members=x", "userx=x",
		"member-join:web1=x", "epoch:7=x", "epochs=x", "*:x=y", ":deploy=x", "user;query=x",
		"user,=x", ",user=x", "user,,query=x",
		"FOO=1 x.sh", "echo a=b",
		"user=\x00", "a\x00b",
	} {
		if got, err := ParseSpec(text); err == nil {
			t.Errorf("ParseSpec(%q) = %#v, want an error", text, got)
		}
	}
}

func TestRefusedFilterIsNamedWithTheOnesThereAre(t *testing.T) {
	_, err := ParseSpec("user,member-joined=x")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`"member-joined"`, "member-join,", "user:NAME"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}

func TestEventsMatchByKindAndExactName(t *testing.T) {
	deploy := Event{Kind: KindUser, Name: "deploy"}
	load := Event{Kind: KindQuery, Name: "load"}
	joined := Event{Kind: KindMemberJoin}
	for _, row := range []struct {
		spec  string
		event Event
		want  bool
	}{
		{"*=x", deploy, true}, {"*=x", load, true}, {"*=x", joined, true}, {"x", joined, true},
		{"user=x", deploy, true}, {"user=x", load, false}, {"user=x", joined, false},
		{"user:deploy=x", deploy, true}, {"user:=x", deploy, true},
		{"user:Deploy=x", deploy, false}, {"user:dep*=x", deploy, false}, {"user:deploy2=x", deploy, false},
		{"query:deploy=x", deploy, false}, {"user:load=x", load, false}, {"query:load=x", load, true},
		{"member-join=x", joined, true}, {"member-leave,member-join=x", joined, true},
		{"*=x", Event{Kind: KindEpoch}, true}, {"epoch=x", Event{Kind: KindEpoch}, true}, {"member-evict=x", Event{Kind: KindEpoch}, false},
		{"member-leave=x", joined, false}, {"user,query=x", joined, false},
		{"*=x", Event{}, false}, {"*=x", Event{Kind: "*"}, false}, {"*=x", Event{Kind: "reboot"}, false},
	} {
		spec := mustSpec(t, row.spec)
		if got := spec.Matches(row.event); got != row.want {
			t.Errorf("%q matches %s %q: got %v, want %v", row.spec, row.event.Kind, row.event.Name, got, row.want)
		}
	}
}

func FuzzParsedSpecPrintsAndParsesAsItself(f *testing.F) {
	for _, seed := range []string{"x", "=x", "*=a=b", "user:a,query:,member-join=./x y", "a=b", "user:=x", ",=", "\xff=\xff", "user:\xff=\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		spec, err := ParseSpec(text)
		if err != nil {
			return
		}
		if spec.Program == "" || len(spec.Filters) == 0 {
			t.Fatalf("ParseSpec(%q) = %#v: empty", text, spec)
		}
		again, err := ParseSpec(spec.String())
		if err != nil {
			t.Fatalf("ParseSpec(%q), which %q printed: %v", spec.String(), text, err)
		}
		if diff := cmp.Diff(spec, again); diff != "" {
			t.Fatalf("%q printed as %q (-first +second):\n%s", text, spec.String(), diff)
		}
	})
}

func mustSpec(t testing.TB, text string) Spec {
	t.Helper()
	spec, err := ParseSpec(text)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}
