package secgossip

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Profile is a set of timings, named as in Serf.
type Profile string

// The profiles. Those of Serf's names have memberlist's own values.
const (
	ProfileLAN   Profile = "lan"
	ProfileWAN   Profile = "wan"
	ProfileLocal Profile = "local"

	// ProfileInternet is for hosts with public addresses: packets take up to
	// 300 ms there and back, and some are lost for seconds. It finds a failure in
	// some twice the time of lan, and a third of that of wan.
	ProfileInternet Profile = "internet"
)

// Profiles are all of them.
var Profiles = []Profile{ProfileLAN, ProfileWAN, ProfileLocal, ProfileInternet}

// ParseProfile accepts lan, wan, local and internet.
func ParseProfile(s string) (Profile, error) {
	if p := Profile(s); slices.Contains(Profiles, p) {
		return p, nil
	}
	return "", fmt.Errorf("profile %q: use lan, wan, local or internet", s)
}

// ProfileFor is the profile of a node that is reached at these addresses: internet
// if any is public, else lan.
func ProfileFor(addrs []netip.Addr) Profile {
	if slices.ContainsFunc(addrs, isPublic) {
		return ProfileInternet
	}
	return ProfileLAN
}

// sharedAddresses is what carriers use behind their routers (RFC 6598).
var sharedAddresses = netip.MustParsePrefix("100.64.0.0/10")

func isPublic(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate() && !sharedAddresses.Contains(a)
}

// memberlist returns the profile's settings with everything off that is ours to
// do: encryption, compression, labels, names from addresses.
func (p Profile) memberlist() *memberlist.Config {
	var c *memberlist.Config
	switch p {
	case ProfileWAN:
		c = memberlist.DefaultWANConfig()
	case ProfileLocal:
		c = memberlist.DefaultLocalConfig()
	case ProfileInternet:
		c = memberlist.DefaultLANConfig()
		c.ProbeTimeout, c.ProbeInterval = time.Second, 2*time.Second
		c.IndirectChecks, c.SuspicionMult = 4, 5
		c.GossipNodes = 4
		c.GossipToTheDeadTime = time.Minute
	default:
		c = memberlist.DefaultLANConfig()
	}
	c.SecretKey, c.Keyring = nil, nil
	c.EnableCompression = false
	c.Label = ""
	// Every packet memberlist builds fits one datagram of ours. It fills this
	// much and then puts its checksum in front.
	c.UDPBufferSize = wire.MaxGossipPacket - memberlistChecksum
	return c
}

// memberlistChecksum is what memberlist puts before gossip to members that speak
// its protocol 5: a type byte and a CRC-32.
const memberlistChecksum = 5

// profile is the one in force.
func (c *Config) profile() Profile {
	if c.Profile != "" {
		return c.Profile
	}
	addrs := []netip.Addr{c.Bind.Addr()}
	for _, a := range c.Advertise {
		addrs = append(addrs, a.Addr())
	}
	if len(c.Advertise) == 0 && c.Bind.Addr().IsUnspecified() {
		addrs = c.addresses(c.Bind.Addr().Is4())
	}
	return ProfileFor(addrs)
}
