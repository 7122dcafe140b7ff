package memnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

// A transport is written against the four methods, and a UDP socket of the
// operating system has them too.
var (
	_ PacketConn = (*net.UDPConn)(nil)
	_ PacketConn = (*packetConn)(nil)
)

// wantError checks a cause and that it comes as package net wraps it.
func wantError(t *testing.T, what string, got, want error) {
	t.Helper()
	var op *net.OpError
	if !errors.Is(got, want) || !errors.As(got, &op) {
		t.Errorf("%s: got error %v, want a *net.OpError about %v", what, got, want)
	}
}

func TestDatagramArrivesWithItsSource(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		a, b := mustListenPacket(t, n.Host(addrA)), mustListenPacket(t, n.Host(addrB))
		buffer := []byte("first")
		if _, err := a.WriteToUDPAddrPort(buffer, at(addrB)); err != nil {
			t.Fatal(err)
		}
		copy(buffer, "later") // the network has a copy
		got := make([]byte, 10)
		count, from, err := b.ReadFromUDPAddrPort(got)
		if string(got[:count]) != "first" || from != at(addrA) || err != nil {
			t.Errorf("got %q from %v, %v, want %q from %v", got[:count], from, err, "first", at(addrA))
		}
	})
}

// A socket for both families writes to ::ffff:192.0.2.2 when it means 192.0.2.2.
func TestMappedAddressIsTheSameHost(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		mapped := netip.AddrFrom16(addrB.As16())
		if n.Host(mapped) != n.Host(addrB) {
			t.Errorf("Host(%v) is not Host(%v)", mapped, addrB)
		}
		box := mustCollect(mustListenPacket(t, n.Host(addrB)))
		mustSend(t, mustListenPacket(t, n.Host(addrA)), mapped, "hello")
		wantTexts(t, "arrived", box.take(), "192.0.2.1: hello")
	})
}

func TestLongDatagramIsCutToTheBuffer(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		a, b := mustListenPacket(t, n.Host(addrA)), mustListenPacket(t, n.Host(addrB))
		mustSend(t, a, addrB, "abcdef")
		mustSend(t, a, addrB, "next")
		for _, want := range []string{"abc", "nex"} {
			got := make([]byte, 3)
			count, _, err := b.ReadFromUDPAddrPort(got)
			if string(got[:count]) != want || err != nil {
				t.Errorf("got %q, %v, want %q", got[:count], err, want)
			}
		}
	})
}

func TestFullQueueDropsTheNewest(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		a, b := mustListenPacket(t, n.Host(addrA)), mustListenPacket(t, n.Host(addrB))
		for i := range packetQueue + 10 {
			mustSend(t, a, addrB, fmt.Sprint(i))
		}
		got := mustCollect(b).take()
		if len(got) != packetQueue || got[0] != "192.0.2.1: 0" || got[packetQueue-1] != "192.0.2.1: 255" {
			t.Errorf("got %d datagrams, first %q, last %q, want the first %d", len(got), got[0], got[len(got)-1], packetQueue)
		}
	})
}

func TestDatagramToNobodyIsNoError(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		a := mustListenPacket(t, n.Host(addrA))
		n.Host(addrB)
		mustSend(t, a, addrB, "closed port")
		mustSend(t, a, addrC, "no such host")
	})
}

func TestImpossibleDatagramsAreRefused(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		a := mustListenPacket(t, n.Host(addrA))
		var missing *net.AddrError
		if _, err := a.WriteToUDPAddrPort(nil, netip.AddrPort{}); !errors.As(err, &missing) {
			t.Errorf("no address: got %v, want a *net.AddrError", err)
		}
		_, err := a.WriteToUDPAddrPort(nil, netip.AddrPortFrom(addrB, 0))
		wantError(t, "port 0", err, syscall.EINVAL)
		_, err = a.WriteToUDPAddrPort(make([]byte, maxDatagram+1), at(addrB))
		wantError(t, "too long", err, syscall.EMSGSIZE)
		if _, err := a.WriteToUDPAddrPort(make([]byte, maxDatagram), at(addrB)); err != nil {
			t.Errorf("longest datagram: got %v, want none", err)
		}
	})
}

func TestClosedPacketConnRefusesEverything(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		a := mustListenPacket(t, n.Host(addrA))
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		_, _, err := a.ReadFromUDPAddrPort(nil)
		wantError(t, "read", err, net.ErrClosed)
		_, err = a.WriteToUDPAddrPort(nil, at(addrB))
		wantError(t, "write", err, net.ErrClosed)
		wantError(t, "close", a.Close(), net.ErrClosed)
		mustListenPacket(t, n.Host(addrA)) // the port is free again
	})
}

func TestBindingReportsWhatAKernelWould(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		h := n.Host(addrA)
		mustListenPacket(t, h)
		mustListen(t, h) // datagrams and streams do not share ports
		open := map[string]func(netip.AddrPort) (net.Addr, error){
			"udp": func(addr netip.AddrPort) (net.Addr, error) {
				c, err := h.ListenPacket(addr)
				if err != nil {
					return nil, err
				}
				return c.LocalAddr(), nil
			},
			"tcp": func(addr netip.AddrPort) (net.Addr, error) {
				l, err := h.Listen(addr)
				if err != nil {
					return nil, err
				}
				return l.Addr(), nil
			},
		}
		for network, open := range open {
			_, err := open(at(addrA))
			wantError(t, network+": port in use", err, syscall.EADDRINUSE)
			_, err = open(netip.AddrPortFrom(netip.IPv4Unspecified(), port))
			wantError(t, network+": port in use, any address", err, syscall.EADDRINUSE)
			_, err = open(at(addrB))
			wantError(t, network+": another host's address", err, syscall.EADDRNOTAVAIL)
			for _, ip := range []netip.Addr{addrA, netip.IPv6Unspecified()} {
				first, err := open(netip.AddrPortFrom(ip, 0))
				second, err2 := open(netip.AddrPortFrom(ip, 0))
				if err != nil || err2 != nil || first.String() == second.String() {
					t.Errorf("%s: port 0 twice on %v: got %v, %v and %v, %v, want two ports", network, ip, first, err, second, err2)
				}
			}
			got, err := open(netip.AddrPort{})
			if err != nil || got.Network() != network || netip.MustParseAddrPort(got.String()).Addr() != addrA {
				t.Errorf("%s: no address: got %v, %v, want one of %v", network, got, err, addrA)
			}
		}
	})
}

func TestAHostRunsOutOfPorts(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		h := n.Host(addrA)
		for range lastPort - firstPort + 1 {
			if _, err := h.ListenPacket(netip.AddrPort{}); err != nil {
				t.Fatal(err)
			}
		}
		_, err := h.ListenPacket(netip.AddrPort{})
		wantError(t, "one port too many", err, syscall.EADDRINUSE)
		mustListen(t, n.Host(addrB))
		_, err = h.Dial(t.Context(), at(addrB))
		wantError(t, "dial without a port", err, syscall.EADDRNOTAVAIL)
	})
}
