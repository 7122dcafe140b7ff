package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/secgossip/secgossip/handler"
)

func TestHandlerOfAFileIsWhatItSays(t *testing.T) {
	settings, err := parseSettings([]byte(`
event-handler: [user=/bin/true]
handlers:
- name: deploy
  on: [user:deploy, "member-join,member-leave"]
  run: /bin/false
  user: deploy
  writable: [/srv]
  readable: [/srv, /opt]
  network: yes
  timeout: 5m
  concurrency: 2
  queue: 128
  memory: 1GiB
  processes: 8
  file-size: 64KiB
  input: json
  idempotent: yes
  sandbox: reduced
- run: /bin/echo
  on: user
`))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := DefaultSettings().Merge(settings).check()
	if err != nil {
		t.Fatal(err)
	}
	filter := func(text string) handler.Filter {
		f, err := handler.ParseFilter(text)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	want := []handler.Spec{
		{Filters: []handler.Filter{filter("user")}, Program: "/bin/true"},
		{
			Name: "deploy", Filters: []handler.Filter{filter("user:deploy"), filter("member-join"), filter("member-leave")}, Program: "/bin/false",
			Settings: handler.Settings{
				User: "deploy", Writable: []string{"/srv"}, Readable: []string{"/srv", "/opt"}, Network: true, Timeout: 5 * time.Minute,
				Concurrency: 2, Queue: 128, Memory: 1 << 30, Processes: 8, FileSize: 64 << 10, Input: handler.InputJSON, Idempotent: true,
				Sandbox: handler.Reduced,
			},
		},
		{Filters: []handler.Filter{filter("user")}, Program: "/bin/echo"},
	}
	if diff := cmp.Diff(want, plan.handlers); diff != "" {
		t.Errorf("handlers (-want +got):\n%s", diff)
	}
	if got := plan.runsAtOnce(); got != 4 {
		t.Errorf("%d runs at once, want 4", got)
	}
}

func TestMistakesInAHandlerAreReportedWithTheirLines(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"unknown keys": {"handlers:\n- run: a\n  shell: b\n- run: c\n  environment: d", "line 3: unknown key \"shell\"\nline 5: unknown key \"environment\""},
		"key twice":    {"handlers:\n- run: a\n  run: b", `line 3: mapping key "run" already defined at line 2`},
		"no list":      {"handlers: {run: a}", "line 1: want a list, found keys with values"},
		"text":         {"handlers: [a]", "line 1: want the settings of a handler, KEY: VALUE, found a text"},
		"list":         {"handlers: [{run: [a]}]", "line 1: want a text, found a list"},
		"on":           {"handlers:\n- run: a\n  on: {a: b}", "line 3: want a list, found keys with values"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parseSettings([]byte(test.text)); err == nil || err.Error() != test.want {
				t.Errorf("got\n%v\nwant\n%s", err, test.want)
			}
		})
	}
}

func TestEveryProblemOfAHandlerIsReportedAtOnce(t *testing.T) {
	settings := DefaultSettings()
	settings.Handlers = []HandlerSettings{
		{
			Name: "a b", On: textList{"deploy"}, Network: "true", Timeout: "5", Concurrency: "0", Queue: "2000", Memory: "1", Processes: "-1",
			FileSize: "1TiB", Input: "xml", Idempotent: "on", Sandbox: "off",
		},
		{Name: "twice", Run: "a"}, {Name: "twice", Run: "b\x00"},
	}
	err := settings.Check()
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{
		`handlers: "a b": run: names no program`, `handlers: "a b": name: "a b"`, `handlers: "a b": on: "deploy" is no filter`,
		`network: "true": use yes or no`, `timeout: "5": want a time`, `concurrency: "0"`, "queue 2000", `memory: "1": want`,
		`processes: "-1"`, `file-size: "1TiB"`, `input "xml"`, `idempotent: "on"`, `sandbox "off"`,
		`handlers: "twice": two handlers`, `handlers: "twice": run: a path cannot hold a zero byte`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got\n%v\nwant it to hold %s", err, want)
		}
	}
}
