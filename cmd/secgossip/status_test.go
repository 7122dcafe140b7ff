package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
)

// A healthy cluster of three, as the agent of a says it.
func healthyAnswers(now time.Time) (*secgossipv1.GetInfoResponse, *secgossipv1.ListKeysResponse, *secgossipv1.ListMembersResponse) {
	section := func(pairs ...string) *secgossipv1.InfoSection {
		values := make(map[string]string)
		for pair := range slices.Chunk(pairs, 2) {
			values[pair[0]] = pair[1]
		}
		return &secgossipv1.InfoSection{Values: values}
	}
	info := &secgossipv1.GetInfoResponse{Sections: map[string]*secgossipv1.InfoSection{
		"agent": section("name", "a", "cluster", "demo"), "clock": section("offset", "0s", "right", "yes"),
	}}
	keys := &secgossipv1.ListKeysResponse{
		Keeper: "a", RotateEveryS: 3600,
		Epochs: []*secgossipv1.Epoch{{Number: 7, Primary: true, Created: timestamppb.New(now.Add(-time.Minute))}},
	}
	members := new(secgossipv1.ListMembersResponse)
	for _, name := range []string{"a", "b", "d"} {
		m := &secgossipv1.Member{Name: name, Status: "alive", Path: "udp"}
		if name == "a" {
			m.Path = ""
		}
		members.Members = append(members.Members, m)
		keys.Nodes = append(keys.Nodes, &secgossipv1.NodeEpoch{Node: name, Status: "alive", Epoch: 7})
	}
	return info, keys, members
}

func TestStatusWarnsOfWhatIsWrongAndSaysSoByItsExitCode(t *testing.T) {
	now := time.Now()
	for name, test := range map[string]struct {
		change func(*secgossipv1.GetInfoResponse, *secgossipv1.ListKeysResponse, *secgossipv1.ListMembersResponse)
		code   int
		says   string
	}{
		"nothing": {func(*secgossipv1.GetInfoResponse, *secgossipv1.ListKeysResponse, *secgossipv1.ListMembersResponse) {}, exitDone, ""},
		"no keeper": {func(_ *secgossipv1.GetInfoResponse, k *secgossipv1.ListKeysResponse, _ *secgossipv1.ListMembersResponse) {
			k.Keeper = ""
		}, exitFailed, "NO KEEPER IS ALIVE"},
		"a revoked node": {func(_ *secgossipv1.GetInfoResponse, _ *secgossipv1.ListKeysResponse, m *secgossipv1.ListMembersResponse) {
			m.Members[0].Status = "evicted"
		}, exitFailed, "THIS NODE WAS REVOKED"},
		"no epoch": {func(_ *secgossipv1.GetInfoResponse, k *secgossipv1.ListKeysResponse, _ *secgossipv1.ListMembersResponse) {
			k.Epochs = nil
		}, exitFailed, "no epoch yet"},
		"a wrong clock": {func(i *secgossipv1.GetInfoResponse, _ *secgossipv1.ListKeysResponse, _ *secgossipv1.ListMembersResponse) {
			i.Sections["clock"].Values["offset"], i.Sections["clock"].Values["right"] = "1h0m0s", "no"
		}, exitFailed, "1h0m0s ahead"},
		"clocks that differ": {func(i *secgossipv1.GetInfoResponse, _ *secgossipv1.ListKeysResponse, _ *secgossipv1.ListMembersResponse) {
			i.Sections["clock"].Values["right"] = "unknown"
		}, exitFailed, "clocks differ"},
		"an old epoch": {func(_ *secgossipv1.GetInfoResponse, k *secgossipv1.ListKeysResponse, _ *secgossipv1.ListMembersResponse) {
			k.RotateEveryS = 29
		}, exitFailed, "epoch 7 should have been replaced"},
		"a member in quarantine": {func(i *secgossipv1.GetInfoResponse, _ *secgossipv1.ListKeysResponse, _ *secgossipv1.ListMembersResponse) {
			i.Sections["quarantine"] = &secgossipv1.InfoSection{Values: map[string]string{"d": "for 59m0s", "b": "for 1m0s"}}
		}, exitFailed, "no honest member sends: b, d"},
		"a failed member": {func(_ *secgossipv1.GetInfoResponse, k *secgossipv1.ListKeysResponse, m *secgossipv1.ListMembersResponse) {
			k.Nodes[2].Status, m.Members[2].Status = "failed", "failed"
		}, exitSilent, "silent: d"},
		"a member out of reach": {func(_ *secgossipv1.GetInfoResponse, _ *secgossipv1.ListKeysResponse, m *secgossipv1.ListMembersResponse) {
			m.Members[1].Path = ""
		}, exitSilent, "silent: b"},
		"a member behind": {func(_ *secgossipv1.GetInfoResponse, k *secgossipv1.ListKeysResponse, _ *secgossipv1.ListMembersResponse) {
			k.Nodes[1].Epoch = 6
		}, exitSilent, "not known to use epoch 7: b"},
		"silence and no keeper": {func(_ *secgossipv1.GetInfoResponse, k *secgossipv1.ListKeysResponse, m *secgossipv1.ListMembersResponse) {
			k.Keeper, m.Members[1].Path = "", ""
		}, exitFailed, "NO KEEPER IS ALIVE"},
	} {
		info, keys, members := healthyAnswers(now)
		test.change(info, keys, members)
		view := healthOf(info, keys, members, now)
		err := view.verdict()
		code := exitDone
		if err != nil {
			code = exitCode(err)
		}
		if code != test.code || err != nil && (!strings.Contains(err.Error(), test.says) || hintOf(err) == "") {
			t.Errorf("%s: exit code %d, %v; want %d, %q and a next step", name, code, err, test.code, test.says)
		}
	}
}

func TestStatusWaitsForWhatItSays(t *testing.T) {
	now := time.Now()
	view := func(change func(*secgossipv1.ListKeysResponse, *secgossipv1.ListMembersResponse)) healthView {
		info, keys, members := healthyAnswers(now)
		change(keys, members)
		return healthOf(info, keys, members, now)
	}
	fine := view(func(*secgossipv1.ListKeysResponse, *secgossipv1.ListMembersResponse) {})
	behind := view(func(k *secgossipv1.ListKeysResponse, _ *secgossipv1.ListMembersResponse) { k.Nodes[2].Epoch = 8 })
	away := view(func(_ *secgossipv1.ListKeysResponse, m *secgossipv1.ListMembersResponse) { m.Members[2].Path = "" })
	failed := view(func(k *secgossipv1.ListKeysResponse, m *secgossipv1.ListMembersResponse) {
		k.Nodes[2].Status, m.Members[2].Status = "failed", "failed"
	})
	newer := view(func(k *secgossipv1.ListKeysResponse, _ *secgossipv1.ListMembersResponse) { k.Epochs[0].Number = 8 })
	none := view(func(k *secgossipv1.ListKeysResponse, m *secgossipv1.ListMembersResponse) {
		k.Epochs, k.Nodes, m.Members = nil, k.Nodes[:1], m.Members[:1] // such as with its epochs in memory, just started
		k.Nodes[0].Epoch = 0
	})

	converged := condition(t, "converged")
	if !converged(fine) || !converged(failed) || converged(behind) || converged(away) {
		t.Errorf("converged: all well %t, one failed %t, one on another epoch %t, one out of reach %t; want true, true, false, false",
			converged(fine), converged(failed), converged(behind), converged(away))
	}
	if converged(none) || none.verdict() == nil {
		t.Error("an agent without an epoch, which has met nobody, calls that converged, or all well")
	}
	rotated := condition(t, "rotated")
	before, still := rotated(fine), rotated(fine)
	if before || still || !rotated(newer) {
		t.Error("rotated: before a newer epoch is in use, or not when it is")
	}
	if _, err := conditionFor("evicted"); !errors.Is(err, errUsage) {
		t.Errorf("for something else: %v, want a usage error", err)
	}
}

func condition(t *testing.T, word string) func(healthView) bool {
	t.Helper()
	reached, err := conditionFor(word)
	if err != nil {
		t.Fatal(err)
	}
	return reached
}
