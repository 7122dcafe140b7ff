package agent

import (
	"context"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/secgossip"
)

// A client that may read the members has no minutes of a processor for it.
func TestChoosingMembersHasAnEnd(t *testing.T) {
	members := []secgossip.Member{{Name: "web-1", Status: secgossip.StatusAlive, Tags: map[string]string{"role": "web"}}, {Name: "db-1"}}
	c, err := newChooser(&secgossipv1.ListMembersRequest{Name: "web.*", Tags: map[string]string{"role": "w?eb"}})
	if err != nil {
		t.Fatal(err)
	}
	if chosen, err := c.choose(t.Context(), members); err != nil || len(chosen) != 1 || chosen[0].Name != "web-1" {
		t.Errorf("in time: got %v, %v, want web-1", chosen, err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	chosen, err := c.choose(over, members)
	if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "5s") || chosen != nil {
		t.Errorf("when time is over: got %v, %v, want nobody and an error with the limit", chosen, err)
	}
}

func TestExpressionsThatWouldRunLongAreRefusedByTheAgentToo(t *testing.T) {
	long := "(" + strings.Repeat(".?", 120) + "){1000}"
	for want, req := range map[string]*secgossipv1.ListMembersRequest{
		"name: ":       {Name: long},
		"status: ":     {Status: long},
		`tag "role": `: {Tags: map[string]string{"role": long}},
	} {
		if _, err := newChooser(req); err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "1000 are the most") {
			t.Errorf("%s: got %v, want an error with the field and the limit", want, err)
		}
	}
}
