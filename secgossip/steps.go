package secgossip

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// The steps of a rotation one at a time, for an operator who wants to look in
// between. Each is as durable as the whole, and the next rotation goes on from
// wherever they were left.

// ErrStep says that an epoch cannot take a step: it is not held, or its life is at
// another point.
var ErrStep = errors.New("not possible for this epoch")

// byHand is the reason of an epoch that waits for its operator: no keeper uses it
// by itself before the epoch in use has had its time.
const byHand = "by hand"

// Install makes a new epoch, or takes one that nobody uses yet, and has every live
// node fetch it. Errors: those of Rotate.
func (n *Node) Install(ctx context.Context, report func(Progress)) (Rotation, error) {
	return n.step(func() (Rotation, error) {
		begin, install, err := n.beginEpoch(byHand)
		if err != nil {
			return Rotation{}, err
		}
		reached, _ := n.carry(ctx, install, StepInstalled, report, installed(begin.Number))
		return n.stepDone(begin.Number, reached), nil
	})
}

// Use has every live node seal with an installed epoch, 0 being the highest. Errors:
// those of Rotate, ErrStep.
func (n *Node) Use(ctx context.Context, number uint64, report func(Progress)) (Rotation, error) {
	return n.step(func() (Rotation, error) {
		highest, primary := n.EpochState()
		if number == 0 {
			number = highest
		}
		install, ok := n.ledger.installed(number, n.clusterTime())
		switch {
		case !ok:
			return Rotation{}, fmt.Errorf("%w: epoch %d is not held here", ErrStep, number)
		case number <= primary:
			return Rotation{}, fmt.Errorf("%w: epoch %d is in use, and none before it is used again", ErrStep, primary)
		}
		use, err := n.act(install.Statement, wire.ActionUse)
		if err != nil {
			return Rotation{}, err
		}
		reached, _ := n.carry(ctx, use, StepUsing, report, using(number))
		done := n.stepDone(number, reached)
		done.Previous = primary
		return done, nil
	})
}

// Remove has every live node forget an epoch that none of them seals with any more.
// Errors: those of Rotate, ErrStep, which names who still needs it.
func (n *Node) Remove(ctx context.Context, number uint64, report func(Progress)) (Rotation, error) {
	return n.step(func() (Rotation, error) {
		primary := n.config.Keyring.Keyring().Primary().Number
		epoch, held := n.config.Keyring.Keyring().Get(number)
		switch {
		case !held:
			return Rotation{}, fmt.Errorf("%w: epoch %d is not held here", ErrStep, number)
		case number >= primary:
			return Rotation{}, fmt.Errorf("%w: epoch %d is in use or is yet to be", ErrStep, number)
		}
		if behind := n.behind(ctx, primary); len(behind) > 0 {
			return Rotation{}, fmt.Errorf("%w: epoch %d is needed by %s", ErrStep, number, strings.Join(behind, ", "))
		}
		remove, err := n.act(n.retirement(epoch), wire.ActionRemove)
		if err != nil {
			return Rotation{}, err
		}
		reached, behind := n.carry(ctx, remove, StepRemoved, report, removed(number))
		done := n.stepDone(number, reached)
		done.Previous, done.Removed = number, !behind
		return done, nil
	})
}

// step runs a step, or all of them, where that may be: on a keeper, and one at a time.
func (n *Node) step(take func() (Rotation, error)) (Rotation, error) {
	if err := n.needKeeper(); err != nil {
		return Rotation{}, err
	}
	if err := n.needEpoch(); err != nil {
		return Rotation{}, err
	}
	if err := n.needClock(); err != nil {
		return Rotation{}, err
	}
	if !n.rotating.TryLock() {
		return Rotation{}, ErrRotating
	}
	defer n.rotating.Unlock()
	return take()
}

func (n *Node) stepDone(number uint64, reached map[pki.Name]bool) Rotation {
	done := Rotation{Epoch: number, Using: len(reached) + 1, Missing: n.without(reached)}
	if epoch, ok := n.config.Keyring.Keyring().Get(number); ok {
		done.Fingerprint = epoch.Secret.Fingerprint()
	}
	return done
}

// behind names the live members that do not seal with an epoch or a later one, after
// bringing them up to date if that is possible.
func (n *Node) behind(ctx context.Context, number uint64) (names []string) {
	peers := n.livePeers()
	done := make(map[pki.Name]bool)
	for _, name := range n.syncAll(ctx, peers, using(number)) {
		done[name] = true
	}
	for _, p := range peers {
		if !done[p.Name] {
			names = append(names, string(p.Name))
		}
	}
	return names
}

// RotateEvery is how long an epoch is used, as this node is set.
func (n *Node) RotateEvery() time.Duration { return n.config.RotateEvery }
