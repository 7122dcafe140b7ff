package wire

import (
	"crypto/hmac"
	"crypto/sha256"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestKnockIsWhatItsDescriptionSays(t *testing.T) {
	v4 := []byte{0: 2, 11: 0xff, 12: 0xff, 13: 192, 15: 2, 16: 1, 17: 0x1f, 18: 0x0a}
	v6 := []byte{2, 0x20, 0x01, 0x0d, 0xb8, 16: 1, 17: 0x1f, 18: 0x0a}
	for _, test := range []struct {
		target Target
		bytes  []byte
	}{
		{NodeTarget("web-1"), []byte("\x01web-1")},
		{EndpointTarget(netip.MustParseAddrPort("192.0.2.1:7946")), v4},
		{EndpointTarget(netip.MustParseAddrPort("[::ffff:192.0.2.1]:7946")), v4},
		{EndpointTarget(netip.MustParseAddrPort("[2001:db8::1]:7946")), v6},
	} {
		raw := MakeKnock(testMAC, testCluster, test.target, testTime, [8]byte{8}).Append(nil)
		sum := testMAC(slices.Concat([]byte("secgossip/1 knock"), testCluster[:], raw[:16], test.bytes))
		if !hmac.Equal(raw[16:], sum[:16]) || len(raw) != KnockSize {
			t.Errorf("got %x, want a MAC of %x", raw, sum[:16])
		}
	}
}

func TestKnockIsBoundToKeyClusterListenerAndTime(t *testing.T) {
	otherMAC := func(data []byte) [32]byte { return sha256.Sum256(data) }
	k := MakeKnock(testMAC, testCluster, testTarget, testTime, [8]byte{8})
	here := []Target{testTarget}
	at := func(endpoint string) Target { return EndpointTarget(netip.MustParseAddrPort(endpoint)) }
	for _, test := range []struct {
		name    string
		mac     MAC
		cluster [32]byte
		targets []Target
		now     time.Time
		want    bool
	}{
		{"at once", testMAC, testCluster, here, testTime, true},
		{"its clock is behind by the tolerance", testMAC, testCluster, here, testTime.Add(KnockTolerance), true},
		{"its clock is ahead by the tolerance", testMAC, testCluster, here, testTime.Add(-KnockTolerance), true},
		{"too old", testMAC, testCluster, here, testTime.Add(KnockTolerance + time.Millisecond), false},
		{"from the future", testMAC, testCluster, here, testTime.Add(-KnockTolerance - time.Millisecond), false},
		{"another key", otherMAC, testCluster, here, testTime, false},
		{"another cluster", testMAC, otherCluster, here, testTime, false},
		{"a listener that is more than that", testMAC, testCluster, []Target{at("192.0.2.1:7946"), testTarget}, testTime, true},
		{"another node", testMAC, testCluster, []Target{NodeTarget("web-2")}, testTime, false},
		{"a node by its address alone", testMAC, testCluster, []Target{at("192.0.2.1:7946")}, testTime, false},
		{"a listener that is nothing", testMAC, testCluster, nil, testTime, false},
	} {
		if got := CheckKnock(k, test.mac, test.cluster, test.targets, test.now); got != test.want {
			t.Errorf("%s: got %t, want %t", test.name, got, test.want)
		}
	}
}

// A member with a broken clock cannot make the difference overflow into the tolerance.
func TestKnockFarFromNowIsRefused(t *testing.T) {
	for _, millis := range []uint64{0, 1 << 63, 1<<64 - 1} {
		k := Knock{Millis: millis}
		k.MAC = k.mac(testMAC, testCluster, testTarget)
		if CheckKnock(k, testMAC, testCluster, []Target{testTarget}, testTime) {
			t.Errorf("%d ms: accepted", millis)
		}
	}
}

func TestEveryFlippedBitOfAKnockIsRefused(t *testing.T) {
	raw := MakeKnock(testMAC, testCluster, testTarget, testTime, [8]byte{8}).Append(nil)
	for bit := range len(raw) * 8 {
		k, err := ParseKnock(flipped(raw, bit))
		if err != nil || CheckKnock(k, testMAC, testCluster, []Target{testTarget}, testTime) {
			t.Errorf("bit %d flipped: accepted (%v)", bit, err)
		}
	}
}

// The endpoint that is dialled is the whole of it: neither port nor address may
// stand for another.
func TestKnockForAnEndpointOpensNoOther(t *testing.T) {
	dialled := netip.MustParseAddrPort("192.0.2.1:7946")
	k := MakeKnock(testMAC, testCluster, EndpointTarget(dialled), testTime, [8]byte{8})
	for text, want := range map[string]bool{
		"192.0.2.1:7946": true, "192.0.2.1:7947": false, "192.0.2.2:7946": false, "[2001:db8::1]:7946": false,
		"[::192.0.2.1]:7946": false, "[::ffff:192.0.2.1]:7946": true,
	} {
		target := EndpointTarget(netip.MustParseAddrPort(text))
		if got := CheckKnock(k, testMAC, testCluster, []Target{target}, testTime); got != want {
			t.Errorf("%s: got %t, want %t", text, got, want)
		}
	}
}
