package secgossip

import (
	"cmp"
	"fmt"
	"strconv"
	"time"
)

// Info returns the node's own figures in sections, in the manner of Serf. It
// holds no payload, no key, and no names but our own, the acting keeper's and those of
// members in quarantine.
func (n *Node) Info() map[string]map[string]string {
	members := make(map[Status]int)
	all := n.Members()
	for _, m := range all {
		members[m.Status]++
	}
	times := n.lamport.now()
	highest, primary := n.EpochState()
	clock := n.clockNow()
	gossip := map[string]string{
		"members":      strconv.Itoa(len(all)),
		"revocations":  strconv.Itoa(len(n.revocations.list())),
		"health_score": strconv.Itoa(n.list.GetHealthScore()),
		"query_queue":  strconv.Itoa(n.queryGossip.queue.NumQueued()),
		"event_queue":  strconv.Itoa(n.eventGossip.queue.NumQueued()),
		"quarantined":  strconv.Itoa(n.quarantine.size()),
		"event_time":   strconv.FormatUint(times.Event, 10),
		"query_time":   strconv.FormatUint(times.Query, 10),
		"member_time":  strconv.FormatUint(times.Member, 10),
		"encrypted":    "true",
	}
	for _, status := range Statuses[1:] { // who is in none of these is alive
		gossip[string(status)] = strconv.Itoa(members[status])
	}
	for name, count := range n.counters() {
		gossip[name] = strconv.FormatUint(count, 10)
	}
	return map[string]map[string]string{
		"agent": {
			"name":    string(n.config.Identity.Name),
			"cluster": string(n.config.Trust.ClusterName()),
			"id":      n.config.Trust.Cluster().String(),
			"keeper":  fmt.Sprint(n.isKeeper()),
		},
		"gossip": gossip,
		"keys": {
			"primary": strconv.FormatUint(primary, 10),
			"highest": strconv.FormatUint(highest, 10),
			"age":     n.epochAge(),
			"keeper":  cmp.Or(n.ActingKeeper(), "none"),
			"kept":    n.epochsKept(),
		},
		"disk":       n.unwritten.list(),
		"quarantine": n.quarantine.list(),
		"clock": {
			"offset":   clock.offset.Round(time.Second).String(),
			"compared": strconv.Itoa(clock.clocks - 1),
			"right":    clock.right(),
		},
	}
}

// epochAge is how long ago the epoch in use was made.
func (n *Node) epochAge() string {
	primary := n.config.Keyring.Keyring().Primary()
	if primary.Number == 0 {
		return "no epoch yet"
	}
	return n.clusterTime().Sub(primary.Created).Round(time.Second).String()
}

// epochsKept says where epochs are kept.
func (n *Node) epochsKept() string {
	if n.config.Keyring.InMemory() {
		return "in memory"
	}
	return "on disk"
}
