package wire

import (
	"crypto/hmac"
	"crypto/sha256"
	"testing"
	"time"
)

func TestKnockIsWhatItsDescriptionSays(t *testing.T) {
	raw := MakeKnock(testMAC, testCluster, testTime, [8]byte{8}).Append(nil)
	sum := testMAC(append(append([]byte("secgossip/1 knock"), testCluster[:]...), raw[:16]...))
	if !hmac.Equal(raw[16:], sum[:16]) || len(raw) != KnockSize {
		t.Errorf("got %x, want a MAC of %x", raw, sum[:16])
	}
}

func TestKnockIsBoundToKeyClusterAndTime(t *testing.T) {
	otherMAC := func(data []byte) [32]byte { return sha256.Sum256(data) }
	k := MakeKnock(testMAC, testCluster, testTime, [8]byte{8})
	for _, test := range []struct {
		name    string
		mac     MAC
		cluster [32]byte
		now     time.Time
		want    bool
	}{
		{"at once", testMAC, testCluster, testTime, true},
		{"its clock is behind by the tolerance", testMAC, testCluster, testTime.Add(KnockTolerance), true},
		{"its clock is ahead by the tolerance", testMAC, testCluster, testTime.Add(-KnockTolerance), true},
		{"too old", testMAC, testCluster, testTime.Add(KnockTolerance + time.Millisecond), false},
		{"from the future", testMAC, testCluster, testTime.Add(-KnockTolerance - time.Millisecond), false},
		{"another key", otherMAC, testCluster, testTime, false},
		{"another cluster", testMAC, otherCluster, testTime, false},
	} {
		if got := CheckKnock(k, test.mac, test.cluster, test.now); got != test.want {
			t.Errorf("%s: got %t, want %t", test.name, got, test.want)
		}
	}
}

// A member with a broken clock cannot make the difference overflow into the tolerance.
func TestKnockFarFromNowIsRefused(t *testing.T) {
	for _, millis := range []uint64{0, 1 << 63, 1<<64 - 1} {
		k := Knock{Millis: millis}
		k.MAC = k.mac(testMAC, testCluster)
		if CheckKnock(k, testMAC, testCluster, testTime) {
			t.Errorf("%d ms: accepted", millis)
		}
	}
}

func TestEveryFlippedBitOfAKnockIsRefused(t *testing.T) {
	raw := MakeKnock(testMAC, testCluster, testTime, [8]byte{8}).Append(nil)
	for bit := range len(raw) * 8 {
		k, err := ParseKnock(flipped(raw, bit))
		if err != nil || CheckKnock(k, testMAC, testCluster, testTime) {
			t.Errorf("bit %d flipped: accepted (%v)", bit, err)
		}
	}
}
