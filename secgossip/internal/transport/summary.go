package transport

import (
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/seal"
)

// summaryInterval is how often the log may mention strangers. They decide how
// often they come; they must not decide how much we write.
const summaryInterval = time.Minute

// summarise says in one line each minute what strangers moved, and nothing when
// they moved nothing. What is written is reasons and numbers, no byte or address
// of theirs.
func (t *Transport) summarise() {
	ticker := time.NewTicker(summaryInterval)
	defer ticker.Stop()
	var before map[string]uint64
	var untimely uint64
	var told time.Time
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-ticker.C:
		}
		now := t.movedByStrangers()
		var moved []any
		for _, name := range slices.Sorted(maps.Keys(now)) {
			if more := now[name] - before[name]; more > 0 {
				moved = append(moved, slog.Uint64(name, more))
			}
		}
		before = now
		if len(moved) > 0 {
			t.logger.Info("strangers turned away", moved...)
		}
		// Whoever recorded a knock can send it again and again: not each minute.
		if knocks := t.counters.counts[knocksUntimely].Load(); knocks > untimely && t.now().Sub(told) >= tellEvery {
			untimely, told = knocks, t.now()
			t.logger.Warn("knocks with a wrong time were refused: set the clock of this host, or of the node that cannot reach it; "+
				"or somebody repeats an old knock", slog.Duration("offset", time.Duration(t.untimely.Load()).Round(time.Second)))
		}
	}
}

// movedByStrangers reads all that somebody without a key can move. A datagram
// that was opened is not among it.
func (t *Transport) movedByStrangers() map[string]uint64 {
	all := make(map[string]uint64)
	for _, drop := range []seal.Drop{seal.DropSize, seal.DropDoor, seal.DropSender, seal.DropReplay, seal.DropSeal} {
		all["drop_"+drop.String()] = t.counters.drops[drop].Load()
	}
	all[counterNames[strangersDropped]] = t.counters.counts[strangersDropped].Load()
	if t.config.Strangers != nil {
		maps.Copy(all, t.config.Strangers())
	}
	return all
}
