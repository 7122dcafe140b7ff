package secgossip

import (
	"maps"
	"time"
)

// Figures are the node's numbers, for whoever watches it. No name is among them.
type Figures struct {
	Members     map[Status]int
	Epoch       uint64 // the one in use
	Age         time.Duration
	Sealed      uint64 // datagrams sealed in it, as EpochStatus has it
	Rotations   uint64 // how often another epoch came into use since the start
	Keepers     int    // that are alive
	Behind      int    // live members not known to use the epoch in use
	ClockOffset time.Duration
	Unwritten   int               // files that the disk did not take the last time
	Counters    map[string]uint64 // of what was sent, received, refused and dropped
}

// Figures returns the node's numbers as they are now.
func (n *Node) Figures() Figures {
	primary := n.config.Keyring.Keyring().Primary()
	age := n.clusterTime().Sub(primary.Created)
	f := Figures{
		Members:     make(map[Status]int),
		Epoch:       primary.Number,
		Age:         age,
		Sealed:      n.sealed(primary.Number, age),
		Rotations:   n.counts.rotations.Load(),
		ClockOffset: n.clockNow().offset,
		Unwritten:   n.unwritten.count(),
		Counters:    n.counters(),
	}
	for _, m := range n.Members() {
		f.Members[m.Status]++
		if !m.Status.IsLive() {
			continue
		}
		if m.Keeper {
			f.Keepers++
		}
		if m.Epoch != primary.Number {
			f.Behind++
		}
	}
	return f
}

// counters are the node's own and its transport's.
func (n *Node) counters() map[string]uint64 {
	all := map[string]uint64{
		"events_accepted":  n.counts.eventsAccepted.Load(),
		"events_refused":   n.counts.eventsRefused.Load(),
		"events_unkept":    n.counts.eventsUnkept.Load(),
		"events_overflow":  n.counts.eventsOverflow.Load(),
		"queries_accepted": n.counts.queriesAccepted.Load(),
		"queries_refused":  n.counts.queriesRefused.Load(),
		"queries_overflow": n.counts.queriesOverflow.Load(),
		"replies_taken":    n.counts.repliesTaken.Load(),
		"replies_refused":  n.counts.repliesRefused.Load(),
		"replies_late":     n.counts.repliesLate.Load(),
		"replies_relayed":  n.counts.repliesRelayed.Load(),
		"statements_bad":   n.counts.statementsBad.Load(),
		"events_repaired":  n.counts.eventsRepaired.Load(),
		"events_missing":   n.counts.eventsMissing.Load(),
		"events_forked":    n.counts.eventsForked.Load(),
		"marks_unknown":    n.counts.marksUnknown.Load(),
		"tallies_dropped":  n.counts.talliesDropped.Load(),
		"payloads_pulled":  n.counts.payloadsPulled.Load(),
		"payloads_missing": n.counts.payloadsMissing.Load(),
		"receipts_dropped": n.counts.receiptsDropped.Load(),
		"events_unordered": n.counts.eventsUnordered.Load(),
		"notices_dropped":  n.counts.noticesDropped.Load(),

		"convictions":       n.counts.convictions.Load(),
		"flaps":             n.counts.flaps.Load(),
		"removals_refused":  n.counts.removalsRefused.Load(),
		"removals_overflow": n.counts.removalsOverflow.Load(),

		"coordinates_bad":  n.coordinates.bad.Load(),
		"coordinates_held": n.coordinates.held.Load(),
	}
	maps.Copy(all, n.transport.Counters())
	return all
}
