package agent

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/secgossip/secgossip/internal/discover"
	"github.com/secgossip/secgossip/internal/home"
)

// maxSettings bounds the settings file, in bytes.
const maxSettings = 1 << 20

// ReadSettings reads the settings file at path: see readSettingsFile. Unknown keys,
// repeated keys and values of the wrong type are all reported, each with its line.
func ReadSettings(path string) (Settings, error) {
	content, err := readSettingsFile(path)
	if err != nil {
		return Settings{}, err
	}
	settings, err := parseSettings(content)
	if err != nil {
		return Settings{}, fmt.Errorf("%s: %w", path, err)
	}
	return settings, nil
}

// readSettingsFile reads a file that decides which programs run, and so must be safe
// from others: see home.OpenTrusted.
func readSettingsFile(path string) ([]byte, error) {
	file, err := home.OpenTrusted(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxSettings+1))
	if err == nil && len(content) > maxSettings {
		err = fmt.Errorf("%s: larger than %d bytes", path, maxSettings)
	}
	if err != nil {
		return nil, err
	}
	return content, nil
}

// onlyRemarks matches a file that says nothing, which to yaml is no document.
var onlyRemarks = regexp.MustCompile(`^(\s*(#.*)?\n)*\s*(#.*)?$`)

// parseSettings reads settings from YAML. Nothing at all is no setting at all.
func parseSettings(content []byte) (Settings, error) {
	var settings Settings
	if onlyRemarks.Match(content) {
		return settings, nil
	}
	// Two readings, so that one kind of mistake does not hide the other.
	var keys map[string]any
	mistakes := mistakesOf(
		yaml.Load(content, &settings, yaml.WithKnownFields(), yaml.WithUniqueKeys(false)),
		yaml.Load(content, &keys, yaml.WithUniqueKeys()),
	)
	if len(mistakes) == 0 {
		return settings, nil
	}
	var lines []string
	for _, m := range mistakes {
		lines = append(lines, m.String())
	}
	return Settings{}, errors.New(strings.Join(lines, "\n"))
}

// mistake is one thing wrong with a settings file.
type mistake struct {
	line int // 0: not in one place
	what string
}

func (m mistake) String() string {
	if m.line == 0 {
		return m.what
	}
	return fmt.Sprintf("line %d: %s", m.line, m.what)
}

// mistakesOf sorts what the readings complain about by line and drops what both
// of them say.
func mistakesOf(errs ...error) []mistake {
	var all []mistake
	for _, err := range errs {
		var list *yaml.LoadErrors
		var one *yaml.LoadError
		switch {
		case err == nil:
		case errors.As(err, &list):
			for _, e := range list.Errors {
				all = append(all, mistake{e.Mark.Line, inOurWords(e.Message)})
			}
		case errors.As(err, &one):
			all = append(all, mistake{one.Mark.Line, inOurWords(one.Message)})
		default:
			all = append(all, mistake{0, err.Error()})
		}
	}
	slices.SortFunc(all, func(a, b mistake) int { return cmp.Or(a.line-b.line, strings.Compare(a.what, b.what)) })
	return slices.Compact(all)
}

var (
	unknownKey = regexp.MustCompile(`^field (.*) not found in type .*$`)
	wrongType  = regexp.MustCompile(`^cannot construct !!([a-z]+).* into ([^ ]+)( \{\})?$`)
)

// inOurWords says in the words of a settings file what yaml says in those of Go.
func inOurWords(text string) string {
	if m := unknownKey.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("unknown key %q", m[1])
	}
	if m := wrongType.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("want %s, found %s", wanted(m[2]), found(m[1]))
	}
	return strings.TrimPrefix(text, "yaml: ")
}

// wanted names a type of Settings.
func wanted(goType string) string {
	switch {
	case goType == "string":
		return "a text"
	case goType == "bool":
		return "true or false"
	case goType == "int":
		return "a whole number"
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	case strings.HasSuffix(goType, "HandlerSettings"):
		return "the settings of a handler, KEY: VALUE"
	case goType == "map[string]string":
		return "names with a text each"
	}
	return "settings, KEY: VALUE"
}

// found names a type of YAML.
func found(tag string) string {
	switch tag {
	case "seq":
		return "a list"
	case "map":
		return "keys with values"
	case "str":
		return "a text"
	case "null":
		return "nothing"
	}
	return "one value (" + tag + ")"
}

// ConfigFor writes a settings file for a new home: where others reach the node,
// and whom it joins. It is empty when there is nothing to say.
func ConfigFor(advertise, retryJoin []string) ([]byte, error) {
	if len(advertise) == 0 && len(retryJoin) == 0 {
		return nil, nil
	}
	for _, a := range advertise {
		if _, err := parseAdvertise(a); err != nil {
			return nil, err
		}
	}
	for _, place := range retryJoin {
		// Who issues an identity has no say in what another host runs.
		if _, _, ok := discover.Provider(place); ok {
			return nil, fmt.Errorf("%.64q: %w", place, discover.ErrNoPrograms)
		}
	}
	return yaml.Dump(struct {
		Advertise []string `yaml:"advertise,omitempty"`
		RetryJoin []string `yaml:"retry-join,omitempty"`
	}{advertise, retryJoin})
}

// Advertised is where a home's settings say that its node is reached.
func Advertised(at home.Home) ([]string, error) {
	settings, err := ReadSettings(at.Config())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return settings.Advertise, err
}

// UnlockOf is what the settings of a home say about its node's sealed files.
func UnlockOf(at home.Home) (home.Unlock, error) {
	settings, err := ReadSettings(at.Config())
	if errors.Is(err, fs.ErrNotExist) {
		return home.Unlock{}, nil
	}
	return settings.unlock(), err
}
