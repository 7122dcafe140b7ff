package memnet

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestKilledHostResetsItsPeers(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		n.Delay(time.Second, time.Second)
		mustWrite(t, b, "last words")
		n.Host(addrB).Kill()
		time.Sleep(time.Second)
		wantRead(t, "sent before", a, "last words")
		wantError(t, "then", readError(a), syscall.ECONNRESET)
		wantError(t, "write", writeError(a), syscall.ECONNRESET)
	})
}

func TestPeersCutOffFromAKilledHostSeeNothingUntilTheyAreReached(t *testing.T) {
	for name, write := range map[string]func(t *testing.T, a net.Conn){
		"peer is silent": func(t *testing.T, a net.Conn) {},
		"peer writes":    func(t *testing.T, a net.Conn) { mustWrite(t, a, "stalled") },
	} {
		talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
			n.Partition([]netip.Addr{addrA})
			mustWrite(t, b, "stalled, lost with the host")
			n.Host(addrB).Kill()
			write(t, a)
			wantSilence(t, name+", cut off", a)
			n.Heal()
			wantError(t, name+", reached", readError(a), syscall.ECONNRESET)
		})
	}
}

// The goroutines of a killed agent still run in the test. They must not reach
// anybody any more.
func TestKilledHostIsDeadForWhoStillUsesIt(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		a, b := n.Host(addrA), n.Host(addrB)
		mustListen(t, a)
		packets, listener := mustListenPacket(t, b), mustListen(t, b)
		stream, err := b.Dial(t.Context(), at(addrA))
		if err != nil {
			t.Fatal(err)
		}
		n.Block(addrB, addrA)
		dialling := make(chan error)
		go func() { _, err := b.Dial(t.Context(), at(addrA)); dialling <- err }()
		synctest.Wait()

		start := time.Now()
		b.Kill()
		b.Kill() // twice is once
		wantError(t, "dial under way", <-dialling, net.ErrClosed)
		if took := time.Since(start); took != 0 {
			t.Errorf("dial under way went on for %v, want its end at once", took)
		}
		_, _, err = packets.ReadFromUDPAddrPort(nil)
		wantError(t, "ReadFromUDPAddrPort", err, net.ErrClosed)
		_, err = packets.WriteToUDPAddrPort(nil, at(addrA))
		wantError(t, "WriteToUDPAddrPort", err, net.ErrClosed)
		_, err = listener.Accept()
		wantError(t, "Accept", err, net.ErrClosed)
		wantError(t, "Read", readError(stream), net.ErrClosed)
		_, err = b.Dial(t.Context(), at(addrA))
		wantError(t, "Dial", err, net.ErrClosed)
		_, err = b.Listen(at(addrB))
		wantError(t, "Listen", err, net.ErrClosed)
		_, err = b.ListenPacket(at(addrB))
		wantError(t, "ListenPacket", err, net.ErrClosed)
	})
}

func TestRestartedHostHasItsPortsAndNoneOfItsStreams(t *testing.T) {
	talk(t, func(t *testing.T, n *Network, a, b net.Conn) {
		dead := n.Host(addrB)
		mustListenPacket(t, dead)
		dead.Kill()
		box := mustCollect(mustListenPacket(t, n.Host(addrB)))
		mustSend(t, mustListenPacket(t, n.Host(addrA)), addrB, "hello again")
		wantTexts(t, "after the restart", box.take(), "192.0.2.1: hello again")
		wantError(t, "old stream", readError(a), syscall.ECONNRESET)
		again, _ := mustConnect(t, n.Host(addrA), n.Host(addrB))
		mustWrite(t, again, "hello")
		dead.Kill() // the one before, not this one
		mustSend(t, mustListenPacketAt(t, n.Host(addrA), 0), addrB, "still here")
		wantTexts(t, "after the old host was killed again", box.take(), "192.0.2.1: still here")
	})
}

func mustListenPacketAt(t *testing.T, h *Host, port uint16) PacketConn {
	t.Helper()
	c, err := h.ListenPacket(netip.AddrPortFrom(h.Addr(), port))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
