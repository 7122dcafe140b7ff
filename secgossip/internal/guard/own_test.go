package guard

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

func TestOwnWordsAreWhatIsLeftOfAPacket(t *testing.T) {
	suspicion, own := encoded(msgSuspect, verdict{1, "d", "a"}), encoded(msgDead, verdict{1, "a", "a"})
	aboutUs := encoded(msgSuspect, verdict{1, "b", "a"})
	for claim, test := range map[string]struct{ packet, want []byte }{
		"a probe stays":               {encoded(msgPing, probe), encoded(msgPing, probe)},
		"a suspicion goes":            {suspicion, nil},
		"an alive of another goes":    {checksummed(encoded(msgAlive, birth)), nil},
		"that it leaves stays":        {own, own},
		"what it says of us stays":    {aboutUs, aboutUs},
		"of a compound one is left":   {checksummed(compound(suspicion, encoded(msgPing, probe))), encoded(msgPing, probe)},
		"of a compound some are left": {compound(own, suspicion, encoded(msgPing, probe)), compound(own, encoded(msgPing, probe))},
		"of a compound nothing is":    {compound(suspicion, encoded(msgAlive, birth)), nil},
	} {
		if _, err := CheckPacket(test.packet, "a"); err != nil {
			t.Fatalf("%s: %v", claim, err)
		}
		if got := OwnWords(test.packet, "a", "b"); !bytes.Equal(got, test.want) {
			t.Errorf("%s: got %x, want %x", claim, got, test.want)
		}
	}
}

func TestOnlyWhatNoHonestMemberSendsConvicts(t *testing.T) {
	for claim, test := range map[string]struct {
		packet []byte
		want   bool
	}{
		"a genuine packet":             {encoded(msgPing, probe), false},
		"a probe in another's name":    {encoded(msgPing, with(probe, func(m *ping) { m.SourceNode = "d" })), true},
		"what memberlist never writes": {[]byte{msgAck, 1}, true},
		"a suspicion beyond the limit": {encoded(msgSuspect, verdict{maxVerdict + 1, "d", "b"}), false},
		"an alive beyond the limit":    {encoded(msgAlive, with(birth, func(m *alive) { m.Incarnation = maxAlive + 1 })), false},
	} {
		_, err := CheckPacket(test.packet, "a")
		if got := Convicts(err); got != test.want {
			t.Errorf("%s: %v convicts: %t, want %t", claim, err, got, test.want)
		}
	}
	if Convicts(errors.New("another")) || !Convicts(fmt.Errorf("x: %w", ErrForged)) {
		t.Error("an error is not taken for what it wraps")
	}
}
