package handler

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestJSONDocumentIsTheOneDescribed(t *testing.T) {
	for name, test := range map[string]struct {
		event Event
		want  string
	}{
		"user": {
			Event{
				Kind: KindUser, Name: "deploy", LTime: 7, Payload: []byte("v1\n"), Principal: "alice", TokenID: "0a", EventID: "0b", Origin: "web-2",
				Expires: time.Unix(1_800_000_000, 0), SelfName: "web-1", SelfTags: map[string]string{"role": "web"},
			},
			`{"event":"user","name":"deploy","id":"0b","ltime":7,"payload":"djEK","text":"v1\n","principal":"alice","token":"0a",` +
				`"origin":"web-2","expires":"2027-01-15T08:00:00Z","self":{"name":"web-1","tags":{"role":"web"}}}`,
		},
		"no text": {
			Event{Kind: KindUser, Name: "x", Payload: []byte{0xff, 0}},
			`{"event":"user","name":"x","payload":"/wA=","self":{"name":"","tags":{}}}`,
		},
		"query": {
			Event{Kind: KindQuery, Name: "load", EventID: "0c", Deadline: time.UnixMilli(1_800_000_000_500)},
			`{"event":"query","name":"load","id":"0c","deadline":"2027-01-15T08:00:00.5Z","self":{"name":"","tags":{}}}`,
		},
		"epoch": {
			Event{Kind: KindEpoch, Epoch: Epoch{Number: 7, Action: "use", Reason: "age", Keeper: "web-3"}},
			`{"event":"epoch","epoch":{"number":7,"action":"use","reason":"age","keeper":"web-3"},"self":{"name":"","tags":{}}}`,
		},
		"member": {
			Event{Kind: KindMemberJoin, Members: []Member{
				{Name: "db-1", Addr: netip.MustParseAddr("192.0.2.7"), Role: "db", Tags: map[string]string{"role": "db"}}, {Name: "db-2"},
			}},
			`{"event":"member-join","members":[{"name":"db-1","address":"192.0.2.7","role":"db","tags":{"role":"db"}},` +
				`{"name":"db-2","tags":{}}],"self":{"name":"","tags":{}}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := jsonInput(test.event)
			if err != nil {
				t.Fatal(err)
			}
			var a, b any
			if err := json.Unmarshal(got, &a); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(test.want), &b); err != nil {
				t.Fatal(err)
			}
			if strings.Count(string(got), "\n") != 1 || !strings.HasSuffix(string(got), "\n") {
				t.Errorf("got %q, want one line", got)
			}
			if diff := cmp.Diff(b, a); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Threat C12: beside a JSON document nothing that others chose is in the environment.
func TestEnvironmentBesideJSONHoldsSixFixedNames(t *testing.T) {
	got, err := environmentFor(InputJSON, Event{
		Kind: KindUser, Name: "x", LTime: 1, Principal: "mallory", EventID: "id", Origin: "o",
		SelfName: "self", SelfTags: map[string]string{"role": "web", "zone": "z"},
	}, "/scratch")
	want := []string{
		"HOME=/scratch", "LANG=C.UTF-8", "PATH=" + fixedPath, "SECGOSSIP_EVENT=user", "SERF_EVENT=user", "TMPDIR=/scratch",
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got, err := environmentFor(InputJSON, Event{Kind: "$(id)"}, "/scratch"); err == nil {
		t.Errorf("an unknown kind got %q", got)
	}
}
