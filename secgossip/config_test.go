package secgossip

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// memberlist fills its buffer and then puts a checksum in front of it.
func TestFullestMemberlistPacketFitsADatagram(t *testing.T) {
	const checksum = 1 + 4 // hasCrcMsg and a CRC-32, in memberlist's net.go
	for _, p := range Profiles {
		packet := make([]byte, p.memberlist().UDPBufferSize+checksum)
		if _, err := (wire.Gossip{Packet: packet}).Append(nil); err != nil {
			t.Errorf("profile %s: %v", p, err)
		}
	}
}

func TestMemberlistProtectsNothingItself(t *testing.T) {
	for _, p := range Profiles {
		c := p.memberlist()
		if c.EncryptionEnabled() || c.EnableCompression || c.Label != "" {
			t.Errorf("profile %q: encryption, compression and labels are ours to do", p)
		}
	}
}

func TestAllProblemsOfAConfigAreReported(t *testing.T) {
	_, err := New(Config{
		Advertise: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:7946"), netip.MustParseAddrPort("203.0.113.7:0"),
			netip.MustParseAddrPort("[::1]:7946")},
		Tags:    map[string]string{"": "x"},
		Profile: "fast",
	})
	if err == nil {
		t.Fatal("an empty config was accepted")
	}
	for _, want := range []string{
		"identity", "roots", "keyring", "verifier", "bind", "0.0.0.0:7946", "203.0.113.7:0", "loopback", "tag name", `profile "fast"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not mentioned in: %v", want, err)
		}
	}
}
