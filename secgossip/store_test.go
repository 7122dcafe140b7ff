package secgossip

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// put takes an event into the store, and returns the names of what is handed on.
func put(s *eventStore, node byte, start, sequence uint32, now time.Time) []string {
	m := wire.MarkedEvent{
		Mark:  wire.Mark{Origin: wire.Origin{Node: [8]byte{node}, Start: start}, Sequence: sequence},
		Event: fmt.Appendf(nil, "%d/%d/%d", node, start, sequence),
	}
	event := Event{Name: string(m.Event), Expires: now.Add(time.Minute)}
	event.ClientKey[0] = node
	binary.BigEndian.PutUint32(event.ID[:], start)
	binary.BigEndian.PutUint32(event.ID[4:], sequence)
	ready, _ := s.add(m, append(make([]byte, wire.MarkSize), m.Event...), event, true, past{quiet: 1}, now)
	return eventNames(ready)
}

func eventNames(events []Event) (names []string) {
	for _, e := range events {
		names = append(names, e.Name)
	}
	return names
}

func TestEventsWaitForThoseBeforeThemAndNoLongerThanOrderWait(t *testing.T) {
	s := newEventStore(new(counts))
	now := time.Unix(1_800_000_000, 0)
	for _, step := range []struct {
		sequence uint32
		want     []string
	}{
		{1, []string{"1/1/1"}},
		{3, nil},
		{4, nil},
		{2, []string{"1/1/2", "1/1/3", "1/1/4"}},
		{6, nil},
	} {
		if got := put(s, 1, 1, step.sequence, now); !slices.Equal(got, step.want) {
			t.Errorf("event %d: got %q, want %q", step.sequence, got, step.want)
		}
	}
	if ready, _ := s.tick(now.Add(orderWait - 1)); len(ready) > 0 {
		t.Errorf("before its time %q is handed on", eventNames(ready))
	}
	if ready, _ := s.tick(now.Add(orderWait)); !slices.Equal(eventNames(ready), []string{"1/1/6"}) {
		t.Errorf("got %q, want the one that waited", eventNames(ready))
	}
	if got := put(s, 1, 1, 5, now.Add(orderWait)); !slices.Equal(got, []string{"1/1/5"}) {
		t.Errorf("late: got %q", got)
	}
}

func TestWhatIsFromBeforeOurStartIsWaitedForOnce(t *testing.T) {
	s := newEventStore(new(counts))
	now := time.Unix(1_800_000_000, 0)
	add := func(sequence uint32, at time.Time) []string {
		m := wire.MarkedEvent{Mark: wire.Mark{Origin: wire.Origin{Node: [8]byte{1}, Start: 1}, Sequence: sequence}, Event: fmt.Append(nil, sequence)}
		event := Event{Name: string(m.Event), Expires: at.Add(time.Minute)}
		binary.BigEndian.PutUint32(event.ID[:], sequence)
		ready, _ := s.add(m, append(make([]byte, wire.MarkSize), m.Event...), event, true, past{quiet: sequence}, at)
		return eventNames(ready)
	}
	// The first that is heard is 9: what is before it is from before our start.
	if got := add(9, now); len(got) > 0 {
		t.Errorf("at first: got %q, want that it waits for those that may be brought", got)
	}
	if got := add(8, now.Add(orderWait/2)); len(got) > 0 {
		t.Errorf("then: got %q, want that both wait", got)
	}
	if got, want := add(10, now.Add(orderWait)), []string{"8", "9", "10"}; !slices.Equal(got, want) {
		t.Errorf("when they have waited: got %q, want %q", got, want)
	}
	if got := add(11, now.Add(orderWait)); !slices.Equal(got, []string{"11"}) {
		t.Errorf("the next: got %q, want that it waits for nothing", got)
	}
	if got := add(13, now.Add(orderWait)); len(got) > 0 {
		t.Errorf("behind a gap of now: got %q, want that it waits", got)
	}
	if got := add(12, now.Add(orderWait)); !slices.Equal(got, []string{"12", "13"}) {
		t.Errorf("when the gap is closed: got %q", got)
	}
	// Those that are brought late are still taken, and asked for until they are given up.
	if got := add(7, now.Add(orderWait)); !slices.Equal(got, []string{"7"}) {
		t.Errorf("late: got %q", got)
	}
	if _, lost := s.tick(now.Add(missingAfter)); len(lost) > 0 {
		t.Errorf("missing: got %v, want nothing", lost)
	}
}

func TestStoreIsBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := newEventStore(new(counts))
	for i := range uint32(maxHeldEvents + 10) {
		put(s, 1, 1, i+1, now)
	}
	if n := s.ages.Len(); n != maxHeldEvents || len(s.keys) != n {
		t.Errorf("%d events are held and %d keys, want %d", n, len(s.keys), maxHeldEvents)
	}
	s.expire(nobody, now.Add(time.Hour))
	if s.ages.Len() != 0 || s.bytes != 0 || len(s.keys) != 0 {
		t.Errorf("%d events of %d bytes are held after they expired", s.ages.Len(), s.bytes)
	}
	for start := range uint32(100) {
		put(s, 2, start, 1, now.Add(time.Duration(start)))
	}
	if n := len(s.origins); n != 1+maxStarts {
		t.Errorf("%d origins are remembered, want %d", n, 1+maxStarts)
	}
	s.expire(nobody, now.Add(originLife+time.Minute))
	if n := len(s.origins); n != 0 {
		t.Errorf("%d origins are remembered for ever", n)
	}
}

func nobody(wire.Origin) bool { return false }

// Of an origin that runs and fires nothing packets do not speak, but its place is kept.
func TestIdleOriginKeepsItsPlace(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := newEventStore(new(counts))
	entries := func() (packets, streams int) {
		for _, tally := range s.tallies() {
			packets += len(tally.Entries)
		}
		return packets, len(s.whole().Entries)
	}
	put(s, 1, 1, 1, now)
	put(s, 2, 1, 1, now)
	now = now.Add(originLife + time.Minute)
	s.expire(func(o wire.Origin) bool { return o.Node[0] == 1 }, now)
	if packets, streams := entries(); packets != 0 || streams != 1 {
		t.Errorf("packets speak of %d origins and streams of %d, want 0 and 1", packets, streams)
	}
	if got := put(s, 1, 1, 2, now); !slices.Equal(got, []string{"1/1/2"}) {
		t.Errorf("its next event: got %q, want that it waits for nothing", got)
	}
	if packets, _ := entries(); packets != 1 {
		t.Errorf("then packets speak of %d origins, want 1", packets)
	}
}

// What a member had before the first event that we hear is not waited for; the rest is.
func TestOnlyWhatMayStillBeHadIsWaitedFor(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for settled, want := range map[uint32]int{0: 0, 4: 0, 5: 1} {
		s := newEventStore(new(counts))
		m := wire.MarkedEvent{Mark: wire.Mark{Origin: wire.Origin{Node: [8]byte{1}, Start: 1}, Sequence: 5}}
		ready, _ := s.add(m, make([]byte, wire.MarkSize), Event{Expires: now.Add(time.Minute)}, true, past{quiet: 5, settled: settled}, now)
		if len(ready) != want {
			t.Errorf("settled below %d: %d of the fifth are handed on, want %d", settled, len(ready), want)
		}
	}
}

// Every origin is in exactly one tally, and no hint between two of them is left out.
func TestTalliesCoverEveryOrigin(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	full, empty := newEventStore(new(counts)), newEventStore(new(counts))
	for node := range byte(100) {
		for start := range uint32(3) {
			put(full, node, start, 1, now)
			put(full, node, start, 2, now)
		}
	}
	tell := func(from, to *eventStore) (items int, lacking bool) {
		for _, tally := range from.tallies() {
			if _, err := tally.Append(nil); err != nil {
				t.Fatal(err)
			}
			got, lacks := to.answer(tally, maxHeldBytes)
			items, lacking = items+len(got), lacking || lacks
		}
		return items, lacking
	}
	if items, lacking := tell(empty, full); items != 600 || lacking {
		t.Errorf("who has nothing is brought %d, and %t; want 600", items, lacking)
	}
	if items, lacking := tell(full, empty); items != 0 || !lacking {
		t.Errorf("who has nothing brings %d and lacks: %t", items, lacking)
	}
	put(empty, 50, 1, 2, now)
	if items, _ := tell(empty, full); items != 599 {
		t.Errorf("who has one is brought %d, want 599", items)
	}
	// What lies between two origins is asked for too.
	put(empty, 200, 1, 1, now)
	other := newEventStore(new(counts))
	put(other, 60, 7, 1, now)
	if items, _ := tell(full, other); items != 1 {
		t.Errorf("of an origin that the asker does not know %d are brought, want 1", items)
	}
	if items, _ := tell(full, full); items != 0 {
		t.Errorf("who has all is brought %d", items)
	}
}

func TestEventsThatWaitTogetherAreAcceptedOnceEach(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.journal")
	j := openTestJournal(t, path, journalNow)
	accept(t, j, 1, true)
	end := journalNow.Add(time.Hour)
	fresh, err := j.acceptAll([]journalEntry{{journalKey{1}, end}, {journalKey{2}, end}, {journalKey{2}, end}, {journalKey{3}, end}}, journalNow)
	if want := []bool{false, true, false, true}; err != nil || !slices.Equal(fresh, want) {
		t.Errorf("got %v, %v, want %v", fresh, err, want)
	}
	again := openTestJournal(t, path, journalNow)
	for key := range byte(3) {
		accept(t, again, key+1, false)
	}
}
