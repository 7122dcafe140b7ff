package guard

import (
	"crypto/sha256"
	"net/netip"

	"github.com/secgossip/secgossip/pki"
)

// VirtualPort is the port of every virtual address. It means nothing; memberlist
// wants one.
const VirtualPort = 7946

// VirtualAddr is the address memberlist knows a node by: a unique local IPv6
// address (RFC 4193, fd00::/8) hashed from the cluster id and the node's name.
//
// A name belongs to one key, so its address never changes: not when the node
// moves, is renewed or is set up again. memberlist's address conflicts cannot
// arise, nobody can squat on an address, and no address a peer puts into a
// message is ever dialled: real endpoints come from the signed record alone.
func VirtualAddr(cluster pki.ClusterID, name pki.Name) netip.AddrPort {
	h := sha256.New()
	h.Write([]byte("secgossip/1 virtual address\x00"))
	h.Write(cluster[:])
	h.Write([]byte(name))
	sum := h.Sum(nil)
	addr := [16]byte(sum[:16])
	addr[0] = 0xfd
	return netip.AddrPortFrom(netip.AddrFrom16(addr), VirtualPort)
}
