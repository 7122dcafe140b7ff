package agent

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/secgossip/secgossip/internal/discover"
)

// lookEvery is how often neighbours are looked for, as in Serf.
const lookEvery = time.Minute

// meetNeighbours says on the link where this node is, and joins those who say the
// same of themselves and are no members yet. Who is a member already was met.
func (a *Agent) meetNeighbours() {
	neighbours := discover.Neighbours{Name: a.settings.Discover}
	if name := a.settings.MDNSIface; name != "" {
		iface, err := net.InterfaceByName(name)
		if err != nil {
			a.logger.Error("no neighbours are looked for: there is no such interface", "error", err)
			return
		}
		neighbours.Iface = iface
	}
	var addrs []netip.Addr
	for _, e := range a.node.Endpoints() {
		addrs = append(addrs, e.Addr())
	}
	said, err := neighbours.Announce(a.node.Name(), addrs, a.node.Port())
	if err != nil {
		a.logger.Error("neighbours are not told of this node", "error", err)
	} else {
		defer said.Close()
	}
	for {
		a.joinNeighbours(neighbours)
		select {
		case <-a.ctx.Done():
			return
		case <-time.After(lookEvery):
		}
	}
}

func (a *Agent) joinNeighbours(neighbours discover.Neighbours) {
	found, err := neighbours.Look(a.ctx)
	if err != nil && a.ctx.Err() == nil {
		a.logger.Warn("looking for neighbours", "error", err)
	}
	met := a.met()
	found = slices.DeleteFunc(found, func(address string) bool { return slices.Contains(met, address) })
	if len(found) == 0 || a.ctx.Err() != nil {
		return
	}
	n, err := a.node.Join(a.ctx, found)
	if err != nil {
		// Anybody on the link can have said it.
		a.logger.Warn("no neighbour could be joined", "error", err)
		return
	}
	a.logger.Info("joined neighbours", "answered", n)
}

// met are the addresses of live members, our own among them.
func (a *Agent) met() (addresses []string) {
	for _, e := range a.node.Endpoints() {
		addresses = append(addresses, e.String())
	}
	for _, m := range a.node.Members() {
		if m.Status.IsLive() {
			addresses = append(addresses, m.Endpoint.String())
		}
	}
	return addresses
}
