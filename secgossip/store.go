package secgossip

import (
	"bytes"
	"cmp"
	"container/list"
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// eventStore knows which events of each origin this node has, keeps those that have
// not expired for whoever lacks them, and holds back what is ahead of its turn. It
// has no clock and no socket of its own. It is safe for concurrent use.
//
// Whether an event was accepted is not its to say but the journal's: what it forgets
// is at worst looked at again.
type eventStore struct {
	counts *counts

	mu      sync.Mutex
	origins map[wire.Origin]*originEvents
	keys    map[journalKey]struct{} // of the events held
	ages    list.List               // of *heldEvent, the one taken in first in front
	bytes   int                     // of the events held
	shares  map[[8]byte]*share      // of them, by the node of their origin
}

// share is what of the events held came by one node.
type share struct {
	ages  list.List // of *heldEvent
	bytes int
}

// weight is how much of all that may be held a node has, in bytes: whichever of the two
// bounds it is nearer to.
func (s *share) weight() int { return max(s.bytes, s.ages.Len()*(maxHeldBytes/maxHeldEvents)) }

// originEvents is what is known of one origin's events.
type originEvents struct {
	next    uint32              // the lowest sequence that we lack
	quiet   uint32              // below it nothing is missed: it is from before our start
	turn    uint32              // below it nothing is waited for; not less than next
	begun   time.Time           // when it was first heard of
	above   map[uint32]struct{} // what we have above next; within maxBeyond of it
	held    map[uint32]*heldEvent
	waiting []waitingEvent // ascending; until next has passed them, or orderWait
	gap     time.Time      // since when next is lacking; zero: nothing is
	heard   time.Time      // when something of it was last taken in
	idle    bool           // nothing is held, and nothing was heard for originLife
}

// past is what a node knows of what an origin fired before the first event that it hears.
type past struct {
	quiet   uint32 // below it nothing is missed: it is from before our start
	settled uint32 // below it nothing is waited for: a member had all of it, and brought what there still is
}

type heldEvent struct {
	origin   wire.Origin
	sequence uint32
	key      journalKey
	raw      []byte // with its mark
	expires  time.Time
	age      *list.Element
	own      *list.Element // the same, in its share
}

type waitingEvent struct {
	sequence uint32
	event    Event
	since    time.Time
}

const (
	// maxHeldEvents and maxHeldBytes bound what is kept for others: at 100 events a
	// second of the default life, 30,000 of them, and 600 bytes each. Beyond it goes the
	// one taken in first of a node that has more than its share, which is what there is
	// divided by the nodes that have some.
	maxHeldEvents = 32_768
	maxHeldBytes  = 32 << 20

	// maxBeyond bounds what is remembered above a gap of one origin: 160 s at 100
	// events a second. An origin that claims more skips its own events.
	maxBeyond = 16_384

	// maxStarts bounds the starts of one node that are told apart. A member can make
	// up starts of itself, and loses its own older ones by that.
	maxStarts = 8

	// orderWait is how long an event waits for those before it: repair asks five
	// times a second meanwhile.
	orderWait = 2 * time.Second

	// payloadOrderWait is how long an event waits for one before it whose payload is
	// still to come: ten pulls of the largest over 10 Mbit/s.
	payloadOrderWait = 10 * time.Second

	// missingAfter is when events that nobody has brought are given up and named: a
	// minute of asking. Whoever brings them after that is still heard.
	missingAfter = time.Minute

	// originLife is how long an origin that runs no more is remembered, and how long
	// packets speak of one of which nothing is held: no event lives longer.
	originLife = time.Hour
)

func newEventStore(c *counts) *eventStore {
	return &eventStore{counts: c, origins: make(map[wire.Origin]*originEvents), keys: make(map[journalKey]struct{}), shares: make(map[[8]byte]*share)}
}

// ofLocked finds an origin, or makes room for a new one.
func (s *eventStore) ofLocked(origin wire.Origin, before past, now time.Time) *originEvents {
	if o := s.origins[origin]; o != nil {
		return o
	}
	var oldest wire.Origin
	starts := 0
	for other, o := range s.origins {
		if other.Node != origin.Node {
			continue
		}
		if starts == 0 || o.heard.Before(s.origins[oldest].heard) {
			oldest = other
		}
		starts++
	}
	if starts >= maxStarts {
		s.dropLocked(oldest)
	}
	o := &originEvents{next: 1, quiet: before.quiet, turn: max(1, before.settled), begun: now, above: make(map[uint32]struct{}), held: make(map[uint32]*heldEvent), heard: now}
	s.origins[origin] = o
	return o
}

// add takes in an event whose mark was verified, and returns what is now to be
// handed on, in order. One that is not wanted takes its place in the order, and is
// neither handed on nor kept for others. fresh is false if this very event is held,
// whoever marked it.
func (s *eventStore) add(m wire.MarkedEvent, raw []byte, event Event, wanted bool, before past, now time.Time) (ready []Event, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.ofLocked(m.Origin, before, now)
	o.heard, o.idle = now, false
	key := event.key()
	_, known := s.keys[key]
	var alone []Event
	if wanted {
		alone = []Event{event}
	}
	if held := o.held[m.Sequence]; held != nil && !bytes.Equal(held.raw[wire.MarkSize:], m.Event) {
		// One sequence, two events. A client signed both, so both are delivered; the
		// second is not passed on as that sequence.
		s.counts.eventsForked.Add(1)
		return alone, !known
	}
	_, above := o.above[m.Sequence]
	if m.Sequence < o.next || above {
		// Late, or given up before. The journal says whether it is a copy.
		if wanted && !known {
			s.holdLocked(o, m, key, raw, event.Expires)
		}
		return alone, !known
	}
	if first := uint64(o.next) + maxBeyond; uint64(m.Sequence) >= first {
		s.advanceLocked(o, m.Sequence-maxBeyond+1)
	}
	o.above[m.Sequence] = struct{}{}
	s.advanceLocked(o, o.next)
	if o.gap.IsZero() && len(o.above) > 0 {
		o.gap = now
	}
	if wanted && !known {
		s.holdLocked(o, m, key, raw, event.Expires)
	}
	if !wanted || known && event.lacking { // it waits under one mark, however many there are
		return s.readyLocked(o, now), !known
	}
	at, _ := slices.BinarySearchFunc(o.waiting, m.Sequence, func(w waitingEvent, sequence uint32) int { return cmp.Compare(w.sequence, sequence) })
	o.waiting = slices.Insert(o.waiting, at, waitingEvent{m.Sequence, event, now})
	return s.readyLocked(o, now), !known
}

// own takes in an event of our own origin, the next in order.
func (s *eventStore) own(m wire.Mark, key journalKey, raw []byte, expires, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.ofLocked(m.Origin, past{}, now)
	o.next, o.heard, o.idle = m.Sequence+1, now, false
	o.passLocked(o.next)
	if _, known := s.keys[key]; !known {
		s.holdLocked(o, wire.MarkedEvent{Mark: m}, key, raw, expires)
	}
}

// advanceLocked moves next to at least the given sequence, and over all that follows
// and is there. What it passes over and was expected counts as missing.
func (s *eventStore) advanceLocked(o *originEvents, to uint32) (missing uint64) {
	if to > o.next {
		missing = uint64(to - o.next)
		if o.quiet > o.next {
			missing -= uint64(min(to, o.quiet) - o.next)
		}
		for sequence := range o.above {
			if sequence < to {
				delete(o.above, sequence)
				if sequence >= o.quiet {
					missing--
				}
			}
		}
		s.counts.eventsMissing.Add(missing)
		o.next, o.gap = to, time.Time{}
	}
	for {
		if _, ok := o.above[o.next]; !ok || o.next == math.MaxUint32 {
			break
		}
		delete(o.above, o.next)
		o.next++
		o.gap = time.Time{} // another gap has its own time
	}
	o.passLocked(o.next)
	return missing
}

// passLocked ends the wait for what is below the given sequence, and for all that
// follows and is there.
func (o *originEvents) passLocked(to uint32) {
	o.turn = max(o.turn, to)
	for {
		if _, ok := o.above[o.turn]; !ok || o.turn == math.MaxUint32 {
			return
		}
		o.turn++
	}
}

// readyLocked takes out what need not wait any longer: all before its turn, and all up to
// the last one that waited for orderWait. What an origin fired before our start and nobody
// has brought by then is asked for and not waited for: most of it has expired, and every
// event would wait until it is given up. One whose payload is still to come stays, and
// holds up those behind it for payloadOrderWait.
func (s *eventStore) readyLocked(o *originEvents, now time.Time) []Event {
	if o.turn < o.quiet && now.Sub(o.begun) >= orderWait {
		o.passLocked(o.quiet)
	}
	count := 0
	for i, w := range o.waiting {
		if w.event.lacking && now.Sub(w.since) < payloadOrderWait {
			break
		} else if w.event.lacking {
			continue
		}
		if w.sequence < o.turn {
			count = i + 1
		} else if now.Sub(w.since) >= orderWait {
			s.counts.eventsUnordered.Add(uint64(i + 1 - count))
			count = i + 1
		}
	}
	var ready []Event
	var lacking []waitingEvent
	for _, w := range o.waiting[:count] {
		if w.event.lacking {
			lacking = append(lacking, w)
		} else {
			ready = append(ready, w.event)
		}
	}
	o.waiting = slices.Replace(o.waiting, 0, count, lacking...)
	return ready
}

// complete says that the payload of an event is there, and returns what is now to be
// handed on. waited is false if the event has no turn to wait for.
func (s *eventStore) complete(key journalKey, now time.Time) (ready []Event, waited bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.origins { // two may have marked it
		for i := range o.waiting {
			if w := &o.waiting[i]; w.event.lacking && w.event.key() == key {
				w.event.lacking, waited = false, true
			}
		}
		ready = append(ready, s.readyLocked(o, now)...)
	}
	return ready, waited
}

func (s *eventStore) holdLocked(o *originEvents, m wire.MarkedEvent, key journalKey, raw []byte, expires time.Time) {
	if o.held[m.Sequence] != nil {
		return
	}
	h := &heldEvent{origin: m.Origin, sequence: m.Sequence, key: key, raw: bytes.Clone(raw), expires: expires}
	h.age = s.ages.PushBack(h)
	o.held[m.Sequence] = h
	s.keys[key] = struct{}{}
	s.bytes += len(h.raw)
	own := s.shares[m.Origin.Node]
	if own == nil {
		own = new(share)
		s.shares[m.Origin.Node] = own
	}
	h.own = own.ages.PushBack(h)
	own.bytes += len(h.raw)
	for s.ages.Len() > maxHeldEvents || s.bytes > maxHeldBytes {
		s.releaseLocked(s.heavyLocked(own).ages.Front().Value.(*heldEvent))
	}
}

// heavyLocked is a share that is not below the average: this one if it is not, which in a
// flood costs nothing to find out, or the heaviest.
//
// Threat C10: a member that floods loses events of its own, and nobody else's.
func (s *eventStore) heavyLocked(own *share) *share {
	if own.weight() > maxHeldBytes/len(s.shares) {
		return own
	}
	for _, other := range s.shares {
		if other.weight() > own.weight() {
			own = other
		}
	}
	return own
}

func (s *eventStore) releaseLocked(h *heldEvent) {
	s.ages.Remove(h.age)
	s.bytes -= len(h.raw)
	own := s.shares[h.origin.Node]
	own.ages.Remove(h.own)
	if own.bytes -= len(h.raw); own.ages.Len() == 0 {
		delete(s.shares, h.origin.Node)
	}
	delete(s.keys, h.key)
	if o := s.origins[h.origin]; o != nil {
		delete(o.held, h.sequence)
	}
}

func (s *eventStore) dropLocked(origin wire.Origin) {
	o := s.origins[origin]
	for _, h := range o.held {
		s.releaseLocked(h)
	}
	// What waits for its turn is not heard: whoever has eight starts at a time makes
	// them up.
	delete(s.origins, origin)
}

// missing is what nobody brought in time.
type missing struct {
	origin wire.Origin
	count  uint64
}

// tick gives up what nobody brings, and returns what has waited for long enough.
func (s *eventStore) tick(now time.Time) (ready []Event, lost []missing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for origin, o := range s.origins {
		if !o.gap.IsZero() && now.Sub(o.gap) >= missingAfter {
			if n := s.advanceLocked(o, slices.Min(slices.Collect(maps.Keys(o.above)))); n > 0 {
				lost = append(lost, missing{origin, n})
			}
		}
		if o.gap.IsZero() && len(o.above) > 0 {
			o.gap = now
		}
		o.waiting = slices.DeleteFunc(o.waiting, func(w waitingEvent) bool { return w.event.lacking && !now.Before(w.event.Expires) })
		ready = append(ready, s.readyLocked(o, now)...)
	}
	return ready, lost
}

// expire drops what is held and has expired, and forgets the origins of which nothing is
// held and that run no more. It looks at all of them.
func (s *eventStore) expire(runs func(wire.Origin) bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.ages.Front(); e != nil; {
		h := e.Value.(*heldEvent)
		e = e.Next()
		if !now.Before(h.expires) {
			s.releaseLocked(h)
		}
	}
	for origin, o := range s.origins {
		if len(o.held) > 0 || len(o.waiting) > 0 || now.Sub(o.heard) <= originLife {
			continue
		}
		if !runs(origin) {
			delete(s.origins, origin)
		} else if !o.idle && len(o.above) == 0 { // its next event is the one after its last, whenever that comes
			o.idle = true
			o.held, o.above = make(map[uint32]*heldEvent), make(map[uint32]struct{}) // which may have been large
		}
	}
}

// gapOf returns an origin of which something is lacking that was expected.
func (s *eventStore) gapOf() (wire.Origin, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for origin, o := range s.origins { // in random order
		if !o.gap.IsZero() {
			return origin, true
		}
	}
	return wire.Origin{}, false
}

// tallies says what we have, of all origins that are not idle: of the others there is
// nothing to be had.
func (s *eventStore) tallies() []wire.Tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	var order []wire.Origin
	for origin, o := range s.origins {
		if !o.idle {
			order = append(order, origin)
		}
	}
	slices.SortFunc(order, wire.CompareOrigins)
	var all []wire.Tally
	from := [8]byte{}
	for {
		t := wire.Tally{From: from}
		n := min(len(order), wire.MaxTally)
		// One node's starts, eight at most, are not torn apart.
		for n < len(order) && order[n-1].Node == order[n].Node {
			n--
		}
		for _, origin := range order[:n] {
			t.Entries = append(t.Entries, s.origins[origin].entry(origin))
		}
		order = order[n:]
		if len(order) == 0 {
			t.To = [8]byte(bytes.Repeat([]byte{0xff}, 8))
			return append(all, t)
		}
		t.To = t.Entries[n-1].Node
		all = append(all, t)
		// The next one begins where this one ends: between them nothing is left out.
		binary.BigEndian.PutUint64(from[:], binary.BigEndian.Uint64(t.To[:])+1)
	}
}

// whole says what we have, in one tally. Of more origins than that can hold those with
// the highest hints are left out of its range.
func (s *eventStore) whole() wire.Tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := wire.Tally{To: [8]byte(bytes.Repeat([]byte{0xff}, 8))}
	order := slices.SortedFunc(maps.Keys(s.origins), wire.CompareOrigins)
	if n := wire.MaxWholeTally; len(order) > n {
		for order[n-1].Node == order[n].Node { // eight at most
			n--
		}
		order, t.To = order[:n], order[n-1].Node
	}
	for _, origin := range order {
		t.Entries = append(t.Entries, s.origins[origin].entry(origin))
	}
	return t
}

func (o *originEvents) entry(origin wire.Origin) wire.TallyEntry {
	e := wire.TallyEntry{Origin: origin, Next: o.next}
	for sequence := range o.above {
		if ahead := sequence - o.next; ahead < 64 {
			e.Above |= 1 << ahead
		}
	}
	return e
}

// answer returns what a member lacks by its tally, at most so many bytes, oldest
// first, and whether we lack something that it has.
func (s *eventStore) answer(t wire.Tally, most int) (items [][]byte, lacking bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lacking = slices.ContainsFunc(t.Entries, s.lacksLocked)
	theirs := make(map[wire.Origin]wire.TallyEntry, len(t.Entries))
	for _, e := range t.Entries {
		theirs[e.Origin] = e
	}
	for origin, o := range s.origins {
		if bytes.Compare(origin.Node[:], t.From[:]) < 0 || bytes.Compare(origin.Node[:], t.To[:]) > 0 || len(o.held) == 0 {
			continue
		}
		e, known := theirs[origin]
		if known && e.Next >= o.next && len(o.above) == 0 {
			continue
		}
		for _, sequence := range slices.Sorted(maps.Keys(o.held)) {
			if known && (sequence < e.Next || sequence-e.Next < 64 && e.Above>>(sequence-e.Next)&1 == 1) {
				continue
			}
			raw := o.held[sequence].raw
			if most -= len(raw); most < 0 {
				return items, lacking
			}
			items = append(items, raw)
		}
	}
	return items, lacking
}

// lacks reports whether we lack something that a member has by its tally.
func (s *eventStore) lacks(t wire.Tally) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(t.Entries, s.lacksLocked)
}

func (s *eventStore) lacksLocked(e wire.TallyEntry) bool {
	o := s.origins[e.Origin]
	if o == nil {
		return e.Next > 1 || e.Above != 0
	}
	if o.next < e.Next {
		return true
	}
	for ahead := uint32(1); ahead < 64; ahead++ {
		if _, have := o.above[e.Next+ahead]; e.Above>>ahead&1 == 1 && e.Next+ahead >= o.next && !have {
			return true
		}
	}
	return false
}
