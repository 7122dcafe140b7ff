package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/secgossip/secgossip/internal/home"
)

// SettingsFile is the settings file of an agent, which is read at its start and again at
// every reload.
type SettingsFile struct {
	path     string
	optional bool // it need not exist

	said bool // whether it said anything when it was last in order
}

// NewSettingsFile is the file at path or, if that is empty, the one of the home, which
// need not exist.
func NewSettingsFile(at home.Home, path string) *SettingsFile {
	if path == "" {
		return &SettingsFile{path: at.Config(), optional: true}
	}
	return &SettingsFile{path: path}
}

// Read reads it for the start of an agent.
func (f *SettingsFile) Read() (Settings, error) {
	content, err := f.content()
	if err != nil {
		return Settings{}, err
	}
	return f.parse(content)
}

// Somebody may be writing the file while it is read again. What it holds counts once it
// has held it for settleTime.
const (
	settleTime  = 100 * time.Millisecond
	settleTries = 20
)

// Reread reads it for a reload. Half a file may be whole to YAML, without
// the handlers of the other half. So a file that changes, that says nothing any more or
// is gone is an error, and what was in use stays.
func (f *SettingsFile) Reread() (Settings, error) {
	before, err := f.content()
	for range settleTries {
		time.Sleep(settleTime)
		var now []byte
		now, err = f.content()
		if err == nil && bytes.Equal(before, now) {
			return f.settled(now)
		}
		before = now
	}
	if err == nil {
		err = fmt.Errorf("%s: it is being written; try again when that has ended", f.path)
	}
	return Settings{}, err
}

func (f *SettingsFile) settled(content []byte) (Settings, error) {
	if f.said && onlyRemarks.Match(content) {
		return Settings{}, fmt.Errorf("%s: it is empty or gone, and was not before; to take all handlers out, write `handlers: []`", f.path)
	}
	return f.parse(content)
}

func (f *SettingsFile) content() ([]byte, error) {
	content, err := readSettingsFile(f.path)
	if f.optional && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return content, err
}

func (f *SettingsFile) parse(content []byte) (Settings, error) {
	settings, err := parseSettings(content)
	if err != nil {
		return Settings{}, fmt.Errorf("%s: %w", f.path, err)
	}
	f.said = !onlyRemarks.Match(content)
	return settings, nil
}
