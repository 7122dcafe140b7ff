package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v4"

	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/keyring"
)

// folder is one in which nobody else can write, whatever the umask.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestSettingsOnTopReplaceValuesAndAddToLists(t *testing.T) {
	base := DefaultSettings()
	base.Join = []string{"a"}
	base.EventHandlers = []string{"one"}
	base.Tags = map[string]string{"role": "web", "zone": "1"}
	over := Settings{
		Bind: "127.0.0.1", Profile: "wan", HandlerUser: "deploy",
		Advertise: []string{"192.0.2.1"}, Join: []string{"b"}, RetryJoin: []string{"c"},
		EventHandlers: []string{"two"}, HandlerWritable: []string{"w"},
		Tags: map[string]string{"zone": "2", "rack": "3"},
	}
	want := Settings{
		Bind: "127.0.0.1", RPCAddr: "127.0.0.1:7373", Profile: "wan", LogLevel: "info",
		HandlerUser: "deploy", RotateEvery: "1h", HandlerTimeout: "30s", HandlerSandbox: "strict", Keyring: "disk",
		RetryInterval: "15s", ReconnectTimeout: "24h", TombstoneTimeout: "24h",
		Advertise: []string{"192.0.2.1"}, Join: []string{"a", "b"}, RetryJoin: []string{"c"},
		EventHandlers: []string{"one", "two"}, HandlerWritable: []string{"w"},
		Tags: map[string]string{"role": "web", "zone": "2", "rack": "3"},
	}
	if diff := cmp.Diff(want, base.Merge(over)); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
	if base.Tags["zone"] != "1" || !slices.Equal(base.Join, []string{"a"}) {
		t.Errorf("the settings below were changed: %v, %v", base.Tags, base.Join)
	}
}

func TestNothingOnTopChangesNothing(t *testing.T) {
	base := DefaultSettings()
	base.Join, base.Tags = []string{"a"}, map[string]string{"role": "web"}
	if diff := cmp.Diff(base, base.Merge(Settings{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
}

// A flag that names one way to open the files takes the place of a setting that
// names the other: both together would be none.
func TestOneWayToUnlockReplacesTheOther(t *testing.T) {
	base := Settings{UnlockPassphraseFile: "a"}
	if got, want := base.Merge(Settings{UnlockIdentityFile: "b"}).unlock(), (home.Unlock{IdentityFile: "b"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := base.Merge(Settings{}).unlock(), (home.Unlock{PassphraseFile: "a"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestDefaultsAreInOrder(t *testing.T) {
	if err := DefaultSettings().Check(); err != nil {
		t.Errorf("got %v, want no problem", err)
	}
	if err := DefaultSettings().Merge(Settings{}).Check(); err != nil {
		t.Errorf("got %v, want no problem", err)
	}
}

func TestMistakesInAFileAreAllReportedWithTheirLines(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"unknown key", "encrypt: true", []string{`line 1: unknown key "encrypt"`}},
		{"case matters", "Bind: 127.0.0.1", []string{`line 1: unknown key "Bind"`}},
		{"unknown keys, in the order of the file", "z: 1\n" + strings.Repeat("\n", 8) + "y: 1\nx: 1\n",
			[]string{`line 1: unknown key "z"`, `line 10: unknown key "y"`, `line 11: unknown key "x"`}},
		{"twice", "bind: 127.0.0.1\nprofile: lan\nbind: ::1", []string{`line 3: mapping key "bind" already defined at line 1`}},
		{"twice below", "tag:\n  a: 1\n  a: 2", []string{`line 3: mapping key "a" already defined at line 2`}},
		{"unknown and twice", "x: 1\nx: 2", []string{
			`line 1: unknown key "x"`, `line 2: mapping key "x" already defined at line 1`, `line 2: unknown key "x"`}},
		{"list for a text", "bind: [a]", []string{"line 1: want a text, found a list"}},
		{"map for a text", "bind: {a: b}", []string{"line 1: want a text, found keys with values"}},
		{"text for a list", "join: 192.0.2.1", []string{"line 1: want a list, found a text"}},
		{"number for a list", "join: 1", []string{"line 1: want a list, found one value (int)"}},
		{"list for names", "tag: [a]", []string{"line 1: want names with a text each, found a list"}},
		{"list in a list", "join: [[a]]", []string{"line 1: want a text, found a list"}},
		{"list in names", "tag: {a: [b]}", []string{"line 1: want a text, found a list"}},
		{"all kinds", "bind: [1]\nfoo: 1\nbind: x\njoin: a\n", []string{
			"line 1: want a text, found a list", `line 2: unknown key "foo"`,
			`line 3: mapping key "bind" already defined at line 1`, "line 4: want a list, found a text"}},
		{"a list", "- bind", []string{"line 1: want settings, KEY: VALUE, found a list"}},
		{"a text", "bind", []string{"line 1: want settings, KEY: VALUE, found a text"}},
		{"a key that rings", "\"\\a\": 1", []string{`line 1: unknown key "\a"`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseSettings([]byte(test.text))
			if err == nil {
				t.Fatal("got no error")
			}
			if diff := cmp.Diff(test.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("mistakes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTextThatIsNoYAMLIsRefused(t *testing.T) {
	for _, text := range []string{
		"join: [", "\tbind: a", "bind: a\n---\nbind: b", "a: *b", "\x00", "bind: \"", "{", "!!x",
		strings.Repeat("[", 100_000), "bind: \xff", "a: &a [*a]",
		"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n" +
			"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n" +
			"g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n",
	} {
		if got, err := parseSettings([]byte(text)); err == nil {
			t.Errorf("%.40q: got %+v, want an error", text, got)
		}
	}
}

func TestAnEmptyFileIsNoSetting(t *testing.T) {
	for _, text := range []string{"", " \n\n", "# a remark\n", "---\n", "{}", "null", "bind:\njoin: []\ntag: {}\n"} {
		got, err := parseSettings([]byte(text))
		if diff := cmp.Diff(Settings{}, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got):\n%s", text, err, diff)
		}
	}
}

// Every setting has its flag, and a file can say all that flags can.
func TestEverySettingCanBeSaidInAFile(t *testing.T) {
	want := Settings{
		Bind: "127.0.0.1:1", Advertise: []string{"192.0.2.1", "2001:db8::1"}, RPCAddr: "127.0.0.1:2",
		Join: []string{"a"}, RetryJoin: []string{"b", "c"}, Tags: map[string]string{"role": "web", "n": "1"},
		Profile: "wan", LogLevel: "debug", EventHandlers: []string{"user:deploy=/bin/true"},
		HandlerWritable: []string{"/tmp"}, HandlerUser: "65534", RotateEvery: "15m", HandlerTimeout: "1m",
		HandlerSandbox: "reduced", UnlockIdentityFile: "/etc/unlock", Keyring: "memory",
		RetryInterval: "5s", RetryMax: 3, LeaveOnTerminate: true, SkipLeaveOnInterrupt: true,
		Rejoin: true, Replay: true, ReconnectTimeout: "48h", TombstoneTimeout: "12h",
	}
	got, err := parseSettings([]byte(`
bind: 127.0.0.1:1
advertise: [192.0.2.1, "2001:db8::1"]
rpc-addr: 127.0.0.1:2
join: [a]
retry-join: [b, c]
tag: {role: web, n: 1}
profile: wan
log-level: debug
event-handler:
  - user:deploy=/bin/true
handler-writable: [/tmp]
handler-user: 65534
rotate-every: 15m
handler-timeout: 1m
handler-sandbox: reduced
unlock-identity-file: /etc/unlock
keyring: memory
retry-interval: 5s
retry-max: 3
leave-on-terminate: true
skip-leave-on-interrupt: true
rejoin: true
replay: true
reconnect-timeout: 48h
tombstone-timeout: 12h
`))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if err := got.Check(); err != nil {
		t.Errorf("got %v, want no problem", err)
	}
}

func TestEveryProblemOfTheSettingsIsReportedAtOnce(t *testing.T) {
	err := Settings{
		Bind: "host", Advertise: []string{"0.0.0.0", "192.0.2.1", "224.0.0.1:1", "::"}, RPCAddr: "127.0.0.1:65536",
		Tags: map[string]string{"": "x", "bell": "\a"}, Profile: "fast", LogLevel: "INFO",
		EventHandlers: []string{"", "nothing=x", "user=/bin/true"}, RotateEvery: "off", HandlerTimeout: "999ms",
		HandlerSandbox: "off", UnlockPassphraseFile: "-", UnlockIdentityFile: "b", Keyring: "none",
		RetryInterval: "0s", RetryMax: -1, ReconnectTimeout: "soon", TombstoneTimeout: "1s",
	}.Check()
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{
		`bind: "host": not an IP address`, `rpc-addr: "127.0.0.1:65536": port is not a number from 0 to 65535`,
		`advertise: "0.0.0.0": others cannot reach it`, `advertise: "224.0.0.1:1": others`, `advertise: "::": others`,
		`tag name ""`, `tag "bell": not printable`, `profile "fast"`, `log-level: "INFO"`,
		`event-handler: handler ""`, `event-handler: handler "nothing=x"`,
		`rotate-every: "off": want a time`, `handler-timeout: "999ms": from 1s to 1h`, `handler-sandbox: "off"`,
		`keyring: "none": use disk or memory`, `retry-interval: "0s": from 1s`, `retry-max: -1`,
		`reconnect-timeout: "soon": want a time`, `tombstone-timeout: "1s": from 1m0s`,
		`unlock-passphrase-file and unlock-identity-file: name one`, `unlock-passphrase-file: an agent reads a file`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got\n%v\nwant it to hold %s", err, want)
		}
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 21 {
		t.Errorf("got %d problems, want 21:\n%v", len(lines), err)
	}
}

func TestAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1": "127.0.0.1:7946", "127.0.0.1:1": "127.0.0.1:1", "127.0.0.1:0": "127.0.0.1:0",
		"::1": "[::1]:7946", "[::1]": "[::1]:7946", "[::1]:1": "[::1]:1", "::ffff:192.0.2.1": "192.0.2.1:7946",
		"0.0.0.0": "0.0.0.0:7946",
		"":        "", "localhost": "", "127.0.0.1:": "", "127.0.0.1:-1": "", "127.0.0.1:65536": "", "127.0.0.1:http": "",
		":7946": "", "127.1": "", "0127.0.0.1": "", "[::1": "", "127.0.0.1 ": "", "1.2.3.4.5": "",
	} {
		got, err := parseAddr(text, 7946)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q: got %s, want an error", text, got)
		case want != "" && (err != nil || got.String() != want):
			t.Errorf("%q: got %s, %v, want %s", text, got, err, want)
		}
	}
}

func TestTimeouts(t *testing.T) {
	for text, ok := range map[string]bool{
		"1s": true, "1h": true, "90s": true, "1m30s": true,
		"": false, "30": false, "0": false, "0s": false, "-1s": false, "999ms": false, "1h1ns": false, "forever": false, "1d": false,
	} {
		if _, err := parseTimeout(text); (err == nil) != ok {
			t.Errorf("%q: got %v, want accepted: %t", text, err, ok)
		}
	}
}

// What init and pki issue write is what issuing the next home reads.
func TestAdvertisedIsWhatConfigForWrote(t *testing.T) {
	for name, want := range map[string][]string{
		"nothing": nil, "one": {"203.0.113.7"}, "several": {"203.0.113.7:7000", "2001:db8::7", "[2001:db8::7]:7000"},
	} {
		t.Run(name, func(t *testing.T) {
			at := home.Home(folder(t))
			content, err := ConfigFor(want, []string{"192.0.2.1"})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at.Config(), content, 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := Advertised(at); err != nil || !slices.Equal(got, want) {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
			settings, err := ReadSettings(at.Config())
			if err != nil || !slices.Equal(settings.RetryJoin, []string{"192.0.2.1"}) {
				t.Errorf("got %q, %v, want one address to join", settings.RetryJoin, err)
			}
		})
	}
}

func TestNoSettingsAreWrittenWhenThereIsNothingToSay(t *testing.T) {
	if got, err := ConfigFor(nil, nil); err != nil || got != nil {
		t.Errorf("got %q, %v, want nothing", got, err)
	}
	if got, err := Advertised(home.Home(folder(t))); err != nil || got != nil {
		t.Errorf("got %q, %v, want nothing", got, err)
	}
}

func TestNoSettingsAreWrittenThatWouldBeRefused(t *testing.T) {
	for _, bad := range []string{"", "host", "0.0.0.0", "::", "203.0.113.7:x", "\n"} {
		if got, err := ConfigFor([]string{bad}, nil); err == nil {
			t.Errorf("%q: got %q, want an error", bad, got)
		}
	}
}

func TestASettingsFileThatOthersCouldWriteIsRefused(t *testing.T) {
	path := filepath.Join(folder(t), "config.yaml")
	if err := os.WriteFile(path, []byte("profile: lan"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bit := range []os.FileMode{0o020, 0o002} {
		if err := os.Chmod(path, 0o644|bit); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadSettings(path); !errors.Is(err, keyring.ErrPermissions) {
			t.Errorf("mode %04o: got %v, want %v", 0o644|bit, err, keyring.ErrPermissions)
		}
	}
	if _, err := ReadSettings(filepath.Join(folder(t), "nothing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
}

func TestAnEndlessSettingsFileIsNotRead(t *testing.T) {
	path := filepath.Join(folder(t), "config.yaml")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<40); err != nil {
		t.Skipf("no sparse files here: %v", err)
	}
	if _, err := ReadSettings(path); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v, want to be told that it is too large", err)
	}
}

// What is accepted means the same when it is written out and read again; what is
// refused gives no setting and says a line or a reason.
func FuzzSettingsWrittenOutAreReadAgain(f *testing.F) {
	for _, seed := range []string{
		"", "bind: 127.0.0.1\n", "tag: {a: b}\njoin: [a, b]\n", "bind: [1]\nfoo: 1\nbind: x\n", "- a", "a: &a [*a]", "---\n---\n",
		"event-handler:\n  - |\n    user:deploy=/bin/true\n", "log-level: !!str 5", "join: [~, '', \"\\a\"]", "<<: {bind: x}", "\"\\xff\": 1",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		settings, err := parseSettings(content)
		if err != nil {
			if !cmp.Equal(settings, Settings{}) || err.Error() == "" {
				t.Errorf("refused with %q, and yet %+v", err, settings)
			}
			return
		}
		written, err := yaml.Dump(settings)
		if err != nil {
			t.Fatalf("writing %+v: %v", settings, err)
		}
		again, err := parseSettings(written)
		if err != nil {
			t.Fatalf("reading %q: %v", written, err)
		}
		if diff := cmp.Diff(settings, again, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("read again (-first +second):\n%s", diff)
		}
		_ = again.Check() // no settings make it panic
	})
}
