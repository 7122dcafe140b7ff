package guard

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// rosterOf knows nodes, of which some are leaving, without their signatures:
// what a record takes to be believed is shown elsewhere.
func rosterOf(names []string, leaving ...string) *Roster {
	r := &Roster{byName: make(map[pki.Name]*Peer)}
	for _, name := range names {
		r.byName[pki.Name(name)] = &Peer{
			Name:    pki.Name(name),
			Record:  wire.Record{Leaving: slices.Contains(leaving, name)},
			Virtual: VirtualAddr(pki.ClusterID{}, pki.Name(name)),
		}
	}
	return r
}

// entryOf is what an honest member says of a node.
func entryOf(name string) entry {
	return entry{
		Name: name, Addr: VirtualAddr(pki.ClusterID{}, pki.Name(name)).Addr().AsSlice(), Port: VirtualPort,
		Meta: []byte("m"), Incarnation: 3, Vsn: vsn,
	}
}

// pushPull is a push/pull as memberlist writes it.
func pushPull(entries ...entry) []byte {
	out := encoded(msgPushPull, pushPullHeader{Nodes: len(entries), Join: true})
	for _, e := range entries {
		out = append(out, encoded(0, e)[1:]...)
	}
	return out
}

// readAsMemberlist reads a push/pull the way memberlist does.
func readAsMemberlist(t *testing.T, stream []byte) (pushPullHeader, []entry) {
	t.Helper()
	if stream[0] != msgPushPull {
		t.Fatalf("type %d, want a push/pull", stream[0])
	}
	rest := bytes.NewReader(stream[1:])
	decoder := codec.NewDecoder(rest, new(codec.MsgpackHandle))
	var header pushPullHeader
	if err := decoder.Decode(&header); err != nil {
		t.Fatal(err)
	}
	entries := make([]entry, header.Nodes)
	for i := range entries {
		if err := decoder.Decode(&entries[i]); err != nil {
			t.Fatal(err)
		}
	}
	if rest.Len() != 0 {
		t.Errorf("%d bytes after the last entry", rest.Len())
	}
	return header, entries
}

func screened(stream []byte, roster *Roster) ([]byte, error) {
	return io.ReadAll(NewStateReader(bytes.NewReader(stream), roster, "", ""))
}

func TestStreamOfAnotherTypeIsRefused(t *testing.T) {
	for kind := range 256 {
		got, err := screened([]byte{byte(kind), 0x80}, rosterOf(nil))
		switch kind {
		case msgPing, msgAck, msgErr:
			if err != nil || len(got) != 2 {
				t.Errorf("type %d: read %x, %v", kind, got, err)
			}
		default:
			if !errors.Is(err, ErrMalformed) || len(got) != 0 {
				t.Errorf("type %d: read %x, %v; want %v", kind, got, err, ErrMalformed)
			}
		}
	}
}

func TestSmallMessageEndsAtItsLimit(t *testing.T) {
	for _, kind := range []byte{msgPing, msgAck, msgErr} {
		stream := append([]byte{kind}, bytes.Repeat([]byte{'x'}, 1<<20)...)
		if got, err := screened(stream, rosterOf(nil)); err != nil || !bytes.Equal(got, stream[:1+1<<10]) {
			t.Errorf("type %d: read %d bytes, %v; want %d", kind, len(got), err, 1+1<<10)
		}
	}
}

// Threat C20: of a member in quarantine only what it says of itself and of us arrives.
func TestEntriesAboutOthersAreNotHeardFromQuarantine(t *testing.T) {
	names := []string{"a", "b", "d"}
	stream := pushPull(entryOf("a"), entryOf("b"), with(entryOf("d"), func(e *entry) { e.State = stateSuspect }))
	for only, want := range map[pki.Name][]string{"": names, "a": {"a", "b"}} {
		got, err := io.ReadAll(NewStateReader(bytes.NewReader(stream), rosterOf(names), "b", only))
		if err != nil {
			t.Fatal(err)
		}
		_, entries := readAsMemberlist(t, got)
		var left []string
		for _, e := range entries {
			left = append(left, e.Name)
		}
		if !slices.Equal(left, want) {
			t.Errorf("only %q: %q arrive, want %q", only, left, want)
		}
	}
}

// Threats K02 and C03: what a member may not say of others does not arrive, and
// the rest of what it says does.
func TestEntryNobodyMayMakeIsDropped(t *testing.T) {
	roster := rosterOf([]string{"a", "b", "d", "gone"}, "gone")
	in := func(name string, state int, incarnation uint32) entry {
		return with(entryOf(name), func(e *entry) { e.State, e.Incarnation = state, incarnation })
	}
	for claim, test := range map[string]struct {
		entry entry
		kept  bool
	}{
		"alive":                          {in("d", stateAlive, 3), true},
		"suspect":                        {in("d", stateSuspect, 3), true},
		"dead":                           {in("d", stateDead, 3), true},
		"left, by its own record":        {in("gone", stateLeft, 3), true},
		"left, by hearsay":               {in("d", stateLeft, 3), false},
		"left, and unknown":              {in("x", stateLeft, 3), false},
		"unknown":                        {entryOf("x"), false},
		"at another's address":           {with(entryOf("d"), func(e *entry) { e.Addr = entryOf("b").Addr }), false},
		"at no address":                  {with(entryOf("d"), func(e *entry) { e.Addr = make([]byte, 16) }), false},
		"at another port":                {with(entryOf("d"), func(e *entry) { e.Port++ }), false},
		"at no port":                     {with(entryOf("d"), func(e *entry) { e.Port = 0 }), false},
		"alive at the limit":             {in("d", stateAlive, 1<<31), true},
		"alive over it":                  {in("d", stateAlive, 1<<31+1), false},
		"alive for ever":                 {in("d", stateAlive, 1<<32-1), false},
		"suspect at the limit":           {in("d", stateSuspect, 1<<30), true},
		"suspect over it":                {in("d", stateSuspect, 1<<30+1), false},
		"dead at the limit":              {in("d", stateDead, 1<<30), true},
		"dead over it":                   {in("d", stateDead, 1<<30+1), false},
		"dead beyond contradiction":      {in("d", stateDead, 1<<32-1), false},
		"left beyond a return":           {in("gone", stateLeft, 1<<30+1), false},
		"with as many tags as there may": {with(entryOf("d"), func(e *entry) { e.Meta = make([]byte, 512) }), true},
	} {
		got, err := screened(pushPull(entryOf("a"), test.entry, entryOf("b")), roster)
		if err != nil {
			t.Errorf("%s: %v", claim, err)
			continue
		}
		want := pushPull(entryOf("a"), entryOf("b"))
		if test.kept {
			want = pushPull(entryOf("a"), test.entry, entryOf("b"))
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: memberlist reads\n%x, want\n%x", claim, got, want)
		}
		if header, _ := readAsMemberlist(t, got); !header.Join {
			t.Errorf("%s: no join any more", claim)
		}
	}
	if got, err := screened(pushPull(entryOf("x")), roster); err != nil || !bytes.Equal(got, pushPull()) {
		t.Errorf("nothing but an unknown node: read %x, %v; want an empty push/pull", got, err)
	}
}

func TestStateThatNoMemberWritesIsRefused(t *testing.T) {
	header := func(h any) []byte { return encoded(msgPushPull, h) }
	one := header(pushPullHeader{Nodes: 1})
	entryWith := func(change func(*entry)) []byte { return pushPull(with(entryOf("d"), change)) }
	for claim, stream := range map[string][]byte{
		"2^20 nodes":              header(pushPullHeader{Nodes: 1 << 20}),
		"a node too many":         header(pushPullHeader{Nodes: wire.MaxRecords + 1}),
		"fewer than no nodes":     header(pushPullHeader{Nodes: -1}),
		"user state":              append(header(pushPullHeader{UserStateLen: 1}), 'x'),
		"20 MiB of user state":    header(pushPullHeader{UserStateLen: 20 << 20}),
		"negative user state":     header(pushPullHeader{UserStateLen: -1}),
		"a header without a join": header(map[string]any{"Nodes": 0, "UserStateLen": 0}),
		"a header with more":      header(map[string]any{"Nodes": 0, "UserStateLen": 0, "Join": true, "X": 1}),
		"a number in a long form": []byte("\x06\x83\xa4Join\xc2\xa5Nodes\xcd\x00\x00\xacUserStateLen\x00"),
		"a header of any length":  append([]byte("\x06\x84\xa1X\xdb\x7f\xff\xff\xff"), make([]byte, 4096)...),

		"an entry of nobody":          entryWith(func(e *entry) { e.Name = "" }),
		"an entry of no name":         entryWith(func(e *entry) { e.Name = "d\nlog line" }),
		"an entry without an address": entryWith(func(e *entry) { e.Addr = nil }),
		"an entry at IPv4":            entryWith(func(e *entry) { e.Addr = e.Addr[:4] }),
		"an entry at 17 bytes":        entryWith(func(e *entry) { e.Addr = make([]byte, 17) }),
		"an entry without versions":   entryWith(func(e *entry) { e.Vsn = nil }),
		"five versions":               entryWith(func(e *entry) { e.Vsn = vsn[:5] }),
		"seven versions":              entryWith(func(e *entry) { e.Vsn = make([]byte, 7) }),
		"a state there is not":        entryWith(func(e *entry) { e.State = 4 }),
		"a negative state":            entryWith(func(e *entry) { e.State = -1 }),
		"too many tags":               entryWith(func(e *entry) { e.Meta = make([]byte, 513) }),
		"far too many tags":           entryWith(func(e *entry) { e.Meta = make([]byte, 4096) }),
		"an entry of four billion":    append(slices.Clone(one), 0xdf, 0xff, 0xff, 0xff, 0xff, 0xc0, 0xc0),
		"an entry that is no map":     append(slices.Clone(one), 0xc0),
		"an entry with more": append(slices.Clone(one), encoded(0, map[string]any{
			"Name": "d", "Addr": ip, "Port": 1, "Meta": nil, "Incarnation": 1, "State": 0, "Vsn": vsn, "X": 1,
		})[1:]...),
		"an entry with less": append(slices.Clone(one), encoded(0, map[string]any{"Name": "d"})[1:]...),
	} {
		if got, err := screened(stream, rosterOf([]string{"d"})); !errors.Is(err, ErrMalformed) || len(got) != 0 {
			t.Errorf("%s: memberlist reads %x, %v; want nothing and %v", claim, got, err, ErrMalformed)
		}
	}
}

func TestLongestStateIsAccepted(t *testing.T) {
	longest := entryOf(strings.Repeat("n", wire.MaxName))
	longest.Meta, longest.Incarnation, longest.State = make([]byte, 512), 1<<30, stateDead
	if size := len(pushPull(longest)) - len(pushPull()); size > maxEntry {
		t.Errorf("an entry of %d bytes, and the limit is %d", size, maxEntry)
	}
	stream := pushPull(slices.Repeat([]entry{longest}, wire.MaxRecords)...)
	if len(stream) > wire.MaxStreamBytes {
		t.Errorf("%d bytes, and a stream has at most %d", len(stream), wire.MaxStreamBytes)
	}
	if got, err := screened(stream, rosterOf([]string{longest.Name})); err != nil || !bytes.Equal(got, stream) {
		t.Errorf("%d bytes of %d arrived, %v", len(got), len(stream), err)
	}
}

func TestEveryTruncationOfAStateIsAnError(t *testing.T) {
	stream := pushPull(entryOf("a"), entryOf("b"))
	want := io.ErrUnexpectedEOF
	for n := 1; n < len(stream); n++ {
		r := NewStateReader(iotest.OneByteReader(bytes.NewReader(stream[:n])), rosterOf([]string{"a", "b"}), "", "")
		if got, err := io.ReadAll(r); err != want || len(got) != 0 {
			t.Errorf("%d of %d bytes: read %x, %v; want %v", n, len(stream), got, err, want)
		}
		if _, err := r.Read(make([]byte, 1)); err != want {
			t.Errorf("%d of %d bytes: then %v, want %v again", n, len(stream), err, want)
		}
	}
	if n, err := NewStateReader(bytes.NewReader(nil), rosterOf(nil), "", "").Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("an empty stream: %d, %v; want %v", n, err, io.EOF)
	}
}

// A deadline that passes is what memberlist is told, wherever it strikes.
func TestErrorOfTheStreamIsPassedOn(t *testing.T) {
	stream := pushPull(entryOf("a"))
	for n := range stream {
		r := io.MultiReader(bytes.NewReader(stream[:n]), iotest.ErrReader(iotest.ErrTimeout))
		if got, err := io.ReadAll(NewStateReader(r, rosterOf([]string{"a"}), "", "")); err != iotest.ErrTimeout || len(got) != 0 {
			t.Errorf("after %d bytes: read %x, %v; want %v", n, got, err, iotest.ErrTimeout)
		}
	}
}

// Nothing is waited for that the message does not need: the other end keeps the
// stream open until it has its answer.
func TestStateIsReadToItsEndAndNoFurther(t *testing.T) {
	stream := pushPull(entryOf("a"))
	r := io.MultiReader(iotest.OneByteReader(bytes.NewReader(stream)), iotest.ErrReader(errors.New("read too far")))
	if got, err := io.ReadAll(NewStateReader(r, rosterOf([]string{"a"}), "", "")); err != nil || !bytes.Equal(got, stream) {
		t.Errorf("read %x, %v", got, err)
	}
}

// Threat C07: what a stream claims to bring costs nothing before it is there.
func TestClaimsOfAStreamCostNoMemory(t *testing.T) {
	one := encoded(msgPushPull, pushPullHeader{Nodes: 1})
	for claim, stream := range map[string][]byte{
		"2^20 nodes":                  encoded(msgPushPull, pushPullHeader{Nodes: 1 << 20}),
		"as many nodes as there may":  encoded(msgPushPull, pushPullHeader{Nodes: wire.MaxRecords}),
		"20 MiB of user state":        encoded(msgPushPull, pushPullHeader{UserStateLen: 20 << 20}),
		"a user message":              encoded(8, map[string]any{"UserMsgLen": 20 << 20}),
		"a compressed message":        encoded(9, map[string]any{"Algo": 0, "Buf": make([]byte, 1024)}),
		"four billion bytes of tags":  append(slices.Clone(one), "\x87\xa4Meta\xdb\xff\xff\xff\xff"...),
		"a list of four billion":      append(slices.Clone(one), "\x87\xa4Meta\xdd\xff\xff\xff\xff"...),
		"an unknown field":            append(slices.Clone(one), "\x87\xa4More\xdb\xff\xff\xff\xff"...),
		"a map of four billion":       []byte("\x06\xdf\xff\xff\xff\xff"),
		"an unknown list in a header": []byte("\x06\x83\xa1X\xdd\xff\xff\xff\xff"),
		"a deep nest":                 append(slices.Clone(one), bytes.Repeat([]byte{0x91}, 4096)...),
	} {
		const runs = 50
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			if _, err := screened(stream, rosterOf(nil)); err == nil {
				t.Fatalf("%s: accepted", claim)
			}
		}
		runtime.ReadMemStats(&after)
		if got := (after.TotalAlloc - before.TotalAlloc) / runs; got > 32<<10 {
			t.Errorf("%s: %d bytes of memory for a stream of %d", claim, got, len(stream))
		}
	}
}

// tapped is a screened end of a stream; it keeps what was said and what
// memberlist read.
type tapped struct {
	net.Conn
	in         io.Reader
	said, read bytes.Buffer
}

func (c *tapped) Read(b []byte) (int, error) { return c.in.Read(b) }

// Which states a push/pull has in it is left to memberlist's dice, so the three
// live again until all were seen.
func TestEverythingMemberlistWritesToStreamsIsAccepted(t *testing.T) {
	states := make(map[int]int)
	var joins, seen int
	shown := func() bool {
		return joins > 0 && seen > joins && states[stateAlive] > 0 && states[stateLeft] > 0 &&
			states[stateSuspect]+states[stateDead] > 0
	}
	for lives := 0; lives < 60 && !shown(); lives++ {
		for _, c := range genuineStreams(t) {
			if !bytes.Equal(c.said.Bytes(), c.read.Bytes()) {
				t.Fatalf("memberlist said %x\nand read %x", c.said.Bytes(), c.read.Bytes())
			}
			if c.read.Len() == 0 || c.read.Bytes()[0] != msgPushPull {
				continue
			}
			header, entries := readAsMemberlist(t, c.read.Bytes())
			seen++
			if header.Join {
				joins++
			}
			for _, e := range entries {
				states[e.State]++
			}
		}
	}
	if !shown() {
		t.Errorf("%d push/pulls, %d of them joins, entries by state %v: some kinds are missing", seen, joins, states)
	}
}

// genuineStreams returns both ends of all streams of one life of three members.
func genuineStreams(t *testing.T) []*tapped {
	t.Helper()
	names := []string{"a", "b", "d"}
	roster := rosterOf(names, names...)
	var mu sync.Mutex
	var ends []*tapped
	r := newRecorder()
	r.screen = func(conn net.Conn) net.Conn {
		c := &tapped{Conn: conn}
		c.in = io.TeeReader(NewStateReader(io.TeeReader(conn, &c.said), roster, "", ""), &c.read)
		mu.Lock()
		defer mu.Unlock()
		ends = append(ends, c)
		return c
	}
	r.live(t)
	return ends
}

// What memberlist reads is what a member of ours would have written, and all of
// it may be said.
func FuzzScreenedStateIsCredibleAndWrittenBackTheSame(f *testing.F) {
	roster := rosterOf([]string{"a", "b", "gone"}, "gone")
	left := func(name string) entry { return with(entryOf(name), func(e *entry) { e.State = stateLeft }) }
	f.Add(pushPull())
	f.Add(pushPull(entryOf("a"), entryOf("b"), entryOf("x")))
	f.Add(pushPull(left("a"), left("gone")))
	f.Add(pushPull(with(entryOf("a"), func(e *entry) { e.Incarnation = 1<<32 - 1 })))
	f.Add(encoded(msgPing, probe))
	f.Add(encoded(msgErr, map[string]any{"Error": "x"}))
	f.Fuzz(func(t *testing.T, stream []byte) {
		got, err := screened(stream, roster)
		if err != nil {
			if len(got) != 0 {
				t.Fatalf("refused with %v after memberlist read %x", err, got)
			}
			return
		}
		if len(got) == 0 {
			if len(stream) != 0 {
				t.Fatal("nothing is left, and no error")
			}
			return
		}
		if got[0] != msgPushPull {
			if len(got) > 1+maxSmall || !bytes.HasPrefix(stream, got) {
				t.Fatalf("memberlist reads %x of %x", got, stream)
			}
			return
		}
		header, entries := readAsMemberlist(t, got)
		again := encoded(msgPushPull, header)
		for _, e := range entries {
			again = append(again, encoded(0, e)[1:]...)
			p := roster.Get(pki.Name(e.Name))
			if p == nil || !bytes.Equal(e.Addr, p.Virtual.Addr().AsSlice()) || e.Port != VirtualPort ||
				e.State == stateLeft && !p.Record.Leaving || e.Incarnation > maxAlive ||
				e.State != stateAlive && e.Incarnation > maxVerdict {
				t.Errorf("memberlist is told %+v", e)
			}
		}
		if header.UserStateLen != 0 || !bytes.Equal(again, got) {
			t.Errorf("memberlist reads %x\nand would write %x", got, again)
		}
		if twice, err := screened(got, roster); err != nil || !bytes.Equal(twice, got) {
			t.Errorf("screened again it is %x, %v", twice, err)
		}
	})
}
