package discover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hashicorp/mdns"
)

// Neighbours are the nodes of one link that say by multicast DNS where they are.
// Everybody on the link hears it, and anybody there can say it: it is off unless
// the settings name a cluster to look for.
type Neighbours struct {
	Name  string         // of the cluster, as the settings have it
	Iface *net.Interface // nil: the system's choice
}

// CheckNeighbours refuses a name that cannot be part of a service's.
func CheckNeighbours(name string) error {
	if name == "" || len(name) > 40 {
		return fmt.Errorf("%q: want a name of 1 to 40 characters", name)
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("%q: use a to z, 0 to 9 and -", name)
		}
	}
	return nil
}

// service is what is looked for: the same for all nodes of one name.
func (n Neighbours) service() string { return "_secgossip-" + n.Name + "._udp" }

// silent is where mdns writes what it thinks of packets of others.
func silent() *log.Logger { return log.New(io.Discard, "", 0) }

// Announce says on the link that node can be joined at addrs, until the closer is
// closed. It says nothing else about it.
func (n Neighbours) Announce(node string, addrs []netip.Addr, port uint16) (io.Closer, error) {
	var ips []net.IP
	for _, a := range addrs {
		ips = append(ips, a.AsSlice())
	}
	zone, err := mdns.NewMDNSService(node, n.service(), "", node+".local.", int(port), ips, []string{"secgossip"})
	if err != nil {
		return nil, fmt.Errorf("mdns: %w", err)
	}
	server, err := mdns.NewServer(&mdns.Config{Zone: zone, Iface: n.Iface, Logger: silent()})
	if err != nil {
		return nil, fmt.Errorf("mdns: %w", err)
	}
	return closer(server.Shutdown), nil
}

type closer func() error

func (c closer) Close() error { return c() }

// listenTime is how long answers are waited for.
const listenTime = 2 * time.Second

// Look asks the link once and returns the addresses of those who answered within
// two seconds, at most MaxAddresses.
func (n Neighbours) Look(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*listenTime)
	defer cancel()
	entries := make(chan *mdns.ServiceEntry, MaxAddresses) // mdns drops what does not fit
	query := &mdns.QueryParam{
		Service: n.service(), Timeout: listenTime, Interface: n.Iface, Entries: entries, Logger: silent(),
	}
	err := mdns.QueryContext(ctx, query)
	if err != nil && ctx.Err() == nil {
		query.DisableIPv6 = true // The link may have none.
		err = mdns.QueryContext(ctx, query)
	}
	var addresses []string
	for len(entries) > 0 {
		if e := <-entries; e.Port > 0 && e.Port < 1<<16 {
			addresses = append(addresses, addressesOf(e)...)
		}
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("mdns: %w", err)
	}
	return addresses[:min(len(addresses), MaxAddresses)], err
}

func addressesOf(e *mdns.ServiceEntry) (addresses []string) {
	port := strconv.Itoa(e.Port)
	if e.AddrV4 != nil {
		addresses = append(addresses, net.JoinHostPort(e.AddrV4.String(), port))
	}
	if e.AddrV6IPAddr != nil {
		addresses = append(addresses, net.JoinHostPort(e.AddrV6IPAddr.String(), port))
	}
	return addresses
}
