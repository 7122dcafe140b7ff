package agent

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/internal/link"
)

// checked is what the runner has sent to be used and the network process has found in
// order. Nobody uses it yet.
type checked struct {
	number   uint64
	settings Settings
	identity *home.Fresh
}

// check is the network process's part of the first half of a reload: it says what is
// wrong with what the runner has read, and changes nothing.
func (a *Agent) check(c *link.Check) error {
	a.checked = nil
	settings, err := settingsFrom(c.Settings)
	if err != nil {
		return err
	}
	if err := settings.Check(); err != nil {
		return err
	}
	files := home.Files{Bundle: c.Bundle, Certificate: c.Certificate, Credential: c.Credential}
	identity, err := a.identity.Reread(files, time.Now())
	if err != nil {
		return err
	}
	a.checked = &checked{c.Number, settings, identity}
	return nil
}

// apply is its part of the second half. It says which settings are others than before.
func (a *Agent) apply(number uint64) (changed []string, err error) {
	next := a.checked
	a.checked = nil
	if next == nil || next.number != number {
		return nil, errors.New("internal error: nothing of that number was checked")
	}
	if err := next.identity.Use(); err != nil {
		return nil, err
	}
	a.logger.Info("identity read again", "until", next.identity.Credential.NotAfter)
	changed, err = a.use(next.settings)
	if renewErr := a.node.Renew(next.identity.Raw); renewErr != nil {
		a.logger.Error("identity is in use, and the cluster was not told: try again", "error", renewErr)
		err = errors.Join(err, renewErr)
	}
	return changed, err
}

// use brings settings into force that can change while the agent runs. They were
// checked.
func (a *Agent) use(settings Settings) (changed []string, err error) {
	if level, err := parseLevel(settings.LogLevel); err == nil && level != a.level.Level() {
		a.level.Set(level)
		changed = append(changed, "log-level")
	}
	a.retagging.Lock()
	defer a.retagging.Unlock()
	if !maps.Equal(a.tagged, settings.Tags) {
		if err := a.node.SetTags(settings.Tags); err != nil {
			return changed, err
		}
		a.tagged = settings.Tags
		// What was set at runtime stands over it.
		if err := a.setTags(a.node.Tags()); err != nil {
			return changed, err
		}
		changed = append(changed, "tag")
	}
	return changed, nil
}

// setTags notes this node's tags, for streams and for the runner.
func (a *Agent) setTags(tags map[string]string) error {
	a.tags.Store(&tags)
	if err := a.runner.tags(tags); err != nil {
		return fmt.Errorf("telling the runner of other tags: %w", err)
	}
	return nil
}

// tagsNow are this node's tags.
func (a *Agent) tagsNow() map[string]string { return *a.tags.Load() }
