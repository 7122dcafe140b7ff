package secgossip

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
)

// A host's clock may be wrong, by an hour say. Members read each other's clocks in
// every sync and every answered path check, so a node knows how far its own is from
// what most of them show. While it is far off the node stays a member: it says so, it
// follows rotations by the cluster's time, and if it is a keeper it begins none.
//
// Certificates and events are judged by the host's own clock and by nothing else: no
// number of members can make an old event new.

// ErrClock says that this host's clock is too far from the others' to begin an epoch:
// its statements would be from the future, or too old. Set the clock.
var ErrClock = errors.New("the clock of this host is wrong")

const (
	// lookEvery is how often the clocks are compared.
	lookEvery = 5 * time.Second

	// readingLife is how long a reading of a clock counts. Within an hour no
	// clock drifts by a second; and a member that no path check and no sync of
	// an hour reached tells nothing.
	readingLife = time.Hour

	// clockPatience is how long a clock is off before the log says so: after a host
	// slept, readings are wrong until the next path checks.
	clockPatience = time.Minute
)

// clockView is what is known of the time.
type clockView struct {
	// offset is the median of the clocks, this host's included, compared with
	// this host's. Of two in the middle it is the one nearer to this host's: it
	// takes more than half of all clocks to say that ours is wrong.
	offset time.Duration
	// furthest is that of the clock furthest from ours.
	furthest time.Duration
	clocks   int // how many were compared
	agree    int // how many of them are within the tolerance of ours, ours included
}

// compareClocks makes a view of how far the others' clocks are ahead of ours.
func compareClocks(ahead []time.Duration) clockView {
	all := append(slices.Clone(ahead), 0)
	slices.Sort(all)
	view := clockView{offset: all[len(all)/2], clocks: len(all)}
	if below := all[(len(all)-1)/2]; below.Abs() < view.offset.Abs() {
		view.offset = below
	}
	for _, d := range all {
		if d.Abs() <= pki.Tolerance {
			view.agree++
		}
		if d.Abs() > view.furthest.Abs() {
			view.furthest = d
		}
	}
	return view
}

// isOff reports whether most clocks say that ours is wrong.
func (v clockView) isOff() bool { return v.offset.Abs() > pki.Tolerance }

// isSure reports whether more than half of the clocks say that ours is right.
func (v clockView) isSure() bool { return 2*v.agree > v.clocks }

// right is the view in a word.
func (v clockView) right() string {
	switch {
	case v.isOff():
		return "no"
	case v.isSure():
		return "yes"
	}
	return "unknown"
}

// clockLoop compares the clocks until the node closes.
func (n *Node) clockLoop() {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	watch := make(clockWatch)
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-ticker.C:
		}
		n.lookAtClocks(watch)
	}
}

// lookAtClocks compares the clocks, and says which are wrong: ours, or when ours is
// right, those of others.
func (n *Node) lookAtClocks(watch clockWatch) {
	names, ahead := n.readClocks()
	view := compareClocks(ahead)
	own := string(n.config.Identity.Name)
	switch {
	case view.isOff():
		watch.tell(n.logger, own, view.offset, "the clock of this host is wrong: set it; until then events may be refused, and a keeper here begins no epoch")
	case !view.isSure():
		watch.tell(n.logger, own, view.furthest, "clocks differ, and most of them do not agree with this host's: set them; until then a keeper here begins no epoch by itself")
	default:
		watch.right(n.logger, own)
	}
	for i, name := range names {
		if view.isSure() && ahead[i].Abs() > pki.Tolerance {
			watch.tell(n.logger, name, ahead[i], "the clock of a node is wrong: set it on that host")
		} else {
			watch.right(n.logger, name)
		}
	}
}

// clockWatch says once that a clock is wrong, and once that it is right again. It is
// about members, so it holds no more names than the roster.
type clockWatch map[string]*wrongClock

// wrongClock is since when a clock is off, and whether that was said.
type wrongClock struct {
	since time.Time
	told  bool
}

func (w clockWatch) tell(logger *slog.Logger, node string, offset time.Duration, what string) {
	clock := w[node]
	if clock == nil {
		clock = &wrongClock{since: time.Now()}
		w[node] = clock
	}
	if !clock.told && time.Since(clock.since) >= clockPatience {
		clock.told = true
		logger.Warn(what, slog.String("node", node), slog.Duration("offset", offset.Round(time.Second)))
	}
}

func (w clockWatch) right(logger *slog.Logger, node string) {
	if clock := w[node]; clock != nil {
		delete(w, node)
		if clock.told {
			logger.Info("the clock is right again", slog.String("node", node))
		}
	}
}

// readClocks lists how far the clocks of live members are ahead of ours.
func (n *Node) readClocks() (names []string, ahead []time.Duration) {
	for _, p := range n.livePeers() {
		if d, read := n.readClock(p); read {
			names, ahead = append(names, string(p.Name)), append(ahead, d)
		}
	}
	return names, ahead
}

// readClock is how far a member's clock is ahead of ours, if it was read within
// readingLife.
func (n *Node) readClock(p *guard.Peer) (ahead time.Duration, read bool) {
	seen := n.transport.Seen(p)
	return seen.Ahead, !seen.Read.IsZero() && time.Since(seen.Read) < readingLife
}

// clockNow compares the clocks. It is not kept: this host's may have been set since.
func (n *Node) clockNow() clockView {
	_, ahead := n.readClocks()
	return compareClocks(ahead)
}

// now is this host's clock.
func (n *Node) now() time.Time { return n.config.now() }

// clusterTime is this host's clock, or when that is wrong, what most clocks show. What
// keepers say is judged by it.
func (n *Node) clusterTime() time.Time {
	if view := n.clockNow(); view.isOff() {
		return n.now().Add(view.offset)
	}
	return n.now()
}

// needClock is ErrClock with the amount, when most clocks say that ours is wrong.
func (n *Node) needClock() error {
	view := n.clockNow()
	if !view.isOff() {
		return nil
	}
	return fmt.Errorf("%w: %d of %d clocks in the cluster are %v %s it; set it and try again", ErrClock,
		view.clocks-view.agree, view.clocks, view.offset.Abs().Round(time.Second), aheadOrBehind(view.offset))
}

func aheadOrBehind(offset time.Duration) string {
	if offset < 0 {
		return "behind"
	}
	return "ahead of"
}

// keepsTime reports whether a member's clock is near the cluster's time, as far as both
// are known: a keeper that is wrong about the time does not act.
func (n *Node) keepsTime(view clockView, p *guard.Peer) bool {
	ahead, read := n.readClock(p)
	return !read || !view.isSure() && !view.isOff() || (ahead-view.offset).Abs() <= pki.Tolerance
}
