package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/user"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/secgossip/secgossip/handler"
	"github.com/secgossip/secgossip/internal/link"
)

// Reloaded says what is other than before.
type Reloaded struct {
	Handlers handler.Changes
	Settings []string // of the agent, by their keys: tag, log-level
	Restart  []string // others that only a restart brings into force
}

// ErrUnchanged says that a reload was refused and everything is as it was.
var ErrUnchanged = errors.New("nothing was changed")

// A reload is slow where handlers are rehearsed, and where the cluster is told of other
// tags. Neither half of the network process's part takes longer than a few seconds.
const (
	checkTime = 10 * time.Second
	applyTime = 20 * time.Second
)

// maxReloads is how many reloads wait for the one that is on its way.
const maxReloads = 8

// bySignal is the number of a reload that no client asked for.
const bySignal = 0

// askReload queues a reload. It reports whether there was room.
func (r *runner) askReload(ask uint64) bool {
	select {
	case r.reloads <- ask:
		return true
	default:
		return false
	}
}

// reloadAsked reloads whenever that is asked for, until ctx ends.
func (r *runner) reloadAsked(ctx context.Context, l *link.Link) {
	for {
		select {
		case <-ctx.Done():
			return
		case ask := <-r.reloads:
			out, err := r.reload(ctx, l)
			out.log(r.logger)
			if ask == bySignal {
				continue
			}
			if err := l.Send(out.message(ask, err)); err != nil && !errors.Is(err, link.ErrClosed) {
				r.logger.Error("reload not answered", "error", err)
			}
		}
	}
}

// reload reads settings, the node's certificate and credential and the trusted roots
// again, for both processes: all of it is used from now on or, when anything does not
// read, belong or pass the checks of either process, nothing.
func (r *runner) reload(ctx context.Context, l *link.Link) (Reloaded, error) {
	unchanged := func(what string, err error) (Reloaded, error) {
		r.logger.Error(what+" not read again: what was in use stays", "error", err)
		return Reloaded{}, fmt.Errorf("%w: %w", ErrUnchanged, err)
	}
	settings := r.current
	if r.reread != nil {
		var err error
		if settings, err = r.reread(); err != nil {
			return unchanged("settings", err)
		}
	}
	plan, err := settings.check()
	if err != nil {
		return unchanged("settings", err)
	}
	if err := errors.Join(checkDescriptors(plan.runsAtOnce()), r.account.apartFrom(settings, plan)); err != nil {
		return unchanged("settings", err)
	}
	files, err := r.home.ReadFiles()
	if err != nil {
		return unchanged("identity", err)
	}
	use, err := r.public.Reread(r.home, files, time.Now())
	if err != nil {
		return unchanged("identity", err)
	}
	text, err := settings.forNetwork()
	if err != nil {
		return unchanged("settings", err)
	}
	r.number++
	m, err := r.exchange(ctx, l, r.number, checkTime, &link.Check{
		Number: r.number, Settings: text, Bundle: files.Bundle, Certificate: files.Certificate, Credential: files.Credential,
	})
	if answer, ok := m.(*link.Checked); err == nil && (!ok || answer.Problem != "") {
		err = errTold
		if ok {
			err = &said{answer.Problem, answer.Hint}
		}
	}
	if err != nil {
		return unchanged("identity", errors.Join(err, l.Send(&link.Apply{Number: r.number})))
	}
	// Handlers are the last that can be refused, and then nothing has changed.
	changes, err := r.handlers.Reload(plan.handlers, settings.handlerSettings(plan.timeout))
	if err != nil {
		return unchanged("settings", errors.Join(handlerError(err), l.Send(&link.Apply{Number: r.number})))
	}
	out := Reloaded{Handlers: changes, Restart: otherSettings(r.settings, settings)}
	r.level.Set(plan.level)
	r.current = settings
	problems := []error{use()}
	m, err = r.exchange(ctx, l, r.number, applyTime, &link.Apply{Number: r.number, Use: true})
	answer, ok := m.(*link.Applied)
	switch {
	case err != nil:
	case !ok:
		err = errTold
	default:
		out.Settings = answer.Settings
		if answer.Problem != "" {
			err = errors.New(answer.Problem)
		}
	}
	if err = errors.Join(append(problems, err)...); err != nil {
		r.logger.Error("not everything that was read again is in use: try again", "error", err)
	}
	return out, err
}

// exchange sends a half of a reload and waits for the answer to it.
func (r *runner) exchange(ctx context.Context, l *link.Link, number uint64, limit time.Duration, m link.Message) (link.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := l.Send(m); err != nil {
		return nil, err
	}
	for {
		select {
		case <-ctx.Done():
			return nil, errors.New("the network process of the agent did not answer in time; if the log does not say why, restart the agent")
		case answer := <-r.answers:
			// Others answer what nobody waits for any more.
			if numberOf(answer) == number {
				return answer, nil
			}
		}
	}
}

func numberOf(m link.Message) uint64 {
	switch m := m.(type) {
	case *link.Checked:
		return m.Number
	case *link.Applied:
		return m.Number
	}
	return 0
}

// answered takes in an answer. There is never more than one that somebody waits for; a
// network process that sends more loses them.
func (r *runner) answered(m link.Message) {
	select {
	case r.answers <- m:
	default:
	}
}

// said is an error of the other process with its hint.
type said struct{ problem, hint string }

func (e *said) Error() string { return e.problem }
func (e *said) Hint() string  { return e.hint }

// log says what is other than before.
func (r Reloaded) log(logger *slog.Logger) {
	for _, change := range []struct {
		what  string
		names []string
	}{{"handler added", r.Handlers.Added}, {"handler removed", r.Handlers.Removed}, {"handler changed", r.Handlers.Changed}} {
		for _, name := range change.names {
			logger.Info(change.what, "handler", name)
		}
	}
	if len(r.Settings) > 0 {
		logger.Info("settings changed", "settings", strings.Join(r.Settings, " "))
	}
	if len(r.Restart) > 0 {
		logger.Warn("settings are others than at the start, and only a restart brings them into force", "settings", strings.Join(r.Restart, " "))
	}
}

// message is what a client is told.
func (r Reloaded) message(ask uint64, err error) *link.Reloaded {
	m := &link.Reloaded{
		Ask: ask, Added: validList(r.Handlers.Added), Removed: validList(r.Handlers.Removed), Changed: validList(r.Handlers.Changed),
		Settings: r.Settings, Restart: r.Restart,
	}
	if err != nil {
		m.Problem = validText(err.Error(), link.MaxText)
	}
	return m
}

// live are the settings that a reload brings into force, by their fields.
var live = []string{
	"Tags", "LogLevel", "EventHandlers", "HandlerWritable", "HandlerUser", "HandlerTimeout", "HandlerSandbox", "Handlers",
}

// otherSettings are the keys of all others in which two settings differ.
func otherSettings(before, now Settings) (keys []string) {
	x, y := reflect.ValueOf(before), reflect.ValueOf(now)
	for i := range x.NumField() {
		field := x.Type().Field(i)
		if slices.Contains(live, field.Name) || x.Field(i).Kind() == reflect.Slice && x.Field(i).Len()+y.Field(i).Len() == 0 {
			continue
		}
		if !reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()) {
			keys = append(keys, field.Tag.Get("yaml"))
		}
	}
	return keys
}

// apartFrom refuses settings by which a handler or a provider would run as the user of
// the network process. What else is wrong with a handler's user, its own check says.
func (who account) apartFrom(settings Settings, plan plan) error {
	if !who.switched {
		return nil
	}
	usual := cmp.Or(settings.HandlerUser, DefaultHandlerUser)
	var names []string
	if len(plan.providers) > 0 {
		names = append(names, usual)
	}
	for _, spec := range plan.handlers {
		names = append(names, cmp.Or(spec.Settings.User, usual))
	}
	for _, name := range names {
		account, err := user.Lookup(name)
		if err != nil {
			account, err = user.LookupId(name)
		}
		if err == nil && account.Uid == strconv.Itoa(who.uid) {
			return fmt.Errorf("user %q of a handler is the agent's too: it could reach the agent; name another as handler-user, as the handler's own user, or as agent-user", name)
		}
	}
	return nil
}
