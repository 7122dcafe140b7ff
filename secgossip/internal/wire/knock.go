package wire

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// knockLabel is what a knock's MAC is for.
const knockLabel = "secgossip/1 knock"

// A Knock is what a dialler sends first: proof that it belongs to the cluster,
// cheap to check, fresh, and for one listener. It is comparable, so that a
// listener can remember the ones it has seen; without that memory it could be
// sent again. Protocol 7.1.
type Knock struct {
	Millis uint64  // milliseconds since 1970
	Random [8]byte // tells two knocks of one millisecond apart
	MAC    [16]byte
}

// A MAC computes HMAC-SHA256 under the cluster's knock key. The key stays where
// it is.
type MAC func(data []byte) [32]byte

// A Target is whom a knock is for. It is in the MAC and not on the wire: the
// listener knows who it is. So a knock recorded on its way to one listener opens
// nothing at another.
type Target []byte

// NodeTarget is the node of that name, wherever it is reached.
func NodeTarget(name string) Target { return append(Target{1}, name...) }

// EndpointTarget is whoever is reached at an address and port. A dialler that
// joins by an address knows no more.
func EndpointTarget(endpoint netip.AddrPort) Target {
	addr := endpoint.Addr().WithZone("").As16() // IPv4 as ::ffff:a.b.c.d
	return binary.BigEndian.AppendUint16(append(Target{2}, addr[:]...), endpoint.Port())
}

// MakeKnock makes a knock for one listener of one cluster at a time. random is
// fresh randomness.
func MakeKnock(mac MAC, cluster [32]byte, target Target, now time.Time, random [8]byte) Knock {
	k := Knock{Millis: uint64(now.UnixMilli()), Random: random}
	k.MAC = k.mac(mac, cluster, target)
	return k
}

// CheckKnock reports whether k was made with the key behind mac, for this
// cluster and one of the things that the listener is, and no more than
// KnockTolerance from now. The MAC comes first: no byte of a stranger decides
// anything.
func CheckKnock(k Knock, mac MAC, cluster [32]byte, listener []Target, now time.Time) bool {
	return k.IsFor(listener, mac, cluster) && k.Ahead(now).Abs() <= KnockTolerance
}

// IsFor is CheckKnock without the time.
func (k Knock) IsFor(listener []Target, mac MAC, cluster [32]byte) bool {
	right := 0
	for _, target := range listener {
		want := k.mac(mac, cluster, target)
		right |= subtle.ConstantTimeCompare(k.MAC[:], want[:])
	}
	return right == 1
}

// Ahead is how far the dialler's clock was ahead of now, and a century at most.
func (k Knock) Ahead(now time.Time) time.Duration {
	const century = 100 * 365 * 24 * time.Hour
	ours := uint64(now.UnixMilli())
	apart := max(k.Millis, ours) - min(k.Millis, ours)
	ahead := time.Duration(min(apart, uint64(century.Milliseconds()))) * time.Millisecond
	if k.Millis < ours {
		return -ahead
	}
	return ahead
}

// mac is the first half of HMAC(key, label || cluster || time || random || target).
func (k Knock) mac(mac MAC, cluster [32]byte, target Target) [16]byte {
	data := append([]byte(knockLabel), cluster[:]...)
	data = binary.BigEndian.AppendUint64(data, k.Millis)
	data = append(data, k.Random[:]...)
	sum := mac(append(data, target...))
	return [16]byte(sum[:16])
}

// Append appends the KnockSize bytes of the knock to dst.
func (k Knock) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, k.Millis)
	dst = append(dst, k.Random[:]...)
	return append(dst, k.MAC[:]...)
}

// ParseKnock reads a knock of KnockSize bytes. Every value of them is a knock,
// until CheckKnock.
func ParseKnock(raw []byte) (Knock, error) {
	if len(raw) != KnockSize {
		return Knock{}, fmt.Errorf("knock: %d bytes, want %d", len(raw), KnockSize)
	}
	return Knock{
		Millis: binary.BigEndian.Uint64(raw),
		Random: [8]byte(raw[8:16]),
		MAC:    [16]byte(raw[16:32]),
	}, nil
}
