package secgossip

import (
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// A node finds the cluster again by itself: it keeps the records of the nodes it
// knows on disk, and now and then tries one that is not there. Records are
// signed, so the file can mislead nobody; at worst it names hosts that are gone.

// recordsFile is a BatchRoster in the state folder, as a kept file.
const recordsFile = "nodes"

const (
	// reconnectInterval is how often absent nodes are tried: twice before anybody
	// would be missed who is back for ten seconds.
	reconnectInterval = 2 * time.Second

	// heardFor is how long after a packet of its a node counts as heard: until we have
	// looked twice.
	heardFor = 2 * reconnectInterval

	// saveInterval is how often the records of known nodes are written, if they
	// changed.
	saveInterval = 30 * time.Second

	// A node that starts tries the next of those it knows so soon: those that are
	// gone must not keep it from those that are there.
	nextKnown = 250 * time.Millisecond

	// freshFor is how long after its start a node also goes round those that are
	// there. Until each has the other's new record no packet passes between them, so
	// gossip about whoever starts at the same time, after a power cut, may miss it.
	freshFor = 10 * time.Second

	// maxTries is how many nodes are tried at a time.
	maxTries = 8
)

// loadRecords reads the records kept from an earlier run.
func (n *Node) loadRecords() error {
	if n.config.StateDir == "" {
		return nil
	}
	return n.loadKept(filepath.Join(n.config.StateDir, recordsFile), wire.MaxRoster, func(body []byte) error {
		records, err := wire.BatchRoster.Parse(body)
		for _, raw := range records {
			// An expired or replaced identity is simply not known any more.
			_, _ = n.roster.Admit(raw, n.now())
		}
		return err
	})
}

// saveRecords writes the records of all known nodes, if they changed. A node
// that leaves saves no more: see forgetRecords.
func (n *Node) saveRecords() {
	n.saving.Lock()
	defer n.saving.Unlock()
	digest := n.roster.Digest()
	if n.config.StateDir == "" || digest == n.saved || n.leaving.Load() {
		return
	}
	var records [][]byte
	for _, p := range n.roster.Valid() {
		if p.Name != n.config.Identity.Name {
			records = append(records, p.Raw)
		}
	}
	body, err := wire.BatchRoster.Append(nil, records)
	if err == nil {
		err = writeKept(filepath.Join(n.config.StateDir, recordsFile), n.config.Trust.Cluster(), body)
	}
	n.unwritten.note(recordsFile, err)
	if err == nil {
		n.saved = digest
	}
}

// forgetRecords makes a node that left not come back by itself. Set n.leaving
// before: then whoever is saving now is done first, and nobody saves after.
func (n *Node) forgetRecords() error {
	n.saving.Lock()
	defer n.saving.Unlock()
	if n.config.StateDir == "" {
		return nil
	}
	err := os.Remove(filepath.Join(n.config.StateDir, recordsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// reconnectLoop goes back to the cluster of an earlier run, and then tries absent
// nodes, until the node closes or leaves.
func (n *Node) reconnectLoop() {
	tries := make(chan struct{}, maxTries)
	begin := time.Now()
	n.comeBack(tries)
	reconnect, save, again := time.NewTicker(reconnectInterval), time.NewTicker(saveInterval), time.NewTicker(writeAgain)
	defer reconnect.Stop()
	defer save.Stop()
	defer again.Stop()
	for {
		select {
		case <-n.ctx.Done():
			n.saveRecords()
			return
		case <-save.C:
			n.saveRecords()
		case <-again.C:
			n.writeUnwritten()
		case <-reconnect.C:
			to := n.toTry()
			if to == nil && time.Since(begin) < freshFor {
				for _, p := range n.randomPeers(1) {
					to = p
				}
			}
			if to == nil {
				continue
			}
			select {
			case tries <- struct{}{}:
				n.try(to, tries, nil)
			default: // they all wait for hosts that do not answer
			}
		}
	}
}

// toTry picks the absent node that we try now, nil if none is to be. One whose packets
// come is there whatever we think of it: the news that it is back has missed us, which
// gossip does not repeat. It is tried without waiting for our turn.
func (n *Node) toTry() *guard.Peer {
	absent := n.absent()
	for _, p := range absent {
		if quiet, ok := n.transport.Quiet(p); ok && quiet < heardFor {
			return p
		}
	}
	if !n.ourTurn(len(absent)) {
		return nil
	}
	return absent[0]
}

// ourTurn decides by chance whether we try an absent node now. All who are there
// decide alike, so that together they try as many as are absent, in a large
// cluster too; and whoever is alone tries each time.
func (n *Node) ourTurn(absent int) bool {
	return absent > 0 && rand.IntN(max(1, n.liveCount())) < absent
}

// comeBack tries the nodes known from an earlier run, in random order, until one
// is reached or all were tried.
func (n *Node) comeBack(tries chan struct{}) {
	absent := n.absent()
	reached := make(chan struct{}, len(absent))
	for _, p := range absent {
		select {
		case tries <- struct{}{}:
			n.try(p, tries, reached)
		case <-reached:
			return
		case <-n.ctx.Done():
			return
		}
		select {
		case <-reached:
			return
		case <-n.ctx.Done():
			return
		case <-time.After(nextKnown):
		}
	}
}

// try tries one node, beside others, and tells reached of a success. It gives back
// the place it has in tries.
func (n *Node) try(p *guard.Peer, tries <-chan struct{}, reached chan<- struct{}) {
	n.running.Go(func() {
		defer func() { <-tries }()
		if !n.leaving.Load() && n.reconnect(p) && reached != nil {
			reached <- struct{}{}
		}
	})
}

// absent returns the nodes that are known and valid, did not leave, were not removed and
// are not alive, in random order.
func (n *Node) absent() []*guard.Peer {
	var absent []*guard.Peer
	for _, p := range n.roster.Valid() {
		status, _ := n.members.get(string(p.Name))
		if p.Name != n.config.Identity.Name && !p.Record.Leaving && status != StatusAlive && status != StatusLeft {
			absent = append(absent, p)
		}
	}
	rand.Shuffle(len(absent), func(i, j int) { absent[i], absent[j] = absent[j], absent[i] })
	return absent
}

// reconnect tries to join by one known node.
func (n *Node) reconnect(p *guard.Peer) bool {
	before, _ := n.members.get(string(p.Name))
	_, err := n.list.Join([]string{string(p.Name) + "/" + p.Virtual.String()})
	if err != nil {
		n.logger.Debug("node is still away", slog.String("node", string(p.Name)), slog.Any("error", err))
		return false
	}
	if before != StatusAlive {
		n.logger.Info("node is reached again", slog.String("node", string(p.Name)))
	}
	return true
}
