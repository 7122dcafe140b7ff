package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/secgossip/secgossip/handler"
)

// Reloaded says what is other than before.
type Reloaded struct {
	Handlers handler.Changes
	Settings []string // of the agent, by their keys: tag, log-level
	Restart  []string // others that only a restart brings into force
}

// ReadAgainBy tells the agent how its settings are read again. Call it before
// anything can ask for that.
func (a *Agent) ReadAgainBy(read func() (Settings, error)) {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	a.reread = read
}

// ErrUnchanged says that a reload was refused and everything is as it was.
var ErrUnchanged = errors.New("nothing was changed")

// Reload reads settings, the node's certificate and credential and the trusted
// roots again, and uses them from now on: all of it, or, when anything does not
// read, belong or pass its checks, nothing.
func (a *Agent) Reload() (Reloaded, error) {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	identity, err := a.identity.Reread(time.Now())
	if err != nil {
		a.logger.Error("identity not read again: what was in use stays", "error", err)
		return Reloaded{}, fmt.Errorf("%w: %w", ErrUnchanged, err)
	}
	// Handlers are the last that can be refused, and then nothing has changed.
	settings, changes, err := a.reloadHandlers()
	if err != nil {
		a.logger.Error("settings not read again: what was in use stays", "error", err)
		return Reloaded{}, fmt.Errorf("%w: %w", ErrUnchanged, err)
	}
	out := Reloaded{Handlers: changes, Restart: otherSettings(a.settings, settings)}
	if err := identity.Use(); err != nil {
		a.logger.Error("identity not read again: what was in use stays", "error", err)
		return out, err
	}
	a.logger.Info("identity read again", "until", identity.Credential.NotAfter)
	problems := []error{a.use(settings, &out)}
	if err := a.node.Renew(identity.Raw); err != nil {
		a.logger.Error("identity is in use, and the cluster was not told: try again", "error", err)
		problems = append(problems, err)
	}
	out.log(a.logger)
	return out, errors.Join(problems...)
}

// reloadHandlers reads the settings and goes over to the handlers in them.
func (a *Agent) reloadHandlers() (Settings, handler.Changes, error) {
	settings := a.current
	if a.reread != nil {
		var err error
		if settings, err = a.reread(); err != nil {
			return settings, handler.Changes{}, err
		}
	}
	plan, err := settings.check()
	if err != nil {
		return settings, handler.Changes{}, err
	}
	if err := checkDescriptors(plan.runsAtOnce()); err != nil {
		return settings, handler.Changes{}, err
	}
	changes, err := a.runner.Reload(plan.handlers, settings.handlerSettings(plan.timeout))
	if err != nil {
		return settings, changes, handlerError(err)
	}
	return settings, changes, nil
}

// use brings the other settings into force. They were checked.
func (a *Agent) use(settings Settings, out *Reloaded) error {
	if level, err := parseLevel(settings.LogLevel); err == nil && level != a.level.Level() {
		a.level.Set(level)
		out.Settings = append(out.Settings, "log-level")
	}
	if !maps.Equal(a.current.Tags, settings.Tags) {
		if err := a.node.SetTags(settings.Tags); err != nil {
			return err
		}
		a.tags.Store(new(a.node.Tags()))
		out.Settings = append(out.Settings, "tag")
	}
	a.current = settings
	return nil
}

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

// live are the settings that Reload brings into force, by their fields.
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

// tagsNow are this node's tags.
func (a *Agent) tagsNow() map[string]string { return *a.tags.Load() }
