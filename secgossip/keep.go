package secgossip

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Epochs are rotated by themselves. Of the keepers that are alive the one with the
// lowest name acts: it begins an epoch when the one in use has had its time, or has
// sealed its share, and it finishes what another has begun and could not finish. If
// two act at once, because neither sees the other, the ledger brings the cluster to
// one epoch again.

const (
	// keepEvery is how often a keeper looks whether something is to be done.
	keepEvery = 5 * time.Second

	// unfinished is how old a rotation is that nobody is busy with any more, though
	// the keeper that began it is alive: two steps of it have had all their time.
	unfinished = 2 * rotateDeadline

	// finishEvery is how often the members that lack an epoch are asked again.
	finishEvery = 30 * time.Second

	// warnEvery is how often it is said that nobody can rotate.
	warnEvery = time.Hour
)

// keepLoop does a keeper's work until the node closes or leaves.
func (n *Node) keepLoop() {
	ticker := time.NewTicker(keepEvery)
	defer ticker.Stop()
	var asked, warned time.Time
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-n.changed:
			n.sayInUse()
			continue
		case <-ticker.C:
		}
		if n.leaving.Load() {
			return
		}
		n.sayInUse()
		now := n.clusterTime()
		switch n.ActingKeeper() {
		case "":
			if n.overdue(now, n.config.RotateEvery) && now.Sub(warned) >= warnEvery {
				warned = now
				n.logger.Warn("no keeper is alive: the epoch in use is not replaced until one is",
					slog.Uint64("epoch", n.config.Keyring.Keyring().Primary().Number))
			}
		case string(n.config.Identity.Name):
			if !n.clockNow().isSure() {
				continue // clockLoop says so
			}
			n.adopt(now)
			if reason := n.due(now); reason != "" {
				n.rotateAlone(reason)
			} else if now.Sub(asked) >= finishEvery {
				asked = now
				n.finish(now)
			} else {
				n.hearSome(n.ctx, unheardAfter)
			}
		}
	}
}

// ActingKeeper names the keeper that acts: of those alive whose clock is right, this
// node included, the one with the lowest name. It is empty when there is none.
func (n *Node) ActingKeeper() string {
	view := n.clockNow()
	var names []string
	for _, p := range n.livePeers() {
		if p.Credential.HasRole(pki.RoleKeeper) && n.keepsTime(view, p) {
			names = append(names, string(p.Name))
		}
	}
	if n.isKeeper() && !view.isOff() {
		names = append(names, string(n.config.Identity.Name))
	}
	if len(names) == 0 {
		return ""
	}
	return slices.Min(names)
}

// due says why a rotation is due, or nothing.
func (n *Node) due(now time.Time) string {
	install, begun := n.ledger.begun(now)
	primary := n.config.Keyring.Keyring().Primary()
	age := now.Sub(primary.Created)
	switch {
	case n.overdue(now, n.config.RotateEvery):
		return "age"
	case dueByVolume(n.sealed(primary.Number, age), age, n.config.volumeMark):
		return "volume"
	case n.uncovered(now):
		return revoked
	case primary.Number > 0 && primary.Number <= n.ledger.toPass() && age >= unfinished: // no more often: the key may be a thief's
		return revoked
	case begun && install.Reason != byHand && (now.Sub(install.Issued) >= unfinished || n.abandoned(install)):
		return "resumed" // whoever began it is not at it any more
	}
	return ""
}

// abandoned reports whether the keeper that began a rotation cannot be at it any
// more: it is not alive, or it is this node, which then has no other under way. Who
// sees nobody, as just after a start, does not know.
func (n *Node) abandoned(install *statement) bool {
	if len(n.livePeers()) == 0 {
		return false
	}
	return install.Keeper == string(n.config.Identity.Name) || !slices.Contains(n.liveKeepers(), install.Keeper)
}

// uncovered reports whether somebody may have the epoch in use who is revoked by now,
// and nobody is about to replace it. Whoever revoked has keepEvery for that.
func (n *Node) uncovered(now time.Time) bool {
	f := n.revocations.inForce.Load()
	if n.ledger.revoked(n.ledger.State().Primary) == f.sum || now.Sub(f.since) < keepEvery {
		return false
	}
	begun, ok := n.ledger.begun(now)
	return !ok || begun.Revoked != f.sum || now.Sub(begun.Issued) >= unfinished
}

// overdue reports whether the epoch in use is so old. None is never.
func (n *Node) overdue(now time.Time, age time.Duration) bool {
	primary := n.config.Keyring.Keyring().Primary()
	return primary.Number > 0 && now.Sub(primary.Created) >= age
}

// rotateAlone rotates without an operator, and says so.
func (n *Node) rotateAlone(reason string) {
	begin := time.Now()
	rotation, err := n.rotate(n.ctx, reason, func(Progress) {})
	switch {
	case n.ctx.Err() != nil:
	case errors.Is(err, ErrRotating): // somebody is at it: nothing is to be done
	case errors.Is(err, ErrUnwritten): // the ledger said so
	case err != nil:
		n.logger.Error("rotation failed; it is tried again", slog.String("reason", reason), slog.Any("error", err))
	case len(rotation.Missing) > 0:
		n.logger.Warn("epoch rotated, and some members do not use it yet", slog.Uint64("epoch", rotation.Epoch),
			slog.String("reason", reason), slog.String("waiting", strings.Join(rotation.Missing, ",")))
	default:
		n.logger.Info("epoch rotated", slog.Uint64("epoch", rotation.Epoch), slog.String("reason", reason),
			slog.Duration("duration", time.Since(begin)))
	}
}

// sayInUse says of the epoch in use that it is, if no keeper has yet: of two epochs of
// one number it is the one that counts, and the word was about the other.
func (n *Node) sayInUse() {
	if n.leaving.Load() || n.ActingKeeper() != string(n.config.Identity.Name) || !n.clockNow().isSure() {
		return
	}
	install, ok := n.ledger.unsaid(n.clusterTime())
	if !ok || !n.rotating.TryLock() { // somebody is at it
		return
	}
	defer n.rotating.Unlock()
	use, err := n.act(install.Statement, wire.ActionUse)
	if err != nil {
		n.logger.Warn("the epoch in use is not said to be", slog.Uint64("epoch", install.Number), slog.Any("error", err))
		return
	}
	n.passOn([][]byte{use.raw, use.credential})
}

// finish removes epochs that a rotation left because a live member lacked the one
// in use, as soon as none does.
func (n *Node) finish(now time.Time) {
	ring := n.config.Keyring.Keyring()
	primary := ring.Primary()
	older := slices.DeleteFunc(ring.List(), func(e keyring.EpochInfo) bool { return e.Number >= primary.Number })
	if len(older) == 0 {
		return
	}
	install, ok := n.ledger.installed(primary.Number, now)
	if now.Sub(primary.Created) < unfinished && !(ok && n.abandoned(install)) || !n.rotating.TryLock() {
		return
	}
	defer n.rotating.Unlock()
	if len(n.behind(n.ctx, primary.Number)) > 0 {
		return
	}
	for _, info := range older {
		epoch, held := ring.Get(info.Number)
		if !held {
			continue
		}
		remove, err := n.act(n.retirement(epoch), wire.ActionRemove)
		if errors.Is(err, ErrUnwritten) {
			return // the ledger said so
		}
		if err != nil {
			n.logger.Error("epoch not removed", slog.Uint64("epoch", info.Number), slog.Any("error", err))
			return
		}
		n.passOn([][]byte{remove.raw, remove.credential})
		n.logger.Info("epoch removed", slog.Uint64("epoch", info.Number))
	}
}
