package secgossip

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// A host's addresses change while it runs: it moves to another network, or gets
// another lease. Those who talk to it notice by themselves; everybody else hears
// of it by a new record.

const (
	// moveEvery is how often a node looks at its addresses.
	moveEvery = 30 * time.Second

	// updateTimeout is how long memberlist waits for somebody to take the news.
	updateTimeout = time.Second
)

// endpointLoop tells the cluster when this host's addresses have changed. What the
// settings advertise does not change.
func (n *Node) endpointLoop() {
	ticker := time.NewTicker(moveEvery)
	defer ticker.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-ticker.C:
		}
		endpoints := n.advertised()
		// A host that has lost its network keeps its record: it may come back.
		if len(endpoints) == 0 || endpoints[0].Addr().IsLoopback() && !n.self.endpoint().Addr().IsLoopback() {
			continue
		}
		if !n.leaving.Load() && n.self.move(endpoints) {
			n.logger.Info("this host has other addresses now", slog.Any("endpoints", endpoints))
			if err := n.announce(); err != nil {
				n.logger.Error("signing our node record", slog.Any("error", err))
			}
		}
	}
}

// advertised returns the addresses others are told: what the settings say, else
// the address we listen on, else those of this host's interfaces. A loopback
// address is only told when there is nothing else.
func (n *Node) advertised() []netip.AddrPort {
	port := n.transport.Port()
	if len(n.config.Advertise) > 0 {
		return n.config.Advertise
	}
	if bound := n.config.Bind.Addr(); !bound.IsUnspecified() {
		return []netip.AddrPort{netip.AddrPortFrom(bound, port)}
	}
	var public, private, loopback []netip.AddrPort
	for _, addr := range n.config.addresses(n.config.Bind.Addr().Is4()) {
		at := netip.AddrPortFrom(addr, port)
		switch {
		case addr.IsLoopback():
			loopback = append(loopback, at)
		case addr.IsPrivate():
			private = append(private, at)
		default:
			public = append(public, at)
		}
	}
	all := slices.Concat(public, private)
	if len(all) == 0 {
		all = loopback
	}
	return all[:min(len(all), wire.MaxEndpoints)]
}

// interfaceAddrs lists this host's unicast addresses, without link-local ones:
// they mean nothing on another link.
func interfaceAddrs(only4 bool) []netip.Addr {
	var all []netip.Addr
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range found {
		ipnet, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, ok := netip.AddrFromSlice(ipnet.IP)
		if !ok {
			continue
		}
		addr = addr.Unmap()
		if addr.IsLinkLocalUnicast() || addr.IsMulticast() || only4 && !addr.Is4() {
			continue
		}
		all = append(all, addr)
	}
	return all
}
