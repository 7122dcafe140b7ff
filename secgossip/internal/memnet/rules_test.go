package memnet

import (
	"net/netip"
	"testing"
	"time"
)

// trio is three hosts that send each other datagrams.
type trio struct {
	sockets map[netip.Addr]PacketConn
	boxes   map[netip.Addr]*inbox
}

func mustTrio(t *testing.T, n *Network) trio {
	t.Helper()
	three := trio{make(map[netip.Addr]PacketConn), make(map[netip.Addr]*inbox)}
	for _, addr := range []netip.Addr{addrA, addrB, addrC} {
		three.sockets[addr] = mustListenPacket(t, n.Host(addr))
		three.boxes[addr] = mustCollect(three.sockets[addr])
	}
	return three
}

// wantReach sends a datagram each way between all and checks that exactly the
// pairs in want got theirs.
func (three trio) wantReach(t *testing.T, when string, want ...path) {
	t.Helper()
	reached := make(map[path]bool)
	for _, way := range want {
		reached[way] = true
	}
	for from, socket := range three.sockets {
		for to, box := range three.boxes {
			mustSend(t, socket, to, "x")
			got := len(box.take()) == 1
			if from != to && got != reached[path{from, to}] {
				t.Errorf("%s: %v reaches %v: got %v, want %v", when, from, to, got, !got)
			}
			if from == to && !got {
				t.Errorf("%s: %v does not reach itself", when, from)
			}
		}
	}
}

func TestRulesDecideWhoReachesWhom(t *testing.T) {
	all := []path{{addrA, addrB}, {addrA, addrC}, {addrB, addrA}, {addrB, addrC}, {addrC, addrA}, {addrC, addrB}}
	ab := []path{{addrA, addrB}, {addrB, addrA}}
	for _, test := range []struct {
		name  string
		rules func(n *Network)
		want  []path
	}{
		{"no rule", func(n *Network) {}, all},
		{"block is one direction", func(n *Network) { n.Block(addrA, addrB) }, all[1:]},
		{"block of datagrams is one direction", func(n *Network) { n.BlockUDP(addrA, addrB) }, all[1:]},
		{"unblock ends both", func(n *Network) {
			n.Block(addrA, addrB)
			n.BlockUDP(addrA, addrB)
			n.Unblock(addrA, addrB)
		}, all},
		{"unblock is one direction", func(n *Network) {
			n.Block(addrA, addrB)
			n.Unblock(addrB, addrA)
		}, all[1:]},
		{"two groups", func(n *Network) { n.Partition([]netip.Addr{addrA, addrB}, []netip.Addr{addrC}) }, ab},
		{"hosts in no group are one", func(n *Network) { n.Partition([]netip.Addr{addrC}) }, ab},
		{"a second partition replaces the first", func(n *Network) {
			n.Partition([]netip.Addr{addrA}, []netip.Addr{addrB}, []netip.Addr{addrC})
			n.Partition([]netip.Addr{addrC})
		}, ab},
		{"heal ends a partition", func(n *Network) {
			n.Partition([]netip.Addr{addrA}, []netip.Addr{addrB}, []netip.Addr{addrC})
			n.Heal()
		}, all},
		{"heal leaves blocks", func(n *Network) {
			n.Block(addrA, addrB)
			n.Heal()
		}, all[1:]},
		{"unblock leaves a partition", func(n *Network) {
			n.Partition([]netip.Addr{addrC})
			n.Unblock(addrA, addrC)
		}, ab},
		{"mapped addresses are the same", func(n *Network) {
			n.Block(netip.AddrFrom16(addrA.As16()), netip.AddrFrom16(addrB.As16()))
		}, all[1:]},
	} {
		story(t, func(t *testing.T, n *Network) {
			three := mustTrio(t, n)
			test.rules(n)
			three.wantReach(t, test.name, test.want...)
		})
	}
}

// A path must be open when a datagram leaves and when it arrives.
func TestDatagramOnItsWayIsDroppedByABlock(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		from, arrived := pair(t, n)
		n.Delay(time.Second, time.Second)
		mustSend(t, from, addrB, "sent before the block")
		n.Block(addrA, addrB)
		time.Sleep(2 * time.Second)
		mustSend(t, from, addrB, "sent during the block")
		n.Unblock(addrA, addrB)
		time.Sleep(time.Second)
		wantTexts(t, "arrived", arrived.take())
	})
}
