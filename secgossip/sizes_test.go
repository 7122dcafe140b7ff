package secgossip

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/memnet"
	"github.com/secgossip/secgossip/secgossip/internal/transport"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// datagramsOnly is a host whose streams can be cut off: what it hears then, it
// heard by datagrams.
type datagramsOnly struct {
	Network
	on *atomic.Bool
}

func (n datagramsOnly) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	if n.on.Load() {
		return nil, syscall.ECONNREFUSED
	}
	return n.Network.Dial(ctx, addr)
}

func (n datagramsOnly) Listen(addr netip.AddrPort) (net.Listener, error) {
	listener, err := n.Network.Listen(addr)
	return cutListener{listener, n.on}, err
}

type cutListener struct {
	net.Listener
	on *atomic.Bool
}

func (l cutListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil && l.on.Load() {
		conn.Close()
	}
	return conn, err
}

var _ transport.Network = datagramsOnly{}

// What memberlist cannot put into a packet it keeps for ever and says nothing. So
// the largest things there are must get around by datagrams alone: a node with the
// longest names, all endpoints and all the tags it may have, and the longest event.
func TestNothingThatIsGossipedIsTooLargeToSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, pki.Name(strings.Repeat("c", wire.MaxName)))
		defer c.close()
		long := strings.Repeat("n", wire.MaxName)
		a, b, d := c.host("a"), c.host(long, pki.RoleKeeper), c.host("d")
		var cut atomic.Bool
		d.settings = func(config *Config) { config.Network = datagramsOnly{config.Network, &cut} }
		b.settings = func(config *Config) {
			config.Advertise = []netip.AddrPort{b.addr}
			for i := range wire.MaxEndpoints - 1 {
				addr := netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(i + 1)})
				config.Advertise = append(config.Advertise, netip.AddrPortFrom(addr, 65535))
			}
		}
		a.start()
		d.start().join(a)
		c.settle()
		cut.Store(true)
		var mu sync.Mutex
		sizes := make(map[int]int)
		c.net.Tap(func(packet memnet.Datagram) {
			mu.Lock()
			defer mu.Unlock()
			sizes[len(packet.Data)]++
		})

		tags := map[string]string{"x": strings.Repeat("x", maxTagValue), "y": strings.Repeat("y", 244)}
		if got := len(encodeTags(tags)); got < 500 || CheckTags(tags) != nil {
			t.Fatalf("tags of %d bytes (%v): there are longer ones", got, CheckTags(tags))
		}
		b.start("x", tags["x"], "y", tags["y"]).join(a)
		time.Sleep(10 * time.Second)
		if got, want := d.statuses(), "a alive, d alive, "+long+" alive"; got != want {
			t.Errorf("d sees %s, want %s", got, want)
		}
		for _, m := range d.node.Members() {
			if m.Name == long && (m.Tags["x"] != tags["x"] || m.Tags["y"] != tags["y"]) {
				t.Errorf("d was told the tags %q", m.Tags)
			}
		}
		if raw := d.node.roster.Get(pki.Name(long)).Raw; len(raw) < 690 {
			t.Errorf("the record has %d bytes: there are longer ones", len(raw))
		}

		name, payload := strings.Repeat("e", wire.MaxEventName), strings.Repeat("p", wire.MaxEventPayload)
		if err := c.client("ops", "event:*").fire(a, name, payload); err != nil {
			t.Fatal(err)
		}
		c.settle()
		if got := d.seen.names(); len(got) != 1 || got[0] != name+":"+payload {
			t.Errorf("d heard of %d events", len(got))
		}
		mu.Lock()
		defer mu.Unlock()
		for size, count := range sizes {
			if size > wire.MaxDatagram || size%wire.DatagramStep != 0 {
				t.Errorf("%d datagrams of %d bytes", count, size)
			}
		}
		if sizes[wire.MaxDatagram] == 0 {
			t.Error("no datagram was full")
		}
		for _, h := range []*host{a, b, d} {
			if got := h.node.transport.Counters()["packets_unsent"]; got != 0 {
				t.Errorf("%s could not send %d packets", h.name, got)
			}
		}
	})
}
