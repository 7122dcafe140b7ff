package wire

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"time"
)

// knockLabel is what a knock's MAC is for.
const knockLabel = "secgossip/1 knock"

// A Knock is what a dialler sends first: proof that it belongs to the cluster,
// cheap to check and fresh. It is comparable, so that a listener can remember
// the ones it has seen; without that memory it could be sent again.
type Knock struct {
	Millis uint64  // milliseconds since 1970
	Random [8]byte // tells two knocks of one millisecond apart
	MAC    [16]byte
}

// A MAC computes HMAC-SHA256 under the cluster's knock key. The key stays where
// it is.
type MAC func(data []byte) [32]byte

// MakeKnock makes a knock for one cluster at a time. random is fresh randomness.
func MakeKnock(mac MAC, cluster [32]byte, now time.Time, random [8]byte) Knock {
	k := Knock{Millis: uint64(now.UnixMilli()), Random: random}
	k.MAC = k.mac(mac, cluster)
	return k
}

// CheckKnock reports whether k was made with the key behind mac, for this
// cluster, and no more than KnockTolerance from now. The MAC comes first: no
// byte of a stranger decides anything.
func CheckKnock(k Knock, mac MAC, cluster [32]byte, now time.Time) bool {
	want := k.mac(mac, cluster)
	if subtle.ConstantTimeCompare(k.MAC[:], want[:]) != 1 {
		return false
	}
	ours := uint64(now.UnixMilli())
	apart := max(k.Millis, ours) - min(k.Millis, ours)
	return apart <= uint64(KnockTolerance.Milliseconds())
}

// mac is the first half of HMAC(key, label || cluster || time || random).
func (k Knock) mac(mac MAC, cluster [32]byte) [16]byte {
	data := append([]byte(knockLabel), cluster[:]...)
	data = binary.BigEndian.AppendUint64(data, k.Millis)
	data = append(data, k.Random[:]...)
	sum := mac(data)
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
