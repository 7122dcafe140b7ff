package handler

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEnvironmentOfEachKindOfEvent(t *testing.T) {
	self := Event{SelfName: "web1", SelfTags: map[string]string{"role": "web", "bad-tag": "a b"}}
	common := []string{
		"HOME=/h", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR=/h",
		"SERF_SELF_NAME=web1", "SERF_SELF_ROLE=web", "SERF_TAG_BAD_TAG=a b", "SERF_TAG_ROLE=web",
		"SECGOSSIP_SELF_NAME=web1", "SECGOSSIP_SELF_ROLE=web", "SECGOSSIP_TAG_BAD_TAG=a b", "SECGOSSIP_TAG_ROLE=web",
	}
	sender := []string{"SECGOSSIP_PRINCIPAL=ops", "SECGOSSIP_EVENT_ID=00ff", "SECGOSSIP_ORIGIN=web2"}
	for _, row := range []struct {
		kind Kind
		want []string
	}{
		{KindUser, append(sender, "SERF_EVENT=user", "SERF_USER_EVENT=deploy", "SERF_USER_LTIME=18446744073709551615",
			"SECGOSSIP_EVENT=user", "SECGOSSIP_USER_EVENT=deploy", "SECGOSSIP_USER_LTIME=18446744073709551615")},
		{KindQuery, append(sender, "SERF_EVENT=query", "SERF_QUERY_NAME=deploy", "SERF_QUERY_LTIME=18446744073709551615",
			"SECGOSSIP_EVENT=query", "SECGOSSIP_QUERY_NAME=deploy", "SECGOSSIP_QUERY_ID=00ff", "SECGOSSIP_QUERY_LTIME=18446744073709551615")},
		{KindMemberUpdate, []string{"SERF_EVENT=member-update", "SECGOSSIP_EVENT=member-update"}},
		{KindMemberEvict, []string{"SERF_EVENT=member-evict", "SECGOSSIP_EVENT=member-evict"}},
		{KindEpoch, []string{"SERF_EVENT=epoch", "SECGOSSIP_EVENT=epoch", "SECGOSSIP_EPOCH=7", "SECGOSSIP_EPOCH_ACTION=use",
			"SECGOSSIP_EPOCH_REASON=age", "SECGOSSIP_EPOCH_KEEPER=web3"}},
	} {
		event := self
		event.Kind, event.Name, event.LTime = row.kind, "deploy", 1<<64-1
		event.Principal, event.EventID, event.Origin = "ops", "00ff", "web2"
		event.Epoch = Epoch{Number: 7, Action: "use", Reason: "age", Keeper: "web3"}
		got, err := environment(event, "/h")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(slices.Sorted(slices.Values(append(row.want, common...))), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.kind, diff)
		}
	}
}

func TestWhatWouldBreakScriptsStaysOutOfTheEnvironment(t *testing.T) {
	whole := Event{Kind: KindUser, Name: "deploy", SelfName: "web1", Principal: "ops", EventID: "00", Origin: "web2"}
	if _, err := environment(whole, "/h"); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"a\x00b", "a\nb", "a\r", "\x1b[2J", "\x7f", "a\u202eb", "a\u2028b", "\xff", "a\tb", "\u0085"} {
		for field, set := range map[string]func(*Event){
			"name":      func(e *Event) { e.Name = bad },
			"query":     func(e *Event) { e.Kind, e.Name = KindQuery, bad },
			"self name": func(e *Event) { e.SelfName = bad },
			"role":      func(e *Event) { e.SelfTags = map[string]string{"role": bad} },
			"principal": func(e *Event) { e.Principal = bad },
			"event id":  func(e *Event) { e.EventID = bad },
			"origin":    func(e *Event) { e.Origin = bad },
			"reason":    func(e *Event) { e.Kind, e.Epoch.Reason = KindEpoch, bad },
		} {
			event := whole
			set(&event)
			if env, err := environment(event, "/h"); err == nil {
				t.Errorf("%s %q: environment is %q, want an error", field, bad, env)
			}
		}
	}
	for _, bad := range []string{"a\x00b", "a\nb", "\r", "\x1b", "\x7f", "\xff", "\u0085"} {
		event := whole
		event.SelfTags = map[string]string{"x": bad}
		if env, err := environment(event, "/h"); err == nil {
			t.Errorf("tag %q: environment is %q, want an error", bad, env)
		}
	}
}

func TestTagCannotReplaceAnyOtherVariable(t *testing.T) {
	event := Event{Kind: KindUser, Name: "deploy", SelfTags: map[string]string{
		"PATH": "/evil", "=": "x", "x=y\n": "z", "": "empty", "ld_preload": "evil.so", "émile": "e", "\xff": "byte",
	}}
	env, err := environment(event, "/h")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		if seen[name] {
			t.Errorf("%s is there twice", name)
		}
		seen[name] = true
		if strings.HasPrefix(name, "SERF_TAG_") || strings.HasPrefix(name, "SECGOSSIP_TAG_") {
			continue
		}
		if value == "/evil" || value == "evil.so" || strings.HasPrefix(name, "LD_") {
			t.Errorf("a tag became %q", entry)
		}
	}
	for _, name := range []string{"SERF_TAG_PATH", "SERF_TAG__", "SERF_TAG_X_Y_", "SERF_TAG_", "SERF_TAG_LD_PRELOAD", "SERF_TAG__MILE"} {
		if !seen[name] {
			t.Errorf("%s is missing in %q", name, env)
		}
	}
}

func TestFirstOfCollidingTagsWins(t *testing.T) {
	event := Event{Kind: KindUser, Name: "deploy", SelfTags: map[string]string{"a_b": "3", "a-b": "1", "a.b": "2", "A_B": "0"}}
	for range 50 {
		env, err := environment(event, "/h")
		if err != nil {
			t.Fatal(err)
		}
		if got := grep(env, "SERF_TAG_A_B="); len(got) != 1 || got[0] != "SERF_TAG_A_B=0" {
			t.Fatalf("got %q, want the value of %q, which sorts first", got, "A_B")
		}
	}
}

func grep(list []string, prefix string) (found []string) {
	for _, entry := range list {
		if strings.HasPrefix(entry, prefix) {
			found = append(found, entry)
		}
	}
	return found
}
