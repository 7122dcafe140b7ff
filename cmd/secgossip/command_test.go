package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commands returns every command of the program by its path, hidden ones too.
func commands() map[string]*cobra.Command {
	all := make(map[string]*cobra.Command)
	var add func(*cobra.Command)
	add = func(cmd *cobra.Command) {
		all[cmd.CommandPath()] = cmd
		for _, below := range cmd.Commands() {
			add(below)
		}
	}
	add(newRootCmd(new(env)))
	return all
}

func TestHelpOfEveryCommandShowsAnExampleThatParses(t *testing.T) {
	if n := len(commands()); n < 15 {
		t.Fatalf("got %d commands: this is not the program", n)
	}
	for path, cmd := range commands() {
		t.Run(path, func(t *testing.T) {
			line, ok := strings.CutPrefix(cmd.Example, "  secgossip ")
			if !ok {
				t.Fatalf("the example is %q, want a line with a command", cmd.Example)
			}
			words := strings.Fields(strings.ReplaceAll(line, "'", ""))
			found, rest, err := newRootCmd(new(env)).Find(words)
			if err != nil {
				t.Fatal(err)
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s: %v", cmd.Example, err)
			}
			if err := found.ValidateArgs(found.Flags().Args()); err != nil {
				t.Errorf("%s: %v", cmd.Example, err)
			}
			if !cmd.HasSubCommands() && found.CommandPath() != path && path != "secgossip keygen" {
				t.Errorf("the example of %s is one of %s", path, found.CommandPath())
			}
			var stdout, stderr bytes.Buffer
			args := append(strings.Fields(path)[1:], "--help")
			if code := run(args, strings.NewReader(""), &stdout, &stderr); code != exitDone || !strings.Contains(stdout.String(), cmd.Example) {
				t.Errorf("--help: exit code %d, %q on stderr, and on stdout\n%s", code, &stderr, &stdout)
			}
		})
	}
}

// secretWords are in no name of a flag: what a flag takes, others can read.
var secretWords = regexp.MustCompile(`(?i)pass|secret|token|key|credential|encrypt|auth|insecure|skip|plain`)

func TestNoFlagTakesASecretOrWeakensACheck(t *testing.T) {
	for path, cmd := range commands() {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !strings.HasSuffix(f.Name, "passphrase-file") && f.Name != "keyring" && f.Name != "skip-leave-on-interrupt" && secretWords.MatchString(f.Name) {
				t.Errorf("%s has the flag --%s", path, f.Name)
			}
			if f.Shorthand != "" {
				t.Errorf("%s has -%s for --%s: no document names it", path, f.Shorthand, f.Name)
			}
		})
	}
}

func TestHelpSpeaksOfNoSecretToGive(t *testing.T) {
	for path, cmd := range commands() {
		var out bytes.Buffer
		cmd.SetOut(&out)
		if err := cmd.Usage(); err != nil {
			t.Fatal(err)
		}
		if m := regexp.MustCompile(`(?i)--(passphrase|password|token|key|secret)\b[^-]`).FindString(out.String()); m != "" {
			t.Errorf("the help of %s mentions %q", path, m)
		}
	}
}

func TestTagFlags(t *testing.T) {
	tags, err := parseTags("--tag", []string{"role=web", "empty=", "eq=a=b"})
	if err != nil || len(tags) != 3 || tags["eq"] != "a=b" {
		t.Errorf("got %v, %v, want three tags", tags, err)
	}
	_, err = parseTags("--tag", []string{"a=1", "=x", "a=2", "none", ""})
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("got %v, want four mistakes at once", err)
	}
}

func TestUnprintableTextFromTheNetworkIsEscaped(t *testing.T) {
	for text, want := range map[string]string{
		"web-1":           "web-1",
		"größe":           "größe",
		"\x1b[2Jweb":      `"\x1b[2Jweb"`,
		"a\tb":            `"a\tb"`,
		"a\nb":            `"a\nb"`,
		"\u202ebew":       `"\u202ebew"`, // turns the line around
		"a\u00a0b":        `"a\u00a0b"`,
		"\xff":            `"\xff"`,
		"\u200b":          `"\u200b"`,
		"":                "",
		"with \"quotes\"": `with "quotes"`,
	} {
		if got := safe(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	if got, want := safeLines("one\n\x1btwo"), "one\n  \"\\x1btwo\""; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Neither in an error nor in its hint does a name reach the terminal as it is.
func TestErrorsAreEscapedForTheTerminal(t *testing.T) {
	dir := t.TempDir() + "/\x1b[2J"
	if err := os.Mkdir(dir+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--home", dir, "members"}, {"--home", dir, "init", "--cluster", "demo", "--node", "a"}, {"\x1b[2J"}, {"--\x1b[2J"},
		{"members", "--tag", "\x1b[2J"}, {"event", "\x1b[2J", "--home", dir},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(args, strings.NewReader(""), &stdout, &stderr); code == exitDone {
			t.Errorf("%q: exit code 0", args)
		}
		if strings.ContainsRune(stderr.String(), 0x1b) || stderr.Len() == 0 {
			t.Errorf("%q: wrote %q", args, &stderr)
		}
	}
}

func TestPayloadsAreShownOnOneLine(t *testing.T) {
	for payload, want := range map[string]string{
		"v1.2.3": "v1.2.3", "two\nlines": "74776f0a6c696e6573", "": "",
		"\x1b" + strings.Repeat("x", 40): "1b" + strings.Repeat("78", 31) + "…",
	} {
		if got := payloadText([]byte(payload)); got != want {
			t.Errorf("%q: got %s, want %s", payload, got, want)
		}
	}
}

func TestMemberFiltersMatchFromEndToEnd(t *testing.T) {
	for expression, want := range map[string]bool{
		"": true, "web-1": true, "web.*": true, "web": false, "eb-1": false, "web|x": false, "x|web-1": true, "(?i)WEB-1": true,
	} {
		re, err := wholeMatch("--name", expression)
		if err != nil || re.MatchString("web-1") != want {
			t.Errorf("%q matches web-1: %v, want %t", expression, err, want)
		}
	}
}

func TestAPassphraseThatDoesNotComeIsNotWaitedForAfterASignal(t *testing.T) {
	silent, keepOpen := io.Pipe()
	defer keepOpen.Close()
	ctx, signal := context.WithCancel(t.Context())
	signal()
	e := &env{stdin: silent}
	if _, err := e.passphrase(ctx, "-", ""); err == nil || exitCode(err) != exitFailed {
		t.Errorf("got %v, want to be interrupted", err)
	}
}

func TestPassphrasesAreTheFirstLine(t *testing.T) {
	for text, want := range map[string]string{
		"one": "one", "one\n": "one", "one\r\n": "one", "one\ntwo\n": "one", " one \n": " one ", "": "", "\n": "",
	} {
		if got, err := readPassphrase(strings.NewReader(text)); err != nil || string(got) != want {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
	if _, err := readPassphrase(strings.NewReader(strings.Repeat("x", maxPassphrase+1))); exitCode(err) != exitUsage {
		t.Errorf("one that is too long: got %v, want a usage error", err)
	}
}
