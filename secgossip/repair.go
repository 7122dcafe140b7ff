package secgossip

import (
	"math/rand/v2"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// This file mends what gossip lost. Each node tells one random member a second what
// it has of each origin's events, and five a second while something is lacking; that
// member sends what is lacking, and tells in turn what it lacks itself. What is more than
// packets bring comes by stream (repair_stream.go).

const (
	tallyInterval = time.Second
	gapInterval   = 200 * time.Millisecond

	// tallyQueue bounds the tallies that wait for an answer.
	tallyQueue = 256

	// maxTallies is how many tallies of one member are answered in a second, and
	// maxAnswer how many bytes each answer has: 512 KiB a second for a member. A
	// cluster of 4,096 restarted nodes needs 86 packets for one whole tally.
	maxTallies = 16
	maxAnswer  = 32 << 10
)

// heardTally is a member's tally.
type heardTally struct {
	from  *guard.Peer
	tally wire.Tally
	asks  bool // wants to be told what we lack
}

// receiveTally takes a tally from a packet. It runs where packets are received: it
// only queues.
func (n *Node) receiveTally(from *guard.Peer, payload []byte, asks bool) {
	tally, err := wire.ParseTally(payload)
	if err != nil {
		return // the transport has parsed it, and counted what does not parse
	}
	select {
	case n.tallies <- heardTally{from, tally, asks}:
	default:
		n.counts.talliesDropped.Add(1)
	}
}

// repairLoop tells tallies and answers those of others.
func (n *Node) repairLoop() {
	periodic, gaps := time.NewTicker(tallyInterval), time.NewTicker(gapInterval)
	defer periodic.Stop()
	defer gaps.Stop()
	answered := make(map[pki.Name]int) // in this second
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-periodic.C:
			clear(answered)
			n.store.expire(n.runs, n.now())
			n.payloads.expire(n.now())
			for _, peer := range n.randomPeers(1) {
				n.sendTallies(peer, wire.PacketTally)
			}
		case <-gaps.C:
			if origin, ok := n.store.gapOf(); ok {
				n.sendTallies(n.whoHas(origin), wire.PacketTally)
			}
		case t := <-n.tallies:
			// Threat C10: a member that tells tallies without end is answered so often
			// and no more.
			if answered[t.from.Name]++; answered[t.from.Name] > maxTallies {
				n.counts.talliesDropped.Add(1)
				continue
			}
			n.answerTally(t)
		}
	}
}

func (n *Node) answerTally(t heardTally) {
	items, lacking := n.store.answer(t.tally, maxAnswer)
	for len(items) > 0 {
		room, count := wire.MaxPayload, 0
		for count < min(len(items), wire.MaxPacketItems) && room >= wire.LengthSize+len(items[count]) {
			room -= wire.LengthSize + len(items[count])
			count++
		}
		payload, err := wire.BatchEvents.Append(nil, items[:count])
		if err != nil {
			panic("internal error: an event larger than its limit: " + err.Error())
		}
		if n.transport.Send(t.from, wire.PacketRepair, payload) != nil {
			return // it asks again
		}
		items = items[count:]
	}
	// An answer is not answered with another tally, or two that lack what the other
	// cannot give would never end.
	if lacking && t.asks {
		n.sendTallies(t.from, wire.PacketLacks)
	}
}

func (n *Node) sendTallies(peer *guard.Peer, kind wire.PacketType) {
	if peer == nil {
		return
	}
	for _, tally := range n.store.tallies() {
		payload, err := tally.Append(nil)
		if err != nil {
			panic("internal error: a tally of ours: " + err.Error())
		}
		if n.transport.Send(peer, kind, payload) != nil {
			return // the next one is a second away
		}
	}
}

// whoHas picks whom to ask for what is lacking of an origin: the origin itself, or,
// every other time and when it is away, any member.
func (n *Node) whoHas(origin wire.Origin) *guard.Peer {
	if p := n.originOf(origin); p != nil && rand.IntN(2) == 0 {
		if status, _ := n.members.get(string(p.Name)); status == StatusAlive {
			return p
		}
	}
	for _, p := range n.randomPeers(1) {
		return p
	}
	return nil
}

// knowOrigin notes whose marks a new record lets us verify.
func (n *Node) knowOrigin(before, now *guard.Peer) {
	n.origins.Lock()
	defer n.origins.Unlock()
	if before != nil && before.Key() != now.Key() {
		n.forgetOriginLocked(wire.OriginHint(before.Key()))
	}
	// Whom the roster has forgotten may still have events on their way: a while longer.
	if len(n.byOrigin) >= 2*wire.MaxRecords {
		for hint, p := range n.byOrigin {
			if held := n.roster.Get(p.Name); held == nil || held.Key() != p.Key() {
				n.forgetOriginLocked(hint)
			}
		}
	}
	hint := wire.OriginHint(now.Key())
	n.byOrigin[hint] = now
	// Whoever is heard of shortly after our start was there before it, or might as well
	// have been.
	start := wire.OriginStart(now.Record.Boot)
	if young := n.started.IsZero() || n.now().Sub(n.started) < missingAfter; young && n.ranBefore[hint].start != start {
		n.ranBefore[hint] = startBefore{start: start}
	}
}

func (n *Node) forgetOriginLocked(hint [8]byte) {
	delete(n.byOrigin, hint)
	delete(n.ranBefore, hint)
}

// startBefore is a start of an origin that is not younger than ours.
type startBefore struct {
	start   uint32
	settled uint32 // below it a member had everything, and nothing that we lack
}

// before says what is known of events before one that is heard. What was fired before our
// start is not missed: whoever still had it has brought it, and the rest has expired.
func (n *Node) before(m wire.Mark) (known past) {
	n.origins.Lock()
	defer n.origins.Unlock()
	ran, ok := n.ranBefore[m.Node]
	ok = ok && ran.start == m.Start
	if ok || n.now().Sub(n.started) < missingAfter {
		known.quiet = m.Sequence
	}
	if ok {
		// Threat C06: who claims to have had more than there was changes the order of
		// what comes behind this one no further.
		known.settled = min(ran.settled, m.Sequence)
	}
	return known
}

// settle notes by a member's tally what need not be waited for. It has nothing that we lack.
func (n *Node) settle(theirs wire.Tally) {
	n.origins.Lock()
	defer n.origins.Unlock()
	for _, e := range theirs.Entries {
		if ran, ok := n.ranBefore[e.Node]; ok && ran.start == e.Start && ran.settled < e.Next {
			ran.settled = e.Next
			n.ranBefore[e.Node] = ran
		}
	}
}

// runs reports whether a known node marks as origin now.
func (n *Node) runs(origin wire.Origin) bool {
	p := n.originOf(origin)
	return p != nil && wire.OriginStart(p.Record.Boot) == origin.Start && n.roster.Get(p.Name) != nil
}

// originOf is the node that marks as origin, nil if none is known.
func (n *Node) originOf(origin wire.Origin) *guard.Peer {
	n.origins.Lock()
	defer n.origins.Unlock()
	return n.byOrigin[origin.Node]
}

func (n *Node) originName(origin wire.Origin) string {
	if p := n.originOf(origin); p != nil {
		return string(p.Name)
	}
	return ""
}

// selfOrigin is how our own marks begin.
func (n *Node) selfOrigin() wire.Origin {
	return wire.Origin{Node: wire.OriginHint(n.self.key()), Start: wire.OriginStart(n.self.boot)}
}
