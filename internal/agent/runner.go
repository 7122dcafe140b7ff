package agent

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/secgossip/secgossip/handler"
	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/internal/link"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
	"github.com/secgossip/secgossip/secgossip"
)

// runner runs handlers for what the network process reports. It opens no socket and
// holds no key but public ones.
type runner struct {
	home     home.Home
	account  account // the network process's
	public   *home.Public
	judge    *judge
	revoked  *secgossip.RevocationList
	handlers *handler.Runner
	asked    *providers
	started  runJournal
	link     atomic.Pointer[link.Link] // nil: not serving yet
	level    slog.LevelVar
	logger   *slog.Logger
	tags     map[string]string // for the goroutine of serve

	settings Settings                 // those it was started with
	current  Settings                 // those in force; for the goroutine that reloads, as what follows
	reread   func() (Settings, error) // nil: settings stay as they are
	number   uint64                   // of the latest reload
	reloads  chan uint64              // what asks for one
	answers  chan link.Message        // of the network process to its halves

	refused  uint64 // events and queries that were not believed
	lastWarn time.Time
}

// newRunner reads what the runner needs of a home, and checks and rehearses handlers.
func newRunner(at home.Home, settings Settings, plan plan, who account, log io.Writer) (*runner, error) {
	public, err := at.LoadPublic(time.Now())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	r := &runner{
		home: at, account: who, public: public, tags: settings.Tags, settings: settings, current: settings,
		revoked: secgossip.NewRevocationList(public.Trust, slog.New(slog.DiscardHandler)),
		reloads: make(chan uint64, maxReloads), answers: make(chan link.Message, 2),
	}
	r.level.Set(plan.level)
	r.logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: &r.level}))
	r.judge = newJudge(public.Trust, public.Name, r.since, time.Now)
	// It must be there before handlers are confined: they may read none of it.
	if err := at.MakeRunner(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	r.started.path, r.started.cluster = filepath.Join(at.Runner(), "runs.journal"), public.Trust.Cluster()
	r.handlers, err = handler.New(handler.Config{
		Specs:         plan.handlers,
		Settings:      settings.handlerSettings(plan.timeout),
		Private:       append(at.Private(), settings.unlock().Private()...),
		Journal:       &r.started,
		UnfinishedDir: filepath.Join(at.Runner(), "unfinished"),
		OnAnswer:      r.answer,
		Logger:        r.logger,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSetup, handlerError(err))
	}
	if r.asked, err = r.newProviders(plan.providers, settings); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrSetup, handlerError(err)), r.handlers.Close(context.Background()))
	}
	return r, nil
}

// since returns the time before which events are refused: what was run for them may be
// forgotten, unless the operator asks for them.
func (r *runner) since() time.Time {
	if r.settings.Replay {
		return time.Time{}
	}
	return r.started.since()
}

// errTold says that the network process asked for what no honest one asks for.
var errTold = errors.New("the network process of the agent said what it may not say")

// serve does what the network process asks for until that says how the agent ended, or
// is gone: then the error says why. running is called when the agent runs.
func (r *runner) serve(l *link.Link, running func()) (*link.Final, error) {
	r.link.Store(l)
	ctx, cancel := context.WithCancel(context.Background())
	var reloading sync.WaitGroup
	reloading.Go(func() { r.reloadAsked(ctx, l) })
	defer reloading.Wait()
	defer cancel()
	for {
		m, err := l.Receive()
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		if err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case *link.Running:
			running()
			r.begin()
		case *link.Signed:
			r.signed(m)
		case *link.Members:
			err = r.members(m)
		case *link.Epoch:
			err = r.epoch(m)
		case *link.Query:
			err = r.query(m)
		case *link.Issuer:
			// One that does not verify is nobody's: events that rest on it are refused.
			_, _ = r.public.Trust.AddIssuer(m.Certificate, time.Now())
		case *link.Revocation:
			r.revoked.Learn([][]byte{m.Statement, m.Credential})
		case *link.Tags:
			if err = secgossip.CheckTags(m.Tags); err != nil {
				err = fmt.Errorf("%w: %w", errTold, err)
			}
			r.tags = m.Tags
		case *link.Ask:
			err = r.report(l, m)
		case *link.Reread:
			if !r.askReload(m.Ask) {
				err = l.Send(&link.Reloaded{Ask: m.Ask, Problem: ErrUnchanged.Error() + ": other reloads are on their way; try again"})
			}
		case *link.Checked, *link.Applied:
			r.answered(m)
		case *link.Discover:
			err = r.discover(l, m)
		case *link.Final:
			return m, nil
		}
		if errors.Is(err, link.ErrClosed) {
			continue // the other end is gone: what it said last is still to be heard
		}
		if err != nil {
			return nil, err
		}
	}
}

// begin is called when everything else has started: from now on there are runs.
func (r *runner) begin() {
	if err := r.started.open(time.Now()); err != nil {
		r.logger.Error("no handler is run while the journal of runs cannot be opened", "error", err)
	} else if damaged := r.started.damaged(); damaged != nil {
		r.logger.Warn("the journal of runs is damaged and put aside as .bad: nothing is run for events from before this start", "error", damaged)
	}
	if err := r.handlers.Repeat(); err != nil {
		r.logger.Error("no run that was cut short is repeated", "error", err)
	}
}

// signed runs handlers for an event that holds.
func (r *runner) signed(m *link.Signed) {
	e, err := r.judge.event(m.Raw, m.Payload, r.tags)
	if err == nil && m.Origin != "" {
		_, err = pki.ParseName(m.Origin) // it becomes a variable of the handler's
	}
	if err != nil {
		r.refuse(err)
		return
	}
	event := r.eventOf(e)
	event.Origin = m.Origin
	r.handlers.Dispatch(event)
}

// refuse counts what does not hold.
func (r *runner) refuse(err error) {
	r.refused++
	// A line a second is enough to say so.
	if now := time.Now(); now.Sub(r.lastWarn) >= time.Second {
		r.lastWarn = now
		r.logger.Warn("no handler is run for an event", "error", err)
	}
}

func (r *runner) eventOf(e *rpcauth.Event) handler.Event {
	return handler.Event{
		Kind:      handler.KindUser,
		Name:      e.Name,
		LTime:     e.LTime,
		Payload:   e.Payload,
		Principal: string(e.Token.Subject),
		TokenID:   hex.EncodeToString(e.Token.ID[:]),
		EventID:   e.IDText(),
		Expires:   e.Expires,
		SelfName:  string(r.public.Name),
		SelfTags:  r.tags,
	}
}

// query runs handlers for a query that holds. The network process is told of the end by
// answer, or here that nobody answers.
func (r *runner) query(m *link.Query) error {
	q, err := r.judge.query(m.Raw, r.tags)
	if err == nil && q.ID.String() != m.Query {
		err = fmt.Errorf("query %q: told as another", q.Name)
	}
	if err != nil {
		r.refuse(err)
		return r.link.Load().Send(&link.Answer{Query: m.Query})
	}
	// The network process knows when the query came. It cannot make it last longer
	// than the client has said.
	deadline := r.judge.now().Add(q.Timeout)
	if told := time.UnixMilli(m.Deadline); told.Before(deadline) {
		deadline = told
	}
	r.handlers.Dispatch(handler.Event{
		Kind:      handler.KindQuery,
		Name:      q.Name,
		LTime:     q.LTime,
		Payload:   q.Payload,
		Principal: string(q.Token.Subject),
		TokenID:   hex.EncodeToString(q.Token.ID[:]),
		EventID:   q.ID.String(),
		Origin:    string(q.Origin),
		Expires:   q.Expires,
		Deadline:  deadline,
		SelfName:  string(r.public.Name),
		SelfTags:  r.tags,
	})
	return nil
}

// answer passes on what the handlers say to a query. An answer that finds no room is
// none: the query ends at its deadline.
func (r *runner) answer(a handler.Answer) {
	if l := r.link.Load(); l != nil {
		_ = l.Offer(&link.Answer{Query: a.QueryID, Output: a.Output, Found: a.Found})
	}
}

// members runs handlers for a member event. Nothing in it is signed: a network process
// that was broken into can make it up, as it can make up members.
func (r *runner) members(m *link.Members) error {
	kind := handler.Kind(m.Event)
	if !kind.OfMembers() {
		return fmt.Errorf("%w: a member event %q", errTold, m.Event)
	}
	e := handler.Event{Kind: kind, SelfName: string(r.public.Name), SelfTags: r.tags}
	for _, member := range m.Members {
		_, err := pki.ParseName(member.Name)
		if err = errors.Join(err, secgossip.CheckTags(member.Tags)); err != nil {
			return fmt.Errorf("%w: %w", errTold, err)
		}
		addr, _ := netip.AddrFromSlice(member.Addr) // none if it is not known
		e.Members = append(e.Members, handler.Member{Name: member.Name, Addr: addr, Role: member.Tags["role"], Tags: member.Tags})
	}
	if len(e.Members) == 0 {
		return fmt.Errorf("%w: a member event about nobody", errTold)
	}
	r.handlers.Dispatch(e)
	return nil
}

// epoch runs handlers for a step of an epoch's life. That is the network process's word
// too: the runner holds no epoch.
func (r *runner) epoch(m *link.Epoch) error {
	switch secgossip.EpochAction(m.Action) {
	case secgossip.EpochInstall, secgossip.EpochUse, secgossip.EpochRemove:
	default:
		return fmt.Errorf("%w: the step %q of an epoch", errTold, m.Action)
	}
	if m.Keeper != "" {
		if _, err := pki.ParseName(m.Keeper); err != nil {
			return fmt.Errorf("%w: %w", errTold, err)
		}
	}
	r.handlers.Dispatch(handler.Event{
		Kind:     handler.KindEpoch,
		Epoch:    handler.Epoch{Number: m.Number, Action: m.Action, Reason: m.Reason, Keeper: m.Keeper},
		SelfName: string(r.public.Name),
		SelfTags: r.tags,
	})
	return nil
}

// report answers what the network process asks.
func (r *runner) report(l *link.Link, ask *link.Ask) error {
	var messages []link.Message
	if ask.Runs > 0 {
		for _, run := range r.runs(ask) {
			messages = append(messages, run)
		}
	} else {
		for _, s := range r.handlers.Stats() {
			if s.Handler < link.MaxHandlers {
				messages = append(messages, handlerMessage(s, ask.Ask))
			}
		}
	}
	end := &link.Report{Ask: ask.Ask, Refused: r.refused}
	for _, m := range append(messages, end) {
		if err := l.Send(m); err != nil {
			return err
		}
	}
	return nil
}

func handlerMessage(s handler.Stats, ask uint64) *link.Handler {
	m := &link.Handler{
		Ask: ask, Number: s.Handler, Spec: validText(s.Spec.String(), link.MaxText), Title: validText(s.Title(), link.MaxText),
		Program: validText(s.Spec.Program, link.MaxText), User: validText(runsAs(s.Spec.Settings.User), link.MaxName),
		Running: s.Running, Waiting: s.Waiting, Runs: s.Runs, Failures: s.Failures, Dropped: s.Dropped, BySpare: s.BySpare,
		Degraded: validText(s.Degraded, link.MaxText), Layers: layerMessages(s.Layers),
	}
	for _, filter := range s.Spec.Filters {
		m.Filters = append(m.Filters, filter.String())
	}
	m.Filters = validList(m.Filters[:min(len(m.Filters), link.MaxName)])
	if !s.Last.IsZero() {
		m.Last = s.Last.UnixMicro()
	}
	return m
}

func layerMessages(layers []handler.Layer) (out []link.Layer) {
	for _, layer := range layers {
		out = append(out, link.Layer{
			Name: validText(layer.Name, link.MaxName), Enforced: layer.Enforced, Detail: validText(layer.Detail, link.MaxDetail),
		})
	}
	return out
}

// runsAs is who runs a handler, empty for the agent's own user.
func runsAs(user string) string {
	if user == "" && os.Geteuid() == 0 {
		return DefaultHandlerUser
	}
	return user
}

// runs are the latest that are asked for, newest first.
func (r *runner) runs(ask *link.Ask) (list []*link.Run) {
	results := r.handlers.History()
	for i := len(results) - 1; i >= 0 && len(list) < ask.Runs; i-- {
		res := results[i]
		if ask.EventID != "" && !strings.EqualFold(ask.EventID, res.Event.EventID) || ask.Handler >= 0 && ask.Handler != res.Handler {
			continue
		}
		list = append(list, runMessage(res, ask.Ask))
	}
	return list
}

func runMessage(res handler.Result, ask uint64) *link.Run {
	m := &link.Run{
		Ask: ask, Handler: res.Handler, Program: validText(res.Program, link.MaxText),
		Event: string(res.Event.Kind), Name: validText(res.Event.Name, link.MaxName),
		EventID: res.Event.EventID, Principal: res.Event.Principal,
		Started: res.Started, ExitCode: res.ExitCode,
		Begin: res.Begin.UnixMicro(), Duration: max(0, res.Duration.Microseconds()),
		Stdout: res.Stdout.Bytes(), StdoutOmitted: res.Stdout.Omitted,
		Stderr: res.Stderr.Bytes(), StderrOmitted: res.Stderr.Omitted,
	}
	if res.Err != nil {
		m.Problem = validText(res.Err.Error(), link.MaxText)
	}
	return m
}

// close ends what runs.
func (r *runner) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	r.asked.end() // they die while handlers do
	return errors.Join(r.handlers.Close(ctx), r.asked.close(ctx), r.started.close())
}
