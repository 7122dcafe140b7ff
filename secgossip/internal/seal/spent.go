package seal

import "github.com/secgossip/secgossip/secgossip/internal/wire"

// spentEpochs remembers the epochs that were removed. A member that still has
// one would hand it out to whoever asks, and adding it again would start its
// windows empty: everything recorded in it since this node started would open
// once more.
//
// Numbers alone do not do: when two keepers start an epoch of one number at
// once, the loser's is removed and the winner's added. Protocol 4.9. The zero value
// is ready.
type spentEpochs struct {
	list  []spentEpoch // in the order of removal
	floor uint64       // the highest number that is no longer in the list
}

type spentEpoch struct {
	number      uint64
	fingerprint [wire.DoorSize]byte
}

func (s *spentEpochs) add(number uint64, fingerprint [wire.DoorSize]byte) {
	s.list = append(s.list, spentEpoch{number, fingerprint})
	if len(s.list) > wire.MaxSpentEpochs {
		s.floor = max(s.floor, s.list[0].number)
		s.list = s.list[1:]
	}
}

func (s *spentEpochs) has(number uint64, fingerprint [wire.DoorSize]byte) bool {
	if number <= s.floor {
		return true
	}
	for _, e := range s.list {
		if e == (spentEpoch{number, fingerprint}) {
			return true
		}
	}
	return false
}
