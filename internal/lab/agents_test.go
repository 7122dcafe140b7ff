package lab

import (
	"fmt"
	"net/netip"
	"testing"
)

func TestAgentsInNamespacesFindEachOther(t *testing.T) {
	if why := WhyNoNetworks(t.Context()); why != "" {
		t.Skip(why)
	}
	bin, err := secgossip.Path()
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(bin, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Remove() })
	network, err := NewNetwork(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { network.Remove() })

	var nodes []*Node
	for i, addr := range []string{"203.0.113.7/24", "198.51.100.8/24"} {
		host, err := network.Add(t.Context(), netip.MustParsePrefix(addr))
		if err != nil {
			t.Fatal(err)
		}
		// The same port everywhere, and RPC on each host's own loopback.
		gossip := netip.AddrPortFrom(host.Addrs[0].Addr(), 7946).String()
		nodes = append(nodes, &Node{Name: fmt.Sprintf("web-%d", i+1), Gossip: gossip, RPC: "127.0.0.1:7373", Prefix: host.Prefix()})
	}
	if err := l.Init(t.Context(), "lab", nodes[0].Name); err != nil {
		t.Fatal(err)
	}
	if err := l.IssueNode(t.Context(), nodes[0].Name, nodes[1].Name); err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes {
		t.Cleanup(func() { node.Kill() })
		if node != nodes[0] {
			node.Flags = []string{"--join", nodes[0].Gossip}
		}
		if err := l.Start(t.Context(), node); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.AwaitAlive(t.Context(), nodes[0].Name, nodes); err != nil {
		t.Fatal(err)
	}
	if err := StopAll(nodes); err != nil {
		t.Error(err)
	}
}
