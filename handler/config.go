package handler

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"
)

// Sandbox says what to do on a machine that cannot confine handlers fully.
type Sandbox string

const (
	// Strict refuses to run handlers there. It is what "" means.
	Strict Sandbox = "strict"
	// Reduced runs them with the layers there are. Layers says which, and
	// never running as root is not one of those that can be missing.
	Reduced Sandbox = "reduced"
)

// DefaultTimeout is how long a handler may run if the settings do not say.
const DefaultTimeout = 30 * time.Second

// Settings are the operator's. The zero value is the strictest.
type Settings struct {
	// User runs the handlers of an agent that is root: a name or a number,
	// nobody by default. An agent that is not root can only name itself.
	User string

	// Writable are files and directories that handlers may write to. They
	// exist, and no part of their path is a symlink.
	Writable []string

	// Timeout is how long a run may take, 30 s by default.
	Timeout time.Duration

	Sandbox Sandbox
}

// Config is what a Runner is made of.
type Config struct {
	// Specs are the handlers. A handler's number is its place in Specs.
	Specs    []Spec
	Settings Settings

	// ScratchRoot is an existing directory for the runs' own directories,
	// os.TempDir() by default. The handler user must be able to pass
	// through it, so it cannot lie in a directory of mode 0700. A killed
	// agent leaves secgossip-run-* in it.
	ScratchRoot string

	// Private are existing directories and files that handlers must not read,
	// whatever their modes say: where the agent keeps its secrets. It matters
	// most to an agent that is not root, because its handlers share its user. A
	// program may lie in such a directory, but the files beside it cannot be read
	// then.
	Private []string

	// OnResult, if not nil, is called after each run from a goroutine of
	// that handler, whose next run waits for it to return. It must not call
	// Close.
	OnResult func(Result)

	// Logger is where the runs are logged, nowhere if nil.
	Logger *slog.Logger
}

// withDefaults fills in what was left out and makes every path absolute. Its
// error joins every setting that makes no sense on any machine.
func (c Config) withDefaults() (Config, error) {
	var problems []error
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Settings.Timeout == 0 {
		c.Settings.Timeout = DefaultTimeout
	}
	if c.Settings.Timeout < 0 {
		problems = append(problems, fmt.Errorf("handler timeout %v is negative", c.Settings.Timeout))
	}
	if c.Settings.Sandbox == "" {
		c.Settings.Sandbox = Strict
	}
	if s := c.Settings.Sandbox; s != Strict && s != Reduced {
		problems = append(problems, fmt.Errorf("sandbox %q: it is %q or %q", s, Strict, Reduced))
	}
	if c.ScratchRoot == "" {
		c.ScratchRoot = os.TempDir()
	}
	absolute := func(path string) string {
		full, err := filepath.Abs(path)
		if err != nil {
			problems = append(problems, fmt.Errorf("path %q: %w", path, err))
		}
		if !utf8.ValidString(path) {
			// The job is JSON, in which it would become another path.
			problems = append(problems, fmt.Errorf("path %q is not UTF-8", path))
		}
		return full
	}
	c.ScratchRoot = absolute(c.ScratchRoot)
	c.Settings.Writable = mapped(c.Settings.Writable, absolute)
	c.Private = mapped(c.Private, absolute)
	c.Specs = mapped(c.Specs, func(s Spec) Spec {
		s.Program = absolute(s.Program)
		return s
	})
	return c, errors.Join(problems...)
}

func mapped[T any](list []T, change func(T) T) []T {
	changed := make([]T, len(list))
	for i, item := range list {
		changed[i] = change(item)
	}
	return changed
}
