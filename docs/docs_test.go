// Package docs holds the tests of the documents: what they state about the code
// is compared with the code.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestDocumentsNameTestsThatExist(t *testing.T) {
	exists := make(map[string]bool)
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, name := range all(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`, read(t, path)) {
			exists[name] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range []string{"threats.md", "serf.md"} {
		named := all(`\b((?:Test|Fuzz|Benchmark)[A-Z]\w*)`, read(t, document))
		if len(named) < 20 {
			t.Errorf("got %d names of tests in %s: the document or this test is not what it was", len(named), document)
		}
		for _, name := range named {
			if !exists[name] {
				t.Errorf("%s names %s, which is no test", document, name)
			}
		}
	}
}

func TestWhatStandsBesideSerfIsThere(t *testing.T) {
	text := read(t, "serf.md")
	flags := flagsOf(t, "../cmd/secgossip")
	for _, name := range all("--([a-z][a-z-]*)", text) {
		if !slices.Contains(flags, name) {
			t.Errorf("serf.md names --%s, which is no flag", name)
		}
	}
	contract := read(t, "../api/secgossip/v1/agent.proto")
	calls := all("`([A-Z][A-Za-z]+)`", text[strings.Index(text, "## Calls"):strings.Index(text, "## Events and queries")])
	for _, name := range calls {
		if !strings.Contains(contract, "rpc "+name+"(") {
			t.Errorf("serf.md names %s, which is no call", name)
		}
	}
	for _, name := range all(`(?m)^  rpc (\w+)\(`, contract) {
		ours := []string{"Revoke", "ListRevocations", "ListHandlers", "ListRuns", "Reload"} // Serf has nothing like it
		if !slices.Contains(calls, name) && !slices.Contains(ours, name) {
			t.Errorf("serf.md does not name %s", name)
		}
	}
}

// What Serf has, by its own names: whoever looks one up must find it.
func TestEverythingOfSerfIsInTheTables(t *testing.T) {
	text := read(t, "serf.md")
	for section, names := range map[string]string{
		"Commands":                "agent event query force-leave info join keygen keys leave members monitor reachability rtt tags version",
		"Options of the commands": "-rpc-addr -rpc-auth SERF_RPC_ADDR SERF_RPC_AUTH -format -coalesce -node -tag -timeout -no-ack -relay-factor -prune -detailed -name -status -role -log-level -verbose -set -delete -version",
		"Options of the agent": "-node node_name -bind -iface -advertise -encrypt -keyring-file -join -retry-join -retry-interval -retry-max -replay replay_on_join -rejoin " +
			"-snapshot -event-handler -tag -tags-file -role -profile -protocol -rpc-addr rpc_auth -log-level -syslog syslog_facility -discover -mdns-iface -mdns-disable-ipv4 " +
			"-mdns-disable-ipv6 -broadcast-timeout -disable-compression leave_on_terminate skip_leave_on_interrupt reconnect_interval reconnect_timeout tombstone_timeout " +
			"disable_name_resolution query_response_size_limit query_size_limit user_event_size_limit statsite_addr statsd_addr disable_coordinates validate_node_names " +
			"MsgpackUseNewTimeFormat -config-file -config-dir SIGINT SIGTERM SIGHUP SIGUSR1",
		"Event types and variables": "member-join member-leave member-failed member-update member-reap user user:NAME query query:NAME * SERF_EVENT SERF_SELF_NAME SERF_SELF_ROLE " +
			"SERF_TAG_NAME SERF_USER_EVENT SERF_USER_LTIME SERF_QUERY_NAME SERF_QUERY_LTIME",
		"Calls": "handshake auth event force-leave join leave members members-filtered tags stream monitor stop query respond install-key use-key remove-key list-keys stats get-coordinate",
	} {
		_, table, found := strings.Cut(text, "\n## "+section+"\n")
		if !found {
			t.Fatalf("serf.md has no section %q", section)
		}
		table, _, _ = strings.Cut(table, "\n## ")
		var theirs []string // the words of the first column
		for _, row := range strings.Split(table, "\n") {
			if cells := strings.Split(row, "|"); len(cells) > 2 {
				theirs = append(theirs, strings.FieldsFunc(cells[1], func(r rune) bool { return strings.ContainsRune(" ,`", r) })...)
			}
		}
		for _, name := range strings.Fields(names) {
			if !slices.Contains(theirs, name) {
				t.Errorf("serf.md, %s: nothing about %s", section, name)
			}
		}
	}
}

func TestExitCodesAreThoseOfTheCommand(t *testing.T) {
	source := read(t, "../cmd/secgossip/exit.go")
	compare(t, "exit codes", firstCells(t, "## Exit codes"), all(`(?m)^\texit\w+\s+= (\d+)`, source))
}

func TestFlagsAreThoseOfTheCommand(t *testing.T) {
	compare(t, "flags", all("--([a-z][a-z-]*)", read(t, "commands.md")), flagsOf(t, "../cmd/secgossip"))
}

func TestCommandsAreThoseOfTheProgram(t *testing.T) {
	// A heading is a whole command line, Use its last word.
	var got []string
	for _, heading := range all(`(?m)^## ([a-z].*)$`, read(t, "commands.md")) {
		words := all(`\b([a-z][a-z-]*)\b`, heading)
		got = append(got, words...)
	}
	compare(t, "commands", append(got, "secgossip", "keygen"), usesOf(t, "../cmd/secgossip"))
}

func TestSettingsAreThoseOfTheAgent(t *testing.T) {
	source := read(t, "../internal/agent/settings.go")
	compare(t, "settings", firstCells(t, "## Settings"), all("`yaml:\"([a-z-]+)\"`", source))
	for _, row := range rows(t, "commands.md", "## Settings") {
		value := row[1]
		if regexp.MustCompile(`\d`).MatchString(value) && !strings.Contains(source, strconv.Quote(value)) {
			t.Errorf("commands.md gives %s the default %s, which settings.go does not", row[0], value)
		}
	}
}

func TestSettingsOfHandlersAreThoseOfTheAgent(t *testing.T) {
	source := read(t, "../internal/agent/settings_handlers.go")
	var got []string
	defaults := make(map[string]string)
	for _, row := range rows(t, "handlers.md", "## A handler with settings of its own") {
		got = append(got, row[0])
		defaults[row[0]] = row[1]
	}
	compare(t, "settings of a handler", got, all("`yaml:\"([a-z-]+)\"`", source))
	constants := constantsOf(t, "../handler", "settings.go")
	for key, name := range map[string]string{"concurrency": "DefaultConcurrency", "queue": "DefaultQueue", "processes": "DefaultProcesses"} {
		if value, ok := constants[name]; !ok || value.ExactString() != defaults[key] {
			t.Errorf("handlers.md gives %s the default %s, the code %v", key, defaults[key], value)
		}
	}
	for key, name := range map[string]string{"memory": "DefaultMemory", "file-size": "DefaultFileSize"} {
		value, ok := constants[name]
		mib, err := strconv.ParseInt(strings.TrimSuffix(defaults[key], "MiB"), 10, 64)
		if !ok || err != nil || value.ExactString() != strconv.FormatInt(mib<<20, 10) {
			t.Errorf("handlers.md gives %s the default %s, the code %v", key, defaults[key], value)
		}
	}
}

func TestVariablesAreThoseOfTheHandlers(t *testing.T) {
	source := read(t, "../handler/environment.go")
	want := all(`"(SECGOSSIP_[A-Z_]+[A-Z])"`, source)
	for _, name := range all(`prefix\+"([A-Z_]+)"`, source) {
		want = append(want, "SERF_"+name)
	}
	want = append(want, "SERF_TAG_NAME", "PATH", "HOME", "TMPDIR", "LANG")
	var got []string
	for _, row := range rows(t, "handlers.md", "## What a handler is given") {
		got = append(got, strings.Split(row[0], ", ")...)
	}
	compare(t, "variables", got, want)
}

func TestKeysOfTheDocumentAreThoseOfTheHandlers(t *testing.T) {
	_, document, _ := strings.Cut(read(t, "../handler/json.go"), "type document struct {")
	document, _, _ = strings.Cut(document, "\n}")
	var got []string
	for _, row := range rows(t, "handlers.md", "## JSON") {
		got = append(got, strings.Split(row[0], ", ")...)
	}

	compare(t, "keys of the JSON document", got, all("`json:\"([a-z]+)", document))
}

func TestFilesAreThoseOfAHome(t *testing.T) {
	source := read(t, "../internal/home/home.go")
	compare(t, "files of a home", firstCells(t, "## Files of a home"), all(`(?m)^\t(?:file|dir)\w+\s+= "(.+)"$`, source))
}

func TestEveryPackageIsOnTheMap(t *testing.T) {
	var got []string
	for _, row := range rows(t, "architecture.md", "## Packages") {
		got = append(got, row[0])
	}
	// The table that internal/arch holds the tree to, and that package itself.
	// Generated code is described with what it is generated from.
	want := append(all(`pkg: +"([^"]+)"`, read(t, "../internal/arch/layout_test.go")), "internal/arch")
	got = append(got, "api/secgossip/v1/secgossipv1connect")
	compare(t, "packages", got, want)
}

func TestLogKeysAreThoseOfTheCode(t *testing.T) {
	var want []string
	for _, dir := range []string{"internal/agent", "internal/rpc", "handler", "secgossip", "secgossip/internal/transport"} {
		want = append(want, logKeysOf(t, filepath.Join("..", dir))...)
	}
	var got []string
	for _, cell := range firstCells(t, "## Logs") {
		got = append(got, strings.Split(cell, ", ")...)
	}
	compare(t, "log keys", got, want)
}

// documents are all of them, from here.
func documents(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob("*.md")
	if err != nil || len(list) < 4 {
		t.Fatalf("found %q (%v): this is not the folder of the documents", list, err)
	}
	return append(list, "../README.md", "../SECURITY.md")
}

func TestNoDocumentNamesAFolderOfOneMachine(t *testing.T) {
	for _, name := range documents(t) {
		for _, path := range all(`(?m)(?:^|[^\w.~/)}$-])(/(?:work|root|home|Users)/\S*)`, read(t, name)) {
			t.Errorf("%s names %s", name, path)
		}
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	for _, name := range documents(t) {
		prose := regexp.MustCompile("`[^`]*`").ReplaceAllString(read(t, name), "")
		for _, link := range all(`\]\(([^)]+)\)`, prose) {
			path, heading, _ := strings.Cut(link, "#")
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", name, link, err)
				continue
			}
			if heading != "" && !hasHeading(read(t, target), heading) {
				t.Errorf("%s links to %s, and there is no such heading", name, link)
			}
		}
	}
}

func hasHeading(text, anchor string) bool {
	for _, heading := range all(`(?m)^#+ (.+)$`, text) {
		if strings.ReplaceAll(strings.ToLower(heading), " ", "-") == anchor {
			return true
		}
	}
	return false
}
