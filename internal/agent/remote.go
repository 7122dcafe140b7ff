package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/secgossip/secgossip/handler"
	"github.com/secgossip/secgossip/internal/link"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
	"github.com/secgossip/secgossip/secgossip"
)

// remote is the runner as the network process sees it. Nothing of it waits for the
// runner, but for what asks for an answer.
type remote struct {
	link *link.Link
	say  atomic.Pointer[func(handler.Answer)] // takes answers to queries; nil: nobody does yet

	asking chan struct{} // holds a token while nobody asks: answers are large

	mu        sync.Mutex
	asked     uint64 // the number of the latest question
	rereads   uint64 // and of the latest reload
	answer    *answer
	last      *answer // the latest about handlers
	answered  chan *answer
	reloading map[uint64]chan *link.Reloaded
	finding   map[uint64]chan *link.Discovered // one for each that asks: those who join
	finds     uint64                           // the number of the latest of them
	found     map[int]*link.Discovered         // the latest of each provider

	// What the runner was told already. Guarded by telling.
	telling     sync.Mutex
	trust       *pki.Trust
	revocations func() [][]byte
	issuers     [][]byte
	revoked     map[[sha256.Size]byte]bool
	lookedAt    time.Time
}

// answer is what the runner says when it is asked.
type answer struct {
	handlers []*link.Handler
	runs     []*link.Run
	report   *link.Report
}

func newRemote(l *link.Link) *remote {
	r := &remote{
		link: l, asking: make(chan struct{}, 1), last: &answer{report: new(link.Report)},
		reloading: make(map[uint64]chan *link.Reloaded),
		finding:   make(map[uint64]chan *link.Discovered), found: make(map[int]*link.Discovered), revoked: make(map[[sha256.Size]byte]bool),
	}
	r.asking <- struct{}{}
	return r
}

// know sets what an event's signature rests on, of which the runner is told first.
func (r *remote) know(trust *pki.Trust) { r.trust = trust }

// follow sets where revocations are.
func (r *remote) follow(revocations func() [][]byte) {
	r.telling.Lock()
	defer r.telling.Unlock()
	r.revocations = revocations
}

// members passes a member event on, in parts if it is about very many.
func (r *remote) members(kind string, members []secgossip.Member) error {
	for part := range slices.Chunk(members, link.MaxMembers) {
		m := &link.Members{Event: kind}
		for _, member := range part {
			m.Members = append(m.Members, link.Member{Name: member.Name, Addr: member.Endpoint.Addr().AsSlice(), Tags: member.Tags})
		}
		if err := r.link.Offer(m); err != nil {
			return err
		}
	}
	return nil
}

// epoch passes a step of an epoch's life on.
func (r *remote) epoch(e secgossip.EpochEvent) error {
	return r.link.Offer(&link.Epoch{Number: e.Number, Action: string(e.Action), Reason: e.Reason, Keeper: e.Keeper})
}

// user passes an event of a client on, behind what its signature rests on.
func (r *remote) user(e secgossip.Event) error {
	if err := r.tellTrust(time.Now()); err != nil {
		return err
	}
	signed := &link.Signed{Raw: e.Raw, Origin: e.Origin}
	if e.Size > 0 {
		signed.Payload = e.Payload
	}
	return r.link.Offer(signed)
}

// query passes a query of a client on, behind what its signature rests on. One answer
// comes back to answer.
func (r *remote) query(q secgossip.Query) error {
	if err := r.tellTrust(time.Now()); err != nil {
		return err
	}
	return r.link.Offer(&link.Query{Query: rpcauth.QueryID(q.ID).String(), Raw: q.Raw, Deadline: q.Deadline.UnixMilli()})
}

// tags says what this node's tags are from now on.
func (r *remote) tags(tags map[string]string) error { return r.link.Send(&link.Tags{Tags: tags}) }

// lookAgain is how often, while events come, the runner is told of new revocations.
const lookAgain = time.Second

func (r *remote) tellTrust(now time.Time) error {
	r.telling.Lock()
	defer r.telling.Unlock()
	if issuers := r.trust.Issuers(); !slices.EqualFunc(issuers, r.issuers, bytes.Equal) {
		for _, issuer := range issuers {
			if err := r.link.Send(&link.Issuer{Certificate: issuer}); err != nil {
				return err
			}
		}
		r.issuers = issuers
	}
	if r.revocations == nil || now.Sub(r.lookedAt) < lookAgain {
		return nil
	}
	r.lookedAt = now
	told := make(map[[sha256.Size]byte]bool)
	for pair := range slices.Chunk(r.revocations(), 2) {
		digest := sha256.Sum256(pair[0])
		told[digest] = true
		if r.revoked[digest] {
			continue
		}
		if err := r.link.Send(&link.Revocation{Statement: pair[0], Credential: pair[1]}); err != nil {
			return err
		}
	}
	r.revoked = told
	return nil
}

// askTime is how long an answer may take. The runner answers in a moment.
const askTime = 2 * time.Second

var errNoAnswer = errors.New("the runner of the agent did not answer in time; if the log does not say why, restart the agent")

// fares asks how handlers fare. A runner that does not say in time is described by what
// it said last.
func (r *remote) fares() *answer {
	a, err := r.ask(&link.Ask{Handler: -1})
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.last = a
	}
	return r.last
}

// ask asks, one question at a time.
func (r *remote) ask(question *link.Ask) (*answer, error) {
	limit := time.NewTimer(askTime)
	defer limit.Stop()
	select {
	case <-r.asking:
		defer func() { r.asking <- struct{}{} }()
	case <-limit.C:
		return nil, errNoAnswer
	}
	answered := make(chan *answer, 1)
	r.mu.Lock()
	r.asked++
	question.Ask = r.asked
	r.answer, r.answered = new(answer), answered
	r.mu.Unlock()
	if err := r.link.Send(question); err != nil {
		return nil, err
	}
	select {
	case a := <-answered:
		return a, nil
	case <-limit.C:
		return nil, errNoAnswer
	}
}

// reread asks for a reload and waits until it is over. The limit is for a runner that
// is stuck: of what takes time, it bounds every part.
func (r *remote) reread(ctx context.Context) (*link.Reloaded, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	over := make(chan *link.Reloaded, 1)
	r.mu.Lock()
	if len(r.reloading) >= maxReloads {
		r.mu.Unlock()
		return nil, errors.New("other reloads are on their way; try again")
	}
	r.rereads++
	number := r.rereads
	r.reloading[number] = over
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.reloading, number)
	}()
	if err := r.link.Send(&link.Reread{Ask: number}); err != nil {
		return nil, err
	}
	select {
	case m := <-over:
		return m, nil
	case <-ctx.Done():
		return nil, errNoAnswer
	}
}

// hear takes in what the runner tells.
func (r *remote) hear(m link.Message) {
	if a, ok := m.(*link.Answer); ok {
		if say := r.say.Load(); say != nil {
			(*say)(handler.Answer{QueryID: a.Query, Output: a.Output, Found: a.Found})
		}
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch m := m.(type) {
	case *link.Handler:
		if r.awaitsLocked(m.Ask) && len(r.answer.handlers) < link.MaxHandlers {
			r.answer.handlers = append(r.answer.handlers, m)
		}
	case *link.Run:
		if r.awaitsLocked(m.Ask) && len(r.answer.runs) < link.MaxRuns {
			r.answer.runs = append(r.answer.runs, m)
		}
	case *link.Report:
		if r.awaitsLocked(m.Ask) {
			r.answer.report = m
			r.answered <- r.answer
			r.answer = nil
		}
	case *link.Reloaded:
		if over, ok := r.reloading[m.Ask]; ok {
			delete(r.reloading, m.Ask)
			over <- m
		}
	case *link.Discovered:
		r.foundLocked(m)
	}
}

// awaitsLocked reports whether this is the question that is to be answered.
func (r *remote) awaitsLocked(ask uint64) bool { return r.answer != nil && ask == r.asked }

// validText makes text fit a message.
func validText(text string, most int) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "")
}

// validList makes names fit a message.
func validList(list []string) (out []string) {
	for _, text := range list[:min(len(list), link.MaxHandlers)] {
		out = append(out, validText(text, link.MaxName))
	}
	return out
}
