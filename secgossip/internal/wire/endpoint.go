package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// An endpoint is 4 or 16 address bytes and a port of 2: 6 or 18 bytes.

func appendEndpoint(dst []byte, endpoint netip.AddrPort) []byte {
	dst = append(dst, endpoint.Addr().AsSlice()...)
	return binary.BigEndian.AppendUint16(dst, endpoint.Port())
}

func parseEndpoint(raw []byte) (netip.AddrPort, error) {
	if len(raw) != 4+2 && len(raw) != 16+2 {
		return netip.AddrPort{}, fmt.Errorf("an endpoint of %d bytes", len(raw))
	}
	split := len(raw) - 2
	addr, _ := netip.AddrFromSlice(raw[:split]) // 4 and 16 bytes are the two it takes
	endpoint := netip.AddrPortFrom(addr, binary.BigEndian.Uint16(raw[split:]))
	return endpoint, checkEndpoint(endpoint)
}

// checkEndpoint refuses what is not one host's address in its only form. A
// member that claims a multicast or broadcast address would have us send to
// many hosts at once.
func checkEndpoint(endpoint netip.AddrPort) error {
	addr := endpoint.Addr()
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	switch {
	case !addr.IsValid(), addr.IsUnspecified(), addr.IsMulticast(), addr == broadcast:
		return fmt.Errorf("endpoint %v is no host's address", endpoint)
	case addr.Is4In6():
		return fmt.Errorf("endpoint %v is IPv4 dressed as IPv6", endpoint)
	case addr.Zone() != "":
		return fmt.Errorf("endpoint %v means something on one host only", endpoint)
	case endpoint.Port() == 0:
		return fmt.Errorf("endpoint %v has no port", endpoint)
	}
	return nil
}

// countLoopback counts the endpoints that lead whoever dials them to itself. A
// node has either none of them or no others: it runs on its host alone.
func countLoopback(endpoints []netip.AddrPort) int {
	count := 0
	for _, endpoint := range endpoints {
		if endpoint.Addr().IsLoopback() {
			count++
		}
	}
	return count
}
