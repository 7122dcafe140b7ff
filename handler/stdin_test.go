package handler

import (
	"net/netip"
	"testing"
)

func TestPayloadEndsInOneNewlineUnlessEmpty(t *testing.T) {
	for payload, want := range map[string]string{
		"": "", "xcxx": "xcxx\n", "xcxx\n": "xcxx\n", "a\nb": "a\nb\n", "\n": "\n", "a\n\n": "a\n\n", "\x00": "\x00\n", "a\r": "a\r\n",
	} {
		for _, kind := range []Kind{KindUser, KindQuery} {
			if got := standardInput(Event{Kind: kind, Payload: []byte(payload)}); string(got) != want {
				t.Errorf("%s payload %q became %q, want %q", kind, payload, got, want)
			}
		}
	}
}

// Handlers share the payload. A newline written behind it would land in what
// another handler reads.
func TestPayloadIsNotWrittenTo(t *testing.T) {
	shared := []byte("abcX")
	standardInput(Event{Kind: KindUser, Payload: shared[:3]})
	if string(shared) != "abcX" {
		t.Errorf("memory behind the payload became %q", shared)
	}
}

func TestMembersAreOneLineEachInSerfsForm(t *testing.T) {
	event := Event{Kind: KindMemberJoin, Payload: []byte("not for members"), Members: []Member{
		{Name: "web1", Addr: netip.MustParseAddr("192.0.2.1"), Role: "web", Tags: map[string]string{"role": "web", "dc": "a,b=c", "az": ""}},
		{Name: "we\tb\n2", Addr: netip.MustParseAddr("fe80::1%e\tth0\n"), Role: "a\nb", Tags: map[string]string{"k\t": "v\nw\tx\\n"}},
		{Name: "bare"},
	}}
	want := "web1\t192.0.2.1\tweb\taz=,dc=a,b=c,role=web\n" +
		`we\tb\n2` + "\t" + `fe80::1%e\tth0\n` + "\t" + `a\nb` + "\t" + `k\t=v\nw\tx\n` + "\n" +
		"bare\t\t\t\n"
	if got := standardInput(event); string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	got := string(standardInput(Event{Kind: KindEpoch, Epoch: Epoch{Number: 7, Action: "use", Reason: "a\tb\n", Keeper: "web-1"}}))
	if want := "7\tuse\t" + `a\tb\n` + "\tweb-1\n"; got != want {
		t.Errorf("of an epoch got %q, want %q", got, want)
	}
	if got := standardInput(Event{Kind: KindMemberLeave}); len(got) != 0 {
		t.Errorf("no members gave %q, want nothing", got)
	}
}
