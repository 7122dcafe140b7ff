package secgossip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/transport"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// ErrNotKeeper says that this node may not start epochs. Ask a keeper.
var ErrNotKeeper = errors.New("this node is not a keeper")

// ErrRotating says that a rotation is under way on this node.
var ErrRotating = errors.New("a rotation is under way")

// ErrNoEpoch says that this node has no epoch yet, so it cannot know which one comes
// next.
var ErrNoEpoch = errors.New("this node has no epoch yet; it fetches one from the first member it meets")

// Step is how far a node has come in a rotation.
type Step string

// The steps of a rotation.
const (
	StepInstalled Step = "installed"
	StepUsing     Step = "using"
	StepRemoved   Step = "removed"
)

// Progress is one node having reached one step.
type Progress struct {
	Node string
	Step Step
}

// Rotation says how a rotation ended.
type Rotation struct {
	Epoch       uint64 // the new epoch
	Previous    uint64 // the one before
	Fingerprint string // of the new epoch
	Using       int    // nodes that seal with the new epoch, this one included
	// Missing are the members that do not use it, by name: live ones that did
	// not follow, and failed ones. All of them fetch it when they next meet
	// anybody.
	Missing []string
	Removed bool // whether the previous epoch is gone
}

// rotateDeadline bounds each step of a rotation; after it the nodes that did not
// follow are named.
const rotateDeadline = 20 * time.Second

// Rotate makes a new epoch and carries it through its life: every live node
// installs it, every live node seals with it, then the old one is removed. It
// tells report of each step, which must not block.
//
// While a live node does not follow, the old epoch stays, so that nothing it
// sends is lost. Errors: ErrNotKeeper, ErrRotating, or that of our
// own keyring; the rotation may then be started again.
func (n *Node) Rotate(ctx context.Context, report func(Progress)) (Rotation, error) {
	return n.rotate(ctx, "operator", report)
}

// rotate is Rotate, for a reason that the statement gives.
func (n *Node) rotate(ctx context.Context, reason string, report func(Progress)) (Rotation, error) {
	return n.step(func() (Rotation, error) { return n.allSteps(ctx, reason, report) })
}

// allSteps is a whole rotation.
func (n *Node) allSteps(ctx context.Context, reason string, report func(Progress)) (Rotation, error) {
	old := n.config.Keyring.Keyring().Primary()
	retire := n.retirement(old)
	begin, install, err := n.beginEpoch(reason)
	if err != nil {
		return Rotation{}, err
	}
	rotation := Rotation{Epoch: begin.Number, Previous: old.Number}
	if epoch, ok := n.config.Keyring.Keyring().Get(begin.Number); ok {
		rotation.Fingerprint = epoch.Secret.Fingerprint()
	}
	n.carry(ctx, install, StepInstalled, report, installed(begin.Number))
	if err := ctx.Err(); err != nil {
		return rotation, err // nobody is made to use what nobody may have
	}
	use, err := n.act(begin, wire.ActionUse)
	if err != nil {
		return rotation, err
	}
	reached, behind := n.carry(ctx, use, StepUsing, report, using(begin.Number))
	rotation.Using, rotation.Missing = len(reached)+1, n.without(reached)
	if behind {
		return rotation, nil
	}
	remove, err := n.act(retire, wire.ActionRemove)
	if err != nil {
		return rotation, err
	}
	_, behind = n.carry(ctx, remove, StepRemoved, report, removed(old.Number))
	rotation.Removed = !behind
	return rotation, nil
}

// retirement is what is said to remove an epoch.
func (n *Node) retirement(old keyring.Epoch) wire.Statement {
	return wire.Statement{
		Number:     old.Number,
		Previous:   n.ledger.previousDigest(old.Number),
		Commitment: old.Secret.Commitment(),
		Reason:     "rotated",
	}
}

// without names the members that are not in reached and did not leave.
func (n *Node) without(reached map[pki.Name]bool) []string {
	var names []string
	for _, m := range n.Members() {
		if m.Status != StatusLeft && m.Status != StatusEvicted && !reached[pki.Name(m.Name)] && m.Name != string(n.config.Identity.Name) {
			names = append(names, m.Name)
		}
	}
	return names
}

// beginEpoch makes a new epoch and installs it here, or goes on with one that an
// earlier rotation left unused. It returns what is to be said about it from then
// on, and the statement that installs it.
func (n *Node) beginEpoch(reason string) (wire.Statement, *statement, error) {
	sum, named := n.revocations.naming(n.clusterTime())
	// One that was begun before the last revocation may be with whom that is about.
	if install, ok := n.ledger.begun(n.clusterTime()); ok && install.Revoked == sum {
		return install.Statement, install, nil
	}
	highest := n.ledger.State().Highest
	secret, err := keyring.NewSecret()
	if err != nil {
		return wire.Statement{}, nil, err
	}
	said := wire.Statement{
		Number:     n.ledger.next(),
		Previous:   n.ledger.installDigest(highest),
		Commitment: secret.Commitment(),
		Reason:     reason,
		Revoked:    sum,
		Named:      named,
	}
	install, err := n.sign(said, wire.ActionInstall)
	if err == nil {
		err = n.ledger.begin(install, secret)
	}
	if err != nil {
		secret.Destroy()
		return wire.Statement{}, nil, err
	}
	return said, install, nil
}

// sign makes a statement of ours.
func (n *Node) sign(s wire.Statement, action wire.Action) (*statement, error) {
	s.Action, s.Keeper, s.Issued = action, string(n.config.Identity.Name), n.clusterTime()
	if action != wire.ActionInstall {
		s.Revoked, s.Named = [wire.RevokedSize]byte{}, nil
	}
	raw, err := wire.SignStatement(n.config.Identity.Signing, n.config.Trust.Cluster(), s)
	if err != nil {
		return nil, err
	}
	return verifyStatement(n.config.Trust, raw, n.self.credentialNow(), n.clusterTime())
}

// act signs a statement and applies it here first.
func (n *Node) act(s wire.Statement, action wire.Action) (*statement, error) {
	signed, err := n.sign(s, action)
	if err != nil {
		return nil, err
	}
	if err := n.ledger.apply(signed); err != nil {
		return nil, err
	}
	return signed, nil
}

// How far a member must be for a step to be done.
func installed(number uint64) func(transport.State) bool {
	return func(s transport.State) bool { return s.Highest >= number }
}

func using(number uint64) func(transport.State) bool {
	return func(s transport.State) bool { return s.Primary >= number }
}

func removed(number uint64) func(transport.State) bool {
	return func(s transport.State) bool { return s.Lowest > number }
}

// carry spreads a statement and waits for every live member to say that it is done,
// or for the deadline. Whoever does not say so in time is brought up to date by
// stream. It returns the others that are done, and whether a live one is not.
func (n *Node) carry(ctx context.Context, s *statement, step Step, report func(Progress), done func(transport.State) bool) (reached map[pki.Name]bool, behind bool) {
	ctx, cancel := context.WithTimeout(ctx, rotateDeadline)
	defer cancel()
	n.say(s)
	report(Progress{Node: string(n.config.Identity.Name), Step: step})
	reached = make(map[pki.Name]bool)
	reach := func(name pki.Name) {
		reached[name] = true
		report(Progress{Node: string(name), Step: step})
	}
	quiet := time.NewTimer(reportWithin)
	defer quiet.Stop()
	for {
		before := len(reached)
		var waiting []*guard.Peer
		for _, p := range n.livePeers() {
			switch {
			case reached[p.Name]:
			case done(n.transport.Seen(p).Said):
				reach(p.Name)
			default:
				waiting = append(waiting, p)
			}
		}
		if len(waiting) == 0 || ctx.Err() != nil {
			return reached, len(waiting) > 0
		}
		if len(reached) > before {
			quiet.Reset(reportWithin)
		}
		select {
		case <-ctx.Done():
		case <-n.reported:
		case <-quiet.C:
			for _, name := range n.syncAll(ctx, waiting, done) {
				reach(name)
			}
			quiet.Reset(retryStep)
		}
	}
}

// say spreads a statement of ours: to many members ourselves, and from there on by
// gossip.
func (n *Node) say(s *statement) {
	payload := n.epochGossip.spread(s.raw, s.credential)
	n.hurry()
	for _, p := range n.randomPeers(maxTold) {
		_ = n.transport.Send(p, wire.PacketEpochs, payload) // gossip gets there, too
	}
}

const (
	// maxTold is how many members a keeper tells itself. Of an install each of them
	// fetches the secret from it at once.
	maxTold = 32

	// reportWithin is how long nobody says that it has followed before all who have
	// not are asked. Fetching a secret takes six round trips.
	reportWithin = time.Second

	// retryStep is the pause before asking again the members that are behind.
	retryStep = 200 * time.Millisecond
)

// Rehearsal says whom a rotation would reach.
type Rehearsal struct {
	Epoch    uint64 // the number the new epoch would get
	Previous uint64
	Reached  []string
	Missing  []string // known, not left, and not reached now
}

// Rehearse changes nothing and asks every member whether it would follow.
func (n *Node) Rehearse(ctx context.Context) (Rehearsal, error) {
	if err := errors.Join(n.needKeeper(), n.needEpoch()); err != nil {
		return Rehearsal{}, err
	}
	state := n.ledger.State()
	r := Rehearsal{Epoch: state.Highest + 1, Previous: state.Primary, Reached: []string{string(n.config.Identity.Name)}}
	reached := make(map[pki.Name]bool)
	for _, name := range n.syncAll(ctx, n.livePeers(), func(transport.State) bool { return true }) {
		reached[name] = true
		r.Reached = append(r.Reached, string(name))
	}
	r.Missing = n.without(reached)
	return r, nil
}

// syncWorkers is how many members are brought up to date at once.
const syncWorkers = 16

// syncAll syncs with each peer and returns the names of those that are done.
func (n *Node) syncAll(ctx context.Context, peers []*guard.Peer, done func(transport.State) bool) []pki.Name {
	var mu sync.Mutex
	var names []pki.Name
	var group sync.WaitGroup
	slots := make(chan struct{}, syncWorkers)
	for _, p := range peers {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, syncTimeout)
			defer cancel()
			state, err := n.transport.Sync(ctx, memberlist.Address{Name: string(p.Name)})
			if err != nil || !done(state) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			names = append(names, p.Name)
		})
	}
	group.Wait()
	slices.Sort(names)
	return names
}

// needKeeper is ErrNotKeeper with the names of those to ask instead.
func (n *Node) needKeeper() error {
	if n.isKeeper() {
		return nil
	}
	return fmt.Errorf("%w; keepers are: %s", ErrNotKeeper, strings.Join(n.keepers(), ", "))
}

func (n *Node) needEpoch() error {
	if n.ledger.State().Primary == 0 {
		return ErrNoEpoch
	}
	return nil
}

func (n *Node) isKeeper() bool {
	p := n.roster.Get(n.config.Identity.Name)
	return p != nil && p.Credential.HasRole(pki.RoleKeeper) && !n.roster.Revoked(p)
}

// keepers names the live keepers, for an operator.
func (n *Node) keepers() []string {
	if names := n.liveKeepers(); len(names) > 0 {
		return names
	}
	return []string{"not in sight"}
}

// liveKeepers names the live keepers other than us.
func (n *Node) liveKeepers() []string {
	var names []string
	for _, p := range n.livePeers() {
		if p.Credential.HasRole(pki.RoleKeeper) {
			names = append(names, string(p.Name))
		}
	}
	return names
}
