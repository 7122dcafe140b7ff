package guard

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// encoded is a message as memberlist encodes it, or anything else under its type.
func encoded(kind byte, message any) []byte {
	out := []byte{}
	if err := codec.NewEncoderBytes(&out, new(codec.MsgpackHandle)).Encode(message); err != nil {
		panic(err)
	}
	return append([]byte{kind}, out...)
}

var (
	ip    = make([]byte, 16)
	vsn   = []byte{1, 5, 2, 1, 1, 1}
	probe = ping{SeqNo: 7, Node: "b", SourceAddr: ip, SourcePort: VirtualPort, SourceNode: "a"}
	relay = indirectPing{SeqNo: 7, Target: ip, Port: VirtualPort, Node: "d", Nack: true, SourceAddr: ip, SourcePort: VirtualPort, SourceNode: "a"}
	birth = alive{Incarnation: 3, Node: "d", Addr: ip, Port: VirtualPort, Meta: []byte("m"), Vsn: vsn}
)

// with changes a copy of a message.
func with[M any](m M, change func(*M)) M {
	change(&m)
	return m
}

func TestPacketsSayWhomTheyAreAbout(t *testing.T) {
	for claim, test := range map[string]struct {
		packet         []byte
		subjects, left []string
	}{
		"a probe is about nobody":     {encoded(msgPing, probe), nil, nil},
		"a suspicion is about nobody": {encoded(msgSuspect, verdict{1, "d", "b"}), nil, nil},
		"a death is about nobody":     {encoded(msgDead, verdict{1, "d", "b"}), nil, nil},
		"an alive is about its node":  {encoded(msgAlive, birth), []string{"d"}, nil},
		"a leave is about its node":   {encoded(msgDead, verdict{1, "d", "d"}), []string{"d"}, []string{"d"}},
		"a compound is about all": {
			compound(encoded(msgPing, probe), encoded(msgDead, verdict{1, "b", "b"}), encoded(msgAlive, birth)),
			[]string{"b", "d"}, []string{"b"},
		},
		"a checksum changes nothing": {checksummed(encoded(msgAlive, birth)), []string{"d"}, nil},
	} {
		about, err := CheckPacket(test.packet, "a")
		if err != nil {
			t.Errorf("%s: %v", claim, err)
		}
		if !slices.Equal(about.Subjects, test.subjects) || !slices.Equal(about.Left, test.left) {
			t.Errorf("%s: got %v and %v left, want %v and %v", claim, about.Subjects, about.Left, test.subjects, test.left)
		}
	}
}

func TestWhatMemberlistDoesNotWriteIsRefused(t *testing.T) {
	fine := encoded(msgAck, ack{SeqNo: 1})
	for claim, packet := range map[string][]byte{
		"nothing":                        {},
		"a type alone":                   {msgPing},
		"push/pull":                      encoded(6, map[string]any{"Nodes": 1, "UserStateLen": 0, "Join": true}),
		"a user message":                 append([]byte{8}, "anything"...),
		"compression":                    encoded(9, map[string]any{"Algo": 0, "Buf": fine}),
		"encryption":                     append([]byte{10}, fine...),
		"an error":                       encoded(13, map[string]any{"Error": "x"}),
		"the next type there may be":     encoded(14, ack{SeqNo: 1}),
		"a label":                        append([]byte{244, 1, 'x'}, fine...),
		"an encryption version":          append([]byte{1}, make([]byte, 40)...),
		"type 255":                       {255, 0x80},
		"a wrong checksum":               append([]byte{msgChecksum, 0, 0, 0, 0}, fine...),
		"a checksum of nothing":          checksummed(nil),
		"half a checksum":                {msgChecksum, 0, 0, 0},
		"a checksum in a checksum":       checksummed(checksummed(fine)),
		"a checksum in a compound":       compound(checksummed(fine)),
		"a compound in a compound":       compound(compound(fine)),
		"compression in a compound":      compound(fine, encoded(9, map[string]any{"Algo": 0, "Buf": fine})),
		"a user message in a compound":   compound(fine, []byte("\x08hello")),
		"an empty compound":              compound(),
		"a compound without a count":     {msgCompound},
		"a compound with an empty part":  compound(fine, nil),
		"a compound of less than it has": append(compound(fine), fine...),
		"a compound of more than it has": append([]byte{msgCompound, 2}, compound(fine)[2:]...),
		"a part longer than the rest":    {msgCompound, 1, 0xff, 0xff, msgAck},
		"lengths cut off":                {msgCompound, 200, 0, 1},

		"no map":                     {msgAck, 0x01},
		"an array in place of a map": {msgAck, 0x92, 0x01, 0xc0},
		"a field nobody knows":       encoded(msgAck, map[string]any{"SeqNo": 1, "Payload": nil, "Extra": 1}),
		"another message's field":    encoded(msgNack, map[string]any{"SeqNo": 1, "Payload": nil}),
		"a field twice":              []byte("\x0b\x82\xa5SeqNo\x01\xa5SeqNo\x02"),
		"a missing field":            encoded(msgAck, map[string]any{"SeqNo": 1}),
		"fields in another order":    []byte("\x02\x82\xa5SeqNo\x01\xa7Payload\xc0"),
		"a number in a longer form":  []byte("\x0b\x81\xa5SeqNo\xce\x00\x00\x00\x01"),
		"a number too large":         []byte("\x0b\x81\xa5SeqNo\xcf\x00\x00\x00\x01\x00\x00\x00\x01"),
		"a negative number":          []byte("\x0b\x81\xa5SeqNo\xff"),
		"a number in place of text":  []byte("\x05\x83\xa4From\x01\xabIncarnation\x01\xa4Node\xa1d"),
		"a list of bytes":            []byte("\x02\x82\xa7Payload\x92\x01\x02\xa5SeqNo\x01"),
		"bytes in the newer form":    []byte("\x02\x82\xa7Payload\xc4\x01\x00\xa5SeqNo\x01"),
		"a huge length":              []byte("\x02\x82\xa7Payload\xdb\xff\xff\xff\xff"),
		"a map of four billion":      []byte("\x02\xdf\xff\xff\xff\xff"),
		"a deep nest":                append([]byte("\x02\x82\xa7Payload"), bytes.Repeat([]byte{0x91}, 1000)...),

		"a probe of nobody":             encoded(msgPing, with(probe, func(m *ping) { m.Node = "" })),
		"a probe by nobody":             encoded(msgPing, with(probe, func(m *ping) { m.SourceNode = "" })),
		"a probe from nowhere":          encoded(msgPing, with(probe, func(m *ping) { m.SourceAddr = nil })),
		"a probe from IPv4":             encoded(msgPing, with(probe, func(m *ping) { m.SourceAddr = ip[:4] })),
		"a relayed probe of nobody":     encoded(msgIndirectPing, with(relay, func(m *indirectPing) { m.Node = "" })),
		"a relayed probe to nowhere":    encoded(msgIndirectPing, with(relay, func(m *indirectPing) { m.Target = nil })),
		"a relayed probe to IPv4":       encoded(msgIndirectPing, with(relay, func(m *indirectPing) { m.Target = ip[:4] })),
		"a relayed probe from 17 bytes": encoded(msgIndirectPing, with(relay, func(m *indirectPing) { m.SourceAddr = make([]byte, 17) })),
		"an alive of nobody":            encoded(msgAlive, with(birth, func(m *alive) { m.Node = "" })),
		"an alive without an address":   encoded(msgAlive, with(birth, func(m *alive) { m.Addr = nil })),
		"an alive at IPv4":              encoded(msgAlive, with(birth, func(m *alive) { m.Addr = ip[:4] })),
		"an alive with five versions":   encoded(msgAlive, with(birth, func(m *alive) { m.Vsn = vsn[:5] })),
		"an alive with seven versions":  encoded(msgAlive, with(birth, func(m *alive) { m.Vsn = append(vsn[:6:6], 1) })),
		"an alive with no versions":     encoded(msgAlive, with(birth, func(m *alive) { m.Vsn = nil })),
		"an alive as a shell word":      encoded(msgAlive, with(birth, func(m *alive) { m.Node = "x;id" })),
		"an alive with a line feed":     encoded(msgAlive, with(birth, func(m *alive) { m.Node = "d\n[ERR]" })),
		"an alive in capitals":          encoded(msgAlive, with(birth, func(m *alive) { m.Node = "D" })),
		"an alive of 64 letters":        encoded(msgAlive, with(birth, func(m *alive) { m.Node = strings.Repeat("d", 64) })),
		"a suspicion of nobody":         encoded(msgSuspect, verdict{1, "", "b"}),
		"a suspicion by nobody":         encoded(msgSuspect, verdict{1, "d", ""}),
		"a death of nobody":             encoded(msgDead, verdict{1, "", "b"}),
		"a death by nobody":             encoded(msgDead, verdict{1, "d", ""}),
		"a leave of nobody":             encoded(msgDead, verdict{1, "", ""}),
		"a suspicion by a terminal":     encoded(msgSuspect, verdict{1, "d", "\x1b[2J"}),
	} {
		about, err := CheckPacket(packet, "a")
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v, want ErrMalformed\n%x", claim, err, packet)
		}
		if about.Subjects != nil || about.Left != nil {
			t.Errorf("%s: refused, and said to be about %v", claim, about)
		}
		// Not on the way out either, and not behind something good.
		if _, err := CheckPacket(packet, ""); err == nil {
			t.Errorf("%s: accepted on the way out", claim)
		}
		if _, err := CheckPacket(compound(fine, packet), "a"); err == nil {
			t.Errorf("%s: accepted as a part", claim)
		}
	}
}

// Threat C08: the answer to a probe goes to whoever it names.
func TestProbeInAnothersNameIsForged(t *testing.T) {
	for _, packet := range [][]byte{
		encoded(msgPing, probe),
		encoded(msgIndirectPing, relay),
		compound(encoded(msgAck, ack{SeqNo: 1}), encoded(msgPing, probe)),
		checksummed(compound(encoded(msgIndirectPing, relay))),
	} {
		if _, err := CheckPacket(packet, "a"); err != nil {
			t.Errorf("by the asker itself: %v", err)
		}
		for _, liar := range []string{"b", "d", "A", "a ", "aa"} {
			if _, err := CheckPacket(packet, liar); !errors.Is(err, ErrForged) {
				t.Errorf("sent by %q: got %v, want ErrForged", liar, err)
			}
		}
	}
}

// FuzzAcceptedPacketsAreWrittenBackTheSame: what CheckPacket accepts, taken apart
// and written again by memberlist's own encoding, is the same bytes.
func FuzzAcceptedPacketsAreWrittenBackTheSame(f *testing.F) {
	for _, seed := range [][]byte{
		encoded(msgPing, probe),
		encoded(msgIndirectPing, relay),
		encoded(msgAck, ack{SeqNo: 1, Payload: []byte("x")}),
		encoded(msgAck, ack{SeqNo: 1 << 31}),
		encoded(msgNack, nack{SeqNo: 200}),
		encoded(msgSuspect, verdict{70000, "d", "b"}),
		encoded(msgDead, verdict{1, "d", "d"}),
		encoded(msgAlive, birth),
		encoded(msgAlive, with(birth, func(m *alive) { m.Meta = []byte{} })),
		compound(encoded(msgPing, probe), encoded(msgAlive, birth)),
		checksummed(compound(encoded(msgNack, nack{SeqNo: 1}), encoded(msgSuspect, verdict{1, "d", "b"}))),
		compound(compound(encoded(msgNack, nack{SeqNo: 1}))),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		about, err := CheckPacket(packet, "a")
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrForged) {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if again := rewritten(t, packet); !bytes.Equal(again, packet) {
			t.Errorf("accepted\n%x\nwritten again\n%x", packet, again)
		}
		for _, name := range about.Left {
			if !slices.Contains(about.Subjects, name) {
				t.Errorf("%q left and is no subject", name)
			}
		}
		if _, err := CheckPacket(packet, ""); err != nil {
			t.Errorf("accepted on the way in, refused on the way out: %v", err)
		}
	})
}

// rewritten takes an accepted packet apart and writes it again with a decoder and
// an encoder set up as memberlist's.
func rewritten(t *testing.T, packet []byte) []byte {
	t.Helper()
	if packet[0] == msgChecksum {
		return checksummed(rewritten(t, packet[checksumSize:]))
	}
	if packet[0] == msgCompound {
		parts, _ := splitCompound(packet[1:])
		for i, part := range parts {
			parts[i] = rewritten(t, part)
		}
		return compound(parts...)
	}
	message := map[byte]any{
		msgPing: new(ping), msgIndirectPing: new(indirectPing), msgAck: new(ack), msgNack: new(nack),
		msgSuspect: new(verdict), msgDead: new(verdict), msgAlive: new(alive),
	}[packet[0]]
	decoder := codec.NewDecoder(bytes.NewReader(packet[1:]), new(codec.MsgpackHandle))
	if err := decoder.Decode(message); err != nil {
		t.Fatalf("accepted, and memberlist cannot read it: %v\n%x", err, packet)
	}
	return encoded(packet[0], message)
}

// Threat N12: a length that a packet claims is not believed before its bytes are
// there.
func TestClaimedLengthsCostNoMemory(t *testing.T) {
	for claim, packet := range map[string][]byte{
		"a list of four billion bytes": []byte("\x02\x82\xa7Payload\xdd\xff\xff\xff\xff\xa5SeqNo\x01"),
		"four billion bytes":           []byte("\x02\x82\xa7Payload\xc6\xff\xff\xff\xff\xa5SeqNo\x01"),
		"a text of four billion":       []byte("\x05\x83\xa4From\xdb\xff\xff\xff\xff"),
		"a map of four billion":        []byte("\x02\xdf\xff\xff\xff\xff\xa5SeqNo\x01"),
		"an unknown list":              []byte("\x02\x82\xa7Unknown\xdd\xff\xff\xff\xff\xa5SeqNo\x01"),
		"an unknown deep nest":         append([]byte("\x02\x82\xa7Unknown"), bytes.Repeat([]byte{0x91}, 1100)...),
	} {
		const runs = 100
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			if _, err := CheckPacket(packet, "a"); err == nil {
				t.Fatalf("%s: accepted", claim)
			}
		}
		runtime.ReadMemStats(&after)
		// A decoder takes half a KiB whatever it reads, and several times that
		// under the race detector.
		if got := (after.TotalAlloc - before.TotalAlloc) / runs; got > 16<<10 {
			t.Errorf("%s: %d bytes of memory for a packet of %d", claim, got, len(packet))
		}
	}
}

// Threat C03: memberlist answers an accusation with an incarnation one higher,
// and 2^32-1 has none.
func TestIncarnationNobodyCanContradictIsRefused(t *testing.T) {
	accusation := func(kind byte, incarnation uint32) []byte {
		return encoded(kind, verdict{Incarnation: incarnation, Node: "d", From: "a"})
	}
	birthAt := func(incarnation uint32) []byte {
		return encoded(msgAlive, with(birth, func(m *alive) { m.Incarnation = incarnation }))
	}
	for claim, test := range map[string]struct {
		packet []byte
		want   error
	}{
		"a suspicion at the limit":    {accusation(msgSuspect, 1<<30), nil},
		"a suspicion over it":         {accusation(msgSuspect, 1<<30+1), ErrMalformed},
		"the last suspicion":          {accusation(msgSuspect, 1<<32-1), ErrMalformed},
		"a death at the limit":        {accusation(msgDead, 1<<30), nil},
		"a death over it":             {accusation(msgDead, 1<<30+1), ErrMalformed},
		"the last death":              {accusation(msgDead, 1<<32-1), ErrMalformed},
		"the answer to any of them":   {birthAt(1<<30 + 1), nil},
		"an alive at the limit":       {birthAt(1 << 31), nil},
		"an alive over it":            {birthAt(1<<31 + 1), ErrMalformed},
		"the last alive":              {birthAt(1<<32 - 1), ErrMalformed},
		"the last one, in a compound": {compound(encoded(msgPing, probe), birthAt(1<<32-1)), ErrMalformed},
	} {
		if _, err := CheckPacket(test.packet, "a"); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", claim, err, test.want)
		}
		if _, err := CheckPacket(test.packet, ""); err != nil {
			t.Errorf("%s, on the way out: %v", claim, err)
		}
	}
}
