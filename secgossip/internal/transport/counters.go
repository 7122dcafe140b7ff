package transport

import (
	"sync/atomic"

	"github.com/secgossip/secgossip/secgossip/internal/seal"
)

// counter names one thing that is counted.
type counter uint8

// What is counted. A stranger moves counters and nothing else.
const (
	packetsSent counter = iota
	packetsReceived
	checksReceived  // path challenges and responses
	packetsUnsent   // no key or no endpoint for a peer
	packetsOverflow // opened, and memberlist did not keep up
	packetsCarried  // sent by stream
	packetsDropped  // a carrier did not take them
	dropForged      // opened, and refused by wire or guard
	streamsOpened
	streamsAccepted
	streamsRefused   // authenticated, then refused
	strangersDropped // no knock, no certificate, or too many at once
	knocksUntimely   // of them, those whose knock was wrong in its time alone
	counterCount
)

var counterNames = [counterCount]string{
	"packets_sent", "packets_received", "checks_received", "packets_unsent", "packets_overflow", "packets_carried", "packets_dropped", "drop_forged",
	"streams_opened", "streams_accepted", "streams_refused", "strangers_dropped", "knocks_untimely",
}

type counters struct {
	counts [counterCount]atomic.Uint64
	drops  [seal.Drops]atomic.Uint64 // datagrams that were not opened, by reason
}

func (c *counters) add(which counter)         { c.counts[which].Add(1) }
func (c *counters) addN(which counter, n int) { c.counts[which].Add(uint64(n)) }
func (c *counters) addDrop(drop seal.Drop)    { c.drops[drop].Add(1) }

func (c *counters) snapshot() map[string]uint64 {
	all := make(map[string]uint64, counterCount+counter(seal.Drops))
	for i := range c.counts {
		all[counterNames[i]] = c.counts[i].Load()
	}
	for drop := seal.Accepted + 1; drop < seal.Drops; drop++ {
		all["drop_"+drop.String()] = c.drops[drop].Load()
	}
	return all
}
