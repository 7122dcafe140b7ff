package secgossip

import (
	"errors"
	"io"
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

// recordsFile is a BatchRoster in the state folder.
const recordsFile = "nodes"

// reconnectInterval is how often one absent node is tried, as in Serf.
const reconnectInterval = 30 * time.Second

// loadRecords reads the records kept from an earlier run. A file that does not
// read is as good as none, and is replaced at the next save.
func (n *Node) loadRecords() {
	if n.config.StateDir == "" {
		return
	}
	file, err := os.Open(filepath.Join(n.config.StateDir, recordsFile))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			n.logger.Warn("reading known nodes", slog.Any("error", err))
		}
		return
	}
	defer file.Close()
	body, err := io.ReadAll(io.LimitReader(file, wire.MaxRoster+1))
	if err != nil {
		n.logger.Warn("reading known nodes", slog.Any("error", err))
		return
	}
	records, err := wire.BatchRoster.Parse(body)
	if err != nil {
		n.logger.Warn("reading known nodes", slog.Any("error", err))
		return
	}
	for _, raw := range records {
		// An expired or replaced identity is simply not known any more.
		_, _ = n.roster.Admit(raw, time.Now())
	}
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
	for _, p := range n.roster.All() {
		if p.Name != n.config.Identity.Name {
			records = append(records, p.Raw)
		}
	}
	body, err := wire.BatchRoster.Append(nil, records)
	if err == nil {
		err = writeFile(filepath.Join(n.config.StateDir, recordsFile), body)
	}
	if err != nil {
		n.logger.Warn("saving known nodes", slog.Any("error", err))
		return
	}
	n.saved = digest
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

// reconnectLoop goes back to the cluster of an earlier run, and then tries one
// absent node at a time, until the node closes or leaves.
func (n *Node) reconnectLoop() {
	for _, p := range n.absent() {
		if n.ctx.Err() != nil || n.leaving.Load() || n.reconnect(p) {
			break
		}
	}
	ticker := time.NewTicker(reconnectInterval)
	defer ticker.Stop()
	for {
		select {
		case <-n.ctx.Done():
			n.saveRecords()
			return
		case <-ticker.C:
		}
		if n.leaving.Load() {
			return
		}
		n.saveRecords()
		if absent := n.absent(); len(absent) > 0 {
			n.reconnect(absent[0])
		}
	}
}

// absent returns the nodes that are known, did not leave and are not alive, in
// random order.
func (n *Node) absent() []*guard.Peer {
	var absent []*guard.Peer
	for _, p := range n.roster.All() {
		status, _ := n.members.get(string(p.Name))
		if p.Name != n.config.Identity.Name && !p.Record.Leaving && status != StatusAlive {
			absent = append(absent, p)
		}
	}
	rand.Shuffle(len(absent), func(i, j int) { absent[i], absent[j] = absent[j], absent[i] })
	return absent
}

// reconnect tries to join by one known node.
func (n *Node) reconnect(p *guard.Peer) bool {
	_, err := n.list.Join([]string{string(p.Name) + "/" + p.Virtual.String()})
	if err != nil {
		n.logger.Debug("node is still away", slog.String("node", string(p.Name)), slog.Any("error", err))
		return false
	}
	n.logger.Info("node is reached again", slog.String("node", string(p.Name)))
	return true
}
