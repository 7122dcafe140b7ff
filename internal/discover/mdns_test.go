package discover

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// On loopback, where everybody is a neighbour.
func TestNeighboursFindEachOther(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Skipf("no loopback named lo: %v", err)
	}
	ours, others := Neighbours{Name: "demo", Iface: lo}, Neighbours{Name: "other", Iface: lo}
	said, err := ours.Announce("web-1", []netip.Addr{netip.MustParseAddr("127.0.0.1")}, 7946)
	if err != nil {
		t.Skipf("multicast DNS cannot be spoken here: %v", err)
	}
	defer said.Close()
	deadline := time.Now().Add(30 * time.Second)
	for {
		found, err := ours.Look(t.Context())
		if err == nil && slices.Contains(found, "127.0.0.1:7946") {
			break
		}
		if time.Now().After(deadline) {
			t.Skipf("multicast does not come back on loopback: %q, %v", found, err)
		}
	}
	if found, _ := others.Look(t.Context()); len(found) > 0 {
		t.Errorf("another cluster finds %q", found)
	}
}

func TestNamesForNeighbours(t *testing.T) {
	for _, name := range []string{"", "Demo", "a.b", "a b", "a_b", strings.Repeat("a", 41)} {
		if CheckNeighbours(name) == nil {
			t.Errorf("%q is taken", name)
		}
	}
	if err := CheckNeighbours("demo-2"); err != nil {
		t.Error(err)
	}
}
