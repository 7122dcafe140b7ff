package wire

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// The arithmetic in limits.go, done by the compiler and by the encoders.
func TestLimitsAreWhatTheirCommentsSay(t *testing.T) {
	for _, test := range []struct {
		name      string
		got, want int
	}{
		{"MaxDatagram: largest step below the IPv6 minimum", MaxDatagram, (1280 - 40 - 8) / DatagramStep * DatagramStep},
		{"MaxPayload", MaxPayload, 1182},
		{"MaxRoster", MaxRoster, 3_284_992},
		{"the largest payload fills the largest datagram", DatagramSize(MaxPayload), MaxDatagram},
		{"the smallest datagram", DatagramSize(0), MinDatagram},
		{"different lengths of datagrams", (MaxDatagram-MinDatagram)/DatagramStep + 1, 19},
		{"MaxPacketItems", MaxPacketItems, MaxPayload / (92 + LengthSize)},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, test.got, test.want)
		}
	}
	if MaxRoster > 4<<20 {
		t.Errorf("a roster of %d bytes is over 4 MiB", MaxRoster)
	}
	if LengthSize+MaxEventRaw > MaxPayload {
		t.Errorf("an event of %d bytes does not fit a datagram", MaxEventRaw)
	}
}

func TestLargestSignedMessagesFitTheirLimits(t *testing.T) {
	record := mustRecord(t, largestRecord())
	if len(record) > MaxRecord {
		t.Errorf("the largest record: got %d bytes, limit %d", len(record), MaxRecord)
	}
	if _, err := ParseRecord(record); err != nil {
		t.Errorf("the largest record: %v", err)
	}

	s := namingStatement()
	for i := range s.Named {
		s.Named[i].Issued = Forever
	}
	s.Number = 1<<64 - 1
	s.Keeper = strings.Repeat("k", MaxName)
	s.Reason = strings.Repeat("r", MaxReason)
	statement := mustStatement(t, s)
	if len(statement) > MaxEpochStatement {
		t.Errorf("the largest statement: got %d bytes, limit %d", len(statement), MaxEpochStatement)
	}

	r := testRevocation()
	r.Verb, r.Before, r.Issued = VerbBan, Forever, Forever
	r.Name, r.Keeper, r.Reason = strings.Repeat("n", MaxName), s.Keeper, s.Reason
	if revocation := mustRevocation(t, r); len(revocation) > MaxRevocation {
		t.Errorf("the largest revocation: got %d bytes, limit %d", len(revocation), MaxRevocation)
	}

	h := testHello()
	h.Record = make([]byte, MaxRecord)
	h.Highest, h.Primary = 1<<64-1, 1<<64-1
	h.Time = time.Unix(maxUnixSeconds, 0)
	hello := must(t)(h.Append(nil))
	if len(hello) > MaxHello {
		t.Errorf("the largest hello: got %d bytes, limit %d", len(hello), MaxHello)
	}
}

func TestOverlongMessagesAreRefusedBeforeTheyAreDecoded(t *testing.T) {
	for _, test := range []struct {
		name  string
		limit int
		parse func([]byte) error
	}{
		{"node record", MaxRecord, func(raw []byte) error { _, err := ParseRecord(raw); return err }},
		{"epoch statement", MaxEpochStatement, func(raw []byte) error { _, err := ParseStatement(raw); return err }},
		{"revocation", MaxRevocation, func(raw []byte) error { _, err := ParseRevocation(raw); return err }},
		{"hello", MaxHello, func(raw []byte) error { _, err := ParseHello(raw); return err }},
		{"gossip", MaxPayload, func(raw []byte) error { _, err := ParseGossip(raw); return err }},
		{"batch of events", MaxPayload, func(raw []byte) error { _, err := BatchEvents.Parse(raw); return err }},
		{"roster", MaxRoster, func(raw []byte) error { _, err := BatchRoster.Parse(raw); return err }},
	} {
		if err := test.parse(make([]byte, test.limit+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: got %v, want ErrTooLarge", test.name, err)
		}
	}
}
