package secgossip

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

func TestPublicAddressesHaveTheInternetProfile(t *testing.T) {
	for addrs, want := range map[string]Profile{
		"203.0.113.7": ProfileInternet, "10.0.0.1 203.0.113.7": ProfileInternet, "2001:db8::1": ProfileInternet,
		"127.0.0.1": ProfileLAN, "::1": ProfileLAN, "10.0.0.1 192.168.1.1": ProfileLAN, "100.64.0.1": ProfileLAN,
		"fd00::1": ProfileLAN, "fe80::1": ProfileLAN, "": ProfileLAN,
	} {
		var list []netip.Addr
		for _, text := range strings.Fields(addrs) {
			list = append(list, netip.MustParseAddr(text))
		}
		if got := ProfileFor(list); got != want {
			t.Errorf("%q: %s, want %s", addrs, got, want)
		}
	}
}

func TestProfileComesFromTheAddressesThatOthersAreTold(t *testing.T) {
	public, private := netip.MustParseAddrPort("203.0.113.7:7946"), netip.MustParseAddrPort("10.0.0.1:7946")
	any4 := netip.MustParseAddrPort("0.0.0.0:7946")
	host := func(a netip.AddrPort) func(bool) []netip.Addr {
		return func(bool) []netip.Addr { return []netip.Addr{a.Addr()} }
	}
	for name, row := range map[string]struct {
		config Config
		want   Profile
	}{
		"bound to it":             {Config{Bind: public}, ProfileInternet},
		"bound to a private one":  {Config{Bind: private}, ProfileLAN},
		"behind port mapping":     {Config{Bind: private, Advertise: []netip.AddrPort{public}}, ProfileInternet},
		"on all of a public host": {Config{Bind: any4, addresses: host(public)}, ProfileInternet},
		"on all of another":       {Config{Bind: any4, addresses: host(private)}, ProfileLAN},
		"said otherwise":          {Config{Bind: public, Profile: ProfileLAN}, ProfileLAN},
	} {
		if got := row.config.profile(); got != row.want {
			t.Errorf("%s: %s, want %s", name, got, row.want)
		}
	}
}

// The table in docs/commands.md says what is in force.
func TestDocumentHasTheValuesOfTheProfiles(t *testing.T) {
	text, err := os.ReadFile("../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for _, row := range profileTable() {
		if !slices.Contains(lines, row) {
			t.Errorf("docs/commands.md has not the row\n%s", row)
		}
	}
}

func profileTable() []string {
	rows := []string{"| |", "| --- |"}
	for _, p := range Profiles {
		rows[0] += fmt.Sprintf(" `%s` |", p)
		rows[1] += " --- |"
	}
	for _, line := range []struct {
		name  string
		value func(c *memberlist.Config) any
	}{
		{"probe interval", func(c *memberlist.Config) any { return c.ProbeInterval }},
		{"probe timeout", func(c *memberlist.Config) any { return c.ProbeTimeout }},
		{"others asked to probe", func(c *memberlist.Config) any { return c.IndirectChecks }},
		{"suspicion", func(c *memberlist.Config) any { return c.SuspicionMult }},
		{"longest suspicion, times that", func(c *memberlist.Config) any { return c.SuspicionMaxTimeoutMult }},
		{"gossip interval", func(c *memberlist.Config) any { return c.GossipInterval }},
		{"gossip to so many", func(c *memberlist.Config) any { return c.GossipNodes }},
		{"each news so often, times log10(members)", func(c *memberlist.Config) any { return c.RetransmitMult }},
		{"gossip to the dead", func(c *memberlist.Config) any { return c.GossipToTheDeadTime }},
		{"exchange with one member", func(c *memberlist.Config) any { return c.PushPullInterval }},
		{"failed after about, 10 members", func(c *memberlist.Config) any {
			return time.Duration(c.SuspicionMult)*c.ProbeInterval + c.ProbeInterval
		}},
	} {
		row := "| " + line.name + " |"
		for _, p := range Profiles {
			row += fmt.Sprintf(" %v |", line.value(p.memberlist()))
		}
		rows = append(rows, row)
	}
	return rows
}
