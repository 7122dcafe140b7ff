package agent

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/secgossip/secgossip/handler"
)

// HandlerSettings are what a settings file says about one handler. What it leaves
// out is as for all handlers.
type HandlerSettings struct {
	Name        string   `yaml:"name"`
	On          textList `yaml:"on"`
	Run         string   `yaml:"run"`
	User        string   `yaml:"user"`
	Writable    []string `yaml:"writable"`
	Readable    []string `yaml:"readable"`
	Network     string   `yaml:"network"`
	Timeout     string   `yaml:"timeout"`
	Concurrency string   `yaml:"concurrency"`
	Queue       string   `yaml:"queue"`
	Memory      string   `yaml:"memory"`
	Processes   string   `yaml:"processes"`
	FileSize    string   `yaml:"file-size"`
	Input       string   `yaml:"input"`
	Idempotent  string   `yaml:"idempotent"`
	Sandbox     string   `yaml:"sandbox"`
}

// textList is a list of texts, or one text for a list of one.
type textList []string

// UnmarshalYAML implements yaml.Unmarshaler.
func (l *textList) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		*l = textList{node.Value}
		return nil
	}
	return node.Decode((*[]string)(l))
}

// maxHandlerName bounds what a handler is called, in bytes: it stands in a table.
const maxHandlerName = 64

// spec checks what is said about a handler. Its error joins every problem.
func (s HandlerSettings) spec() (handler.Spec, error) {
	spec := handler.Spec{Name: s.Name, Program: s.Run}
	own := handler.Settings{
		User: s.User, Writable: s.Writable, Readable: s.Readable,
		Input: handler.Input(s.Input), Sandbox: handler.Sandbox(s.Sandbox),
	}
	var problems []error
	note := func(key string, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", key, err))
		}
	}
	switch {
	case s.Run == "":
		note("run", errors.New("names no program"))
	case strings.ContainsRune(s.Run, 0):
		note("run", errors.New("a path cannot hold a zero byte"))
	}
	if len(s.Name) > maxHandlerName || strings.ContainsFunc(s.Name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		note("name", fmt.Errorf("%q: want up to %d letters, digits and signs of ASCII without spaces", s.Name, maxHandlerName))
	}
	if len(s.On) == 0 {
		s.On = textList{"*"}
	}
	for _, text := range s.On {
		for part := range strings.SplitSeq(text, ",") {
			filter, err := handler.ParseFilter(part)
			note("on", err)
			spec.Filters = append(spec.Filters, filter)
		}
	}
	var err error
	if s.Timeout != "" {
		own.Timeout, err = parseTimeout(s.Timeout)
		note("timeout", err)
	}
	own.Network, err = parseYes(s.Network)
	note("network", err)
	own.Idempotent, err = parseYes(s.Idempotent)
	note("idempotent", err)
	own.Concurrency, err = parseCount(s.Concurrency)
	note("concurrency", err)
	own.Queue, err = parseCount(s.Queue)
	note("queue", err)
	own.Processes, err = parseCount(s.Processes)
	note("processes", err)
	own.Memory, err = parseSize(s.Memory)
	note("memory", err)
	own.FileSize, err = parseSize(s.FileSize)
	note("file-size", err)
	problems = append(problems, own.Check())
	spec.Settings = own
	return spec, errors.Join(problems...)
}

// parseYes reads a choice. Only these two words: "on" and "true" are other words in
// other files.
func parseYes(s string) (bool, error) {
	switch s {
	case "", "no":
		return false, nil
	case "yes":
		return true, nil
	}
	return false, fmt.Errorf("%q: use yes or no", s)
}

// parseCount reads a number of things, 1 at least; nothing is the default.
func parseCount(s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q: want a number from 1 up", s)
	}
	return int(n), nil
}

// parseSize reads an amount of bytes with its unit; nothing is the default.
func parseSize(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	for unit, factor := range map[string]uint64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		number, ok := strings.CutSuffix(s, unit)
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(number, 10, 20); err == nil && n > 0 {
			return n * factor, nil
		}
	}
	return 0, fmt.Errorf("%q: want a number with its unit, such as 256MiB or 1GiB", s)
}

// handlerSettings are those of every handler that has none of its own.
func (s Settings) handlerSettings(timeout time.Duration) handler.Settings {
	return handler.Settings{
		User:     s.HandlerUser,
		Writable: s.HandlerWritable,
		Timeout:  timeout,
		Sandbox:  handler.Sandbox(s.HandlerSandbox),
	}
}
