package handler

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"unicode/utf8"
)

// Config is what a Runner is made of.
type Config struct {
	// Specs are the handlers. A handler's number is its place in Specs.
	Specs []Spec
	// Settings are those of every handler that has none of its own.
	Settings Settings

	// ScratchRoot is an existing directory for the runs' own directories,
	// os.TempDir() by default. The handler user must be able to pass
	// through it, so it cannot lie in a directory of mode 0700. A killed
	// agent leaves secgossip-run-* in it, which the next one removes.
	ScratchRoot string

	// Private are existing directories and files that handlers must not read,
	// whatever their modes say: where the agent keeps its secrets. It matters
	// most to an agent that is not root, because its handlers share its user. A
	// program may lie in such a directory, but the files beside it cannot be read
	// then.
	Private []string

	// Journal remembers across restarts which runs were started, so that none is
	// started twice. Without one, whoever dispatches events must see to that.
	Journal Journal

	// UnfinishedDir is a directory of the agent alone, made when it is needed, where
	// the events of idempotent handlers are kept while they are run. Without one no
	// run is repeated after a crash: see Repeat.
	UnfinishedDir string

	// OnAnswer, if not nil, is called once for each query that was dispatched: with
	// the first output of a handler that exited with 0, or, when the last of them has
	// ended without any, with none. It must not block. What Dispatch has no handler for
	// it is told before Dispatch returns.
	OnAnswer func(Answer)

	// OnResult, if not nil, is called after each run from a goroutine of
	// that handler, whose next run waits for it to return. It must not call
	// Close.
	OnResult func(Result)

	// Logger is where the runs are logged, nowhere if nil.
	Logger *slog.Logger
}

// withDefaults fills in what was left out and makes every path absolute; each
// spec then holds all of its settings. Its error joins every setting that makes
// no sense on any machine.
func (c Config) withDefaults() (Config, error) {
	var problems []error
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
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
	complete := func(s Settings) Settings {
		s = s.withDefaults()
		s.Writable = mapped(s.Writable, absolute)
		s.Readable = mapped(s.Readable, absolute)
		if err := s.Check(); err != nil {
			problems = append(problems, err)
		}
		return s
	}
	c.ScratchRoot = absolute(c.ScratchRoot)
	c.Private = mapped(c.Private, absolute)
	common := c.Settings
	c.Settings = complete(common)
	names := make(map[string]bool)
	c.Specs = mapped(c.Specs, func(s Spec) Spec {
		s.Program = absolute(s.Program)
		s.Settings = complete(common.under(s.Settings))
		if s.Name != "" && names[s.Name] {
			problems = append(problems, fmt.Errorf("two handlers are called %q", s.Name))
		}
		names[s.Name] = true
		return s
	})
	return c, distinct(problems...)
}

// distinct joins problems and says each of them once: what is wrong with a
// setting of all handlers is found at every one of them.
func distinct(errs ...error) error {
	var problems []error
	seen := make(map[string]bool)
	var add func(error)
	add = func(err error) {
		if err == nil {
			return
		}
		if list, ok := err.(interface{ Unwrap() []error }); ok && isJoined(err, list.Unwrap()) {
			for _, err := range list.Unwrap() {
				add(err)
			}
			return
		}
		if text := err.Error(); !seen[text] {
			seen[text] = true
			problems = append(problems, err)
		}
	}
	for _, err := range errs {
		add(err)
	}
	return errors.Join(problems...)
}

// isJoined tells what errors.Join made from what fmt.Errorf made of several.
func isJoined(err error, list []error) bool { return errors.Join(list...).Error() == err.Error() }

func mapped[T any](list []T, change func(T) T) []T {
	changed := make([]T, len(list))
	for i, item := range list {
		changed[i] = change(item)
	}
	return changed
}
