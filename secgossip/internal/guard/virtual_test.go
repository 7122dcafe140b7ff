package guard

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/secgossip/secgossip/pki"
)

// The addresses were computed apart from this package:
// SHA-256("secgossip/1 virtual address" || 0 || cluster || name), its first 16
// bytes, the first of which is replaced by fd.
func TestVirtualAddressesAreTheProtocols(t *testing.T) {
	counting, ones := pki.ClusterID{}, pki.ClusterID{}
	for i := range counting {
		counting[i], ones[i] = byte(i), 0xff
	}
	for _, test := range []struct {
		cluster pki.ClusterID
		name    pki.Name
		want    string
	}{
		{pki.ClusterID{}, "a", "[fde7:e6fb:8834:e55:e48e:17b8:e872:de59]:7946"},
		{counting, "web-1.example", "[fdb1:bc26:8009:9c04:1637:2860:4744:41d1]:7946"},
		{ones, pki.Name(strings.Repeat("z", 63)), "[fdc5:7378:779b:2347:f0a6:c00f:74d8:80c9]:7946"},
	} {
		if got := VirtualAddr(test.cluster, test.name); got != netip.MustParseAddrPort(test.want) {
			t.Errorf("VirtualAddr(%s, %q) = %s, want %s", test.cluster, test.name, got, test.want)
		}
	}
}

func TestEveryNodeOfEveryClusterHasAnAddressOfItsOwn(t *testing.T) {
	uniqueLocal := netip.MustParsePrefix("fd00::/8") // RFC 4193, section 3.1
	seen := make(map[netip.AddrPort]string)
	for cluster := range 4 {
		for node := range 1000 {
			name := fmt.Sprintf("n%d", node)
			at := VirtualAddr(pki.ClusterID{byte(cluster)}, pki.Name(name))
			if !uniqueLocal.Contains(at.Addr()) || !at.Addr().IsPrivate() || at.Addr().Is4In6() {
				t.Fatalf("%s of cluster %d is at %s", name, cluster, at)
			}
			if other, taken := seen[at]; taken {
				t.Fatalf("%s of cluster %d shares %s with %s", name, cluster, at, other)
			}
			seen[at] = fmt.Sprintf("%s of cluster %d", name, cluster)
		}
	}
}
