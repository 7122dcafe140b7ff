package secgossip

import (
	"log/slog"
	"sync"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
)

// quarantine is for members that were convicted: one has sealed for us what no honest
// member sends. It stays a member, and is probed, for whoever is broken into must still
// be seen to fail, to leave and to be revoked. But what it says about others is not
// believed here until it has been quiet for quarantineTime.
//
// Threat C20: a member that is caught lying goes on to have others suspected, and spreads
// what it likes about them.
type quarantine struct {
	mu    sync.Mutex
	until map[pki.Name]time.Time // of members, so there are no more than those
}

// quarantineTime is as long as an epoch is used: who watches has had time to evict.
const quarantineTime = time.Hour

func newQuarantine() *quarantine { return &quarantine{until: make(map[pki.Name]time.Time)} }

// holds reports whether a member is in quarantine.
func (q *quarantine) holds(name pki.Name) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	until, ok := q.until[name]
	return ok && time.Now().Before(until)
}

// begin puts a member into quarantine, or lets it stay for longer. It reports whether
// that is news.
func (q *quarantine) begin(name pki.Name) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	until, ok := q.until[name]
	q.until[name] = now.Add(quarantineTime)
	return !ok || !now.Before(until)
}

// end forgets a member.
func (q *quarantine) end(name pki.Name) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.until, name)
}

func (q *quarantine) size() int { return len(q.list()) }

// list says of each member in quarantine how long it stays there.
func (q *quarantine) list() map[string]string {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make(map[string]string)
	for name, until := range q.until {
		if left := time.Until(until); left > 0 {
			all[string(name)] = "for " + left.Round(time.Second).String()
		}
	}
	return all
}

// convicted hears of a member that has sent what no honest member sends. It runs where
// packets are received, and says so once.
func (n *Node) convicted(from *guard.Peer, err error) {
	if !n.quarantine.begin(from.Name) {
		return
	}
	n.counts.convictions.Add(1)
	n.logger.Error("a member has sent what no honest member sends: for an hour, what it says about others is not believed; look at its host, and evict it",
		slog.String("node", string(from.Name)), slog.Any("error", err))
	if m, ok := n.member(string(from.Name)); ok {
		n.notify(func(o Observer) { o.MemberEvent("member-quarantine", m) })
	}
}
