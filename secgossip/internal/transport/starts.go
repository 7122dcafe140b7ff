package transport

import (
	"errors"
	"maps"
	"math"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/seal"
)

// starts remembers each start of a node that traffic keys were made with, as long
// as an epoch from then is held. Keys are made with a start once: a second
// seal.Sender for the same arguments would use its nonces again, and a second
// seal.Receiver would open what was opened before.
//
// An honest node has a fresh boot nonce at every start. But two copies of one
// machine, both running, take turns at signing the latest record of their one
// identity, and a member may say what it likes.
type starts struct {
	nodes map[pki.Name]int
	last  map[seal.Party]lastUse
}

// lastUse says whose start it was and the highest epoch there were keys in.
type lastUse struct {
	node  pki.Name
	epoch uint64
}

// stillUsed is later than every epoch.
const stillUsed = math.MaxUint64

// maxStarts bounds what one node can make us remember: 64 KiB. A node that
// crashes every four seconds gets there within an hour; its datagrams are then not
// heard until the next rotation, its streams are.
const maxStarts = 1024

var (
	errSecondStart   = errors.New("it comes back with a boot nonce it had before: is another machine running a copy of it?")
	errTooManyStarts = errors.New("it has started too often in this epoch")
)

func newStarts() starts {
	return starts{nodes: make(map[pki.Name]int), last: make(map[seal.Party]lastUse)}
}

// first reports whether keys may be made with party, and remembers it.
func (s *starts) first(node pki.Name, party seal.Party) error {
	if _, ok := s.last[party]; ok {
		return errSecondStart
	}
	if s.nodes[node] >= maxStarts {
		return errTooManyStarts
	}
	s.nodes[node]++
	s.last[party] = lastUse{node: node, epoch: stillUsed}
	return nil
}

// over notes that the keys with party are gone, the highest of them in epoch.
func (s *starts) over(party seal.Party, epoch uint64) {
	s.last[party] = lastUse{node: s.last[party].node, epoch: epoch}
}

// forget forgets what lies before the oldest epoch held. An epoch does not come
// back: the inbox refuses it.
func (s *starts) forget(oldest uint64) {
	maps.DeleteFunc(s.last, func(_ seal.Party, use lastUse) bool {
		if use.epoch >= oldest {
			return false
		}
		if s.nodes[use.node]--; s.nodes[use.node] == 0 {
			delete(s.nodes, use.node)
		}
		return true
	})
}
