package secgossip

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/seal"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// EpochStatus is one epoch as this node holds it.
type EpochStatus struct {
	Number      uint64
	Primary     bool
	Created     time.Time
	Fingerprint string
	HeldBy      int    // live members known to seal with it, the local node included
	Sealed      uint64 // datagrams sealed with it, by this node and by the live members that said so
}

// Epochs lists the epochs held, lowest first. It shows no key.
func (n *Node) Epochs() []EpochStatus {
	uses := make(map[uint64]int)
	for _, m := range n.Members() {
		if m.Status.IsLive() {
			uses[m.Epoch]++
		}
	}
	var all []EpochStatus
	for _, info := range n.config.Keyring.Keyring().List() {
		all = append(all, EpochStatus{
			Number:      info.Number,
			Primary:     info.Primary,
			Created:     info.Created,
			Fingerprint: info.Fingerprint,
			HeldBy:      uses[info.Number],
			Sealed:      n.sealed(info.Number, n.clusterTime().Sub(info.Created)),
		})
	}
	return all
}

// epochsChanged makes the transport follow the keyring. One caller at a time: an
// older view of the keyring that came last would take an epoch from the
// transport, which never takes that one back.
func (n *Node) epochsChanged() {
	n.following.Lock()
	defer n.following.Unlock()
	ring := n.config.Keyring.Keyring()
	held := make(map[uint64]seal.EpochSecret)
	for _, info := range ring.List() {
		if epoch, ok := ring.Get(info.Number); ok {
			held[info.Number] = epoch.Secret
		}
	}
	primary := n.ledger.State().Primary
	if n.followed != 0 && n.followed != primary {
		n.counts.rotations.Add(1)
	}
	n.tellEpochs(ring.List(), n.followed, primary)
	n.followed = primary
	n.transport.SetEpochs(primary, held)
	wake(n.moved)
	wake(n.changed)
}

// EpochAction is a step of an epoch's life, as a node takes it.
type EpochAction string

// The actions, in the order of that life.
const (
	EpochInstall EpochAction = "install"
	EpochUse     EpochAction = "use"
	EpochRemove  EpochAction = "remove"
)

// EpochEvent says which step of which epoch this node has taken. It shows no key.
type EpochEvent struct {
	Number      uint64
	Action      EpochAction
	Reason      string // why the epoch was made, as its keeper said; empty if that is not known
	Keeper      string // who made it
	Fingerprint string
}

// tellEpochs tells the observer what is other than when it was last told. What a node
// has when it starts is no news.
func (n *Node) tellEpochs(list []keyring.EpochInfo, before, primary uint64) {
	now := make(map[uint64]EpochEvent)
	var news []EpochEvent
	add := func(e EpochEvent, action EpochAction) {
		e.Action = action
		news = append(news, e)
	}
	for _, info := range list {
		install, _ := n.ledger.installStatement(info.Number)
		e := EpochEvent{Number: info.Number, Reason: install.Reason, Keeper: install.Keeper, Fingerprint: info.Fingerprint}
		now[info.Number] = e
		told, held := n.epochsTold[info.Number]
		if !held || told.Fingerprint != e.Fingerprint { // of two keepers' epochs of one number it is the other
			add(e, EpochInstall)
		}
	}
	if e, held := now[primary]; held && (before != primary || n.epochsTold[primary].Fingerprint != e.Fingerprint) {
		add(e, EpochUse)
	}
	for _, number := range slices.Sorted(maps.Keys(n.epochsTold)) {
		if _, held := now[number]; !held {
			add(n.epochsTold[number], EpochRemove)
		}
	}
	first := n.epochsTold == nil
	n.epochsTold = now
	if first {
		return
	}
	for _, e := range news {
		n.notify(func(o Observer) { o.EpochEvent(e) })
	}
}

const (
	// maxReports bounds the keepers that are told how far we are. A cluster has
	// three; one that is not told asks.
	maxReports = 16

	// Each change is told so often, with pauses, because of the datagrams of many
	// nodes some are lost.
	reports     = 3
	reportPause = 300 * time.Millisecond
)

// reportLoop tells the keepers how far we are whenever that changes, so that
// whoever rotates need not ask.
func (n *Node) reportLoop() {
	pause := time.NewTimer(0)
	defer pause.Stop()
	left := 0
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-n.moved:
			left = reports
		case <-pause.C:
		}
		if left == 0 {
			continue
		}
		left--
		n.report()
		pause.Reset(reportPause)
	}
}

func (n *Node) report() {
	sent := 0
	for _, p := range n.livePeers() {
		if p.Credential.HasRole(pki.RoleKeeper) && sent < maxReports {
			sent++
			_ = n.transport.Report(p)
		}
	}
}

// hearReport wakes whoever waits for members to follow.
func (n *Node) hearReport() { wake(n.reported) }

// passOn spreads statements that were news to us.
func (n *Node) passOn(items [][]byte) {
	for i := 0; i+1 < len(items); i += 2 {
		n.epochGossip.spread(items[i], items[i+1])
	}
	n.hurry()
}

// receiveStatements takes statements from a packet, where packets are received:
// it only queues. When they announce an epoch we lack, its secret is fetched by
// stream from whoever told us.
func (n *Node) receiveStatements(from *guard.Peer, items [][]byte) {
	if len(items)%2 != 0 {
		n.counts.statementsBad.Add(1)
		return
	}
	select {
	case n.statements <- told{from, items}:
	default: // they come again, and every stream brings them too
		n.counts.statementsBad.Add(1)
	}
}

// told is epoch statements and who passed them on.
type told struct {
	from  *guard.Peer
	items [][]byte
}

// statementQueue bounds the statements that wait for their signatures to be
// checked and, rarely, for the disk.
const statementQueue = 64

// statementLoop learns from packets, away from the goroutine that receives them.
func (n *Node) statementLoop() {
	for {
		select {
		case <-n.ctx.Done():
			return
		case t := <-n.statements:
			if wanted := n.ledger.Learn(t.items); len(wanted) > 0 {
				n.catchUp(t.from, wanted)
			}
		}
	}
}

// catchUp syncs with a member that knows more than we do. One at a time: what
// one sync brings, the next need not. After a failure it pauses, so that nobody
// can make us dial and log without end.
func (n *Node) catchUp(from *guard.Peer, wanted []wire.SecretRequest) {
	ctx, cancel := context.WithTimeout(n.ctx, syncTimeout)
	defer cancel()
	if _, err := n.transport.Sync(ctx, memberlist.Address{Name: string(from.Name)}); err != nil {
		n.logger.Warn("fetching an epoch", slog.Uint64("epoch", wanted[0].Number),
			slog.String("node", string(from.Name)), slog.Any("error", err))
		select {
		case <-n.ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// EpochState returns the highest epoch held and the one in use.
func (n *Node) EpochState() (highest, primary uint64) {
	state := n.ledger.State()
	return state.Highest, state.Primary
}
