package handler

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// Threat L04. The shim must not inherit them either: the dynamic linker and the
// Go runtime would have obeyed some before its first line.
func TestNothingIsInheritedFromTheAgentsEnvironment(t *testing.T) {
	root := folder(t)
	for _, name := range []string{
		"LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "BASH_ENV", "ENV", "IFS", "PATH", "SHELLOPTS", "PS4", "CDPATH",
		"GODEBUG", "GOTRACEBACK", "GORACE", "PYTHONPATH", "PYTHONSTARTUP", "PERL5LIB", "PERL5OPT", "RUBYOPT", "NODE_OPTIONS", "HOME",
		"TMPDIR", "LANG", "LC_ALL", "SERF_EVENT", "SERF_TAG_X", "SECGOSSIP_PRINCIPAL", "SECGOSSIP_HOME", "http_proxy", "TERM", "USER",
	} {
		t.Setenv(name, "/hostile")
	}
	for i := range 20 {
		t.Setenv(fmt.Sprintf("BASH_FUNC_ls%d%%%%", i), "() { echo hostile; }")
	}
	event := Event{
		Kind: KindUser, Name: "deploy", LTime: 7, SelfName: "web1", SelfTags: map[string]string{"role": "web"},
		Principal: "ops", EventID: "00ff", Origin: "web2",
	}
	r := runConfig(t, Config{Specs: []Spec{everyEvent("/usr/bin/env")}, ScratchRoot: root}, event)
	// The dynamic linker would complain about what it cannot preload.
	if !r.Done() || r.Stderr.String() != "" {
		t.Fatalf("exit %d, err %v, stderr %q, want success in silence", r.ExitCode, r.Err, r.Stderr)
	}
	lines := strings.Split(strings.TrimSpace(r.Stdout.String()), "\n")
	homes := slices.DeleteFunc(grep(lines, "HOME="), func(s string) bool { return !strings.HasSuffix(s, "/work") })
	if len(homes) != 1 {
		t.Fatalf("HOME is %q", grep(lines, "HOME="))
	}
	want, err := environment(event, strings.TrimPrefix(homes[0], "HOME="))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, slices.Sorted(slices.Values(lines))); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestHandlerHasThreeDescriptors(t *testing.T) {
	for range 250 {
		leak(t)
	}
	for _, program := range []string{script(t, "exec ls -l /proc/self/fd"), script(t, "#!/usr/bin/env bash\nls -l /proc/self/fd")} {
		r := runOnce(t, program, Settings{}, Event{Kind: KindUser, Name: "x"})
		var open []string
		for line := range strings.Lines(r.Stdout.String()) {
			// ls itself holds the directory that it lists.
			if before, target, ok := strings.Cut(line, " -> "); ok && !strings.HasPrefix(target, "/proc/") {
				open = append(open, before[strings.LastIndex(before, " ")+1:])
			}
		}
		if diff := cmp.Diff([]string{"0", "1", "2"}, open); diff != "" {
			t.Errorf("descriptors (-want +got):\n%s%s", diff, r.Stdout)
		}
	}
}

func TestKernelConfirmsTheConfinement(t *testing.T) {
	who := handlerAccount(t)
	r := runOnce(t, script(t, "cat /proc/self/status; ulimit -H -a"), Settings{}, Event{Kind: KindUser, Name: "x"})
	fields := map[string]string{}
	for line := range strings.Lines(r.Stdout.String()) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[name] = strings.Join(strings.Fields(value), " ")
		}
	}
	four := func(id int) string { return strings.TrimSpace(strings.Repeat(strconv.Itoa(id)+" ", 4)) }
	none := "0000000000000000"
	want := map[string]string{
		"Uid": four(who.uid), "Gid": four(who.gid), "NoNewPrivs": "1",
		"CapInh": none, "CapPrm": none, "CapEff": none, "CapAmb": none,
	}
	if os.Geteuid() == 0 {
		want["Groups"] = ""
		if can, err := holdsCapability(unix.CAP_SETPCAP); err == nil && can {
			want["CapBnd"] = none
		}
	}
	for name, value := range want {
		if fields[name] != value {
			t.Errorf("%s is %q, want %q", name, fields[name], value)
		}
	}
}

func TestLimitsHold(t *testing.T) {
	limits := []struct{ command, want string }{
		{"ulimit -Hc", "0"},
		{"ulimit -Hf", strconv.Itoa(DefaultFileSize / 512)}, // sh counts blocks
		{"ulimit -Hn", strconv.Itoa(maxOpenFiles)},
		{"ulimit -Ht", "30"},
		{"(head -c 20000000 /dev/zero > f) 2>/dev/null; stat -c %s f", strconv.Itoa(DefaultFileSize)},
	}
	if raceDetector {
		t.Log("memory is not limited under the race detector")
	} else {
		limits = append(limits, []struct{ command, want string }{
			{"ulimit -Hd", strconv.Itoa(DefaultMemory / 1024)},
			{"ulimit -Hv", strconv.Itoa(maxAddressSpace / 1024)},
		}...)
	}
	var text, want []string
	for _, limit := range limits {
		text, want = append(text, limit.command), append(want, limit.want)
	}
	r := runOnce(t, script(t, strings.Join(text, "\n")), Settings{}, Event{Kind: KindUser, Name: "x"})
	if diff := cmp.Diff(want, strings.Fields(r.Stdout.String())); diff != "" {
		t.Errorf("%q (-want +got):\n%s%s", text, diff, r.Stderr)
	}
}

func TestForkBombIsHarmless(t *testing.T) {
	needRoot(t)
	// The kernel counts a user's processes wherever they are. This user is
	// not the one that tests elsewhere on this machine run handlers as.
	const user = "daemon"
	uid, _, err := lookupUser(user)
	if err != nil {
		t.Skipf("this system lacks a user the test needs: %v", err)
	}
	bomb := "i=0; while [ $i -lt 1000 ]; do sleep 100000 & i=$((i+1)); done; echo survived"
	r := runOnce(t, script(t, bomb), Settings{User: user}, Event{Kind: KindUser, Name: "x"})
	if strings.Contains(r.Stdout.String(), "survived") || r.Done() {
		t.Errorf("1000 processes were started: %q, exit %d", r.Stdout, r.ExitCode)
	}
	if !strings.Contains(r.Stderr.String(), "fork") {
		t.Errorf("it ended for another reason: %v, %s", r.Err, r.Stderr)
	}
	// They count until process 1 has reaped them, which may be after the run.
	until(t, "what was started is gone", func() bool { return processesOf(t, uid) < 10 })
}

// Threat L08. The directory outside is open to every user: only Landlock
// stands before it.
func TestWritingIsPossibleOnlyWhereItWasGranted(t *testing.T) {
	outside, inside := folder(t), granted(t)
	if err := os.Chmod(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	theirs := write(t, filepath.Join(outside, "file"), "theirs", 0o666)
	file := write(t, filepath.Join(folder(t), "granted"), "", 0o600)
	give(t, file)
	program := script(t, `try() { if sh -c "$1" "$0" >/dev/null 2>&1; then echo "yes: $1"; else echo "no: $1"; fi; }
while read -r line; do try "$line"; done`)
	allowed := []string{
		"echo x > " + inside + "/new", "echo y >> " + inside + "/new", "mkdir " + inside + "/a " + inside + "/b",
		"mv " + inside + "/new " + inside + "/a/new", "ln " + inside + "/a/new " + inside + "/b/link", "rm -r " + inside + "/a",
		"echo x > " + file, "truncate -s 1 " + file, "echo x > here", "echo x > $HOME/there", "echo x > /dev/null", "cat " + theirs,
		"ln -s /etc/passwd link && cat link",
	}
	denied := []string{
		"echo x > " + outside + "/new", "echo x >> " + theirs, "truncate -s 0 " + theirs, ": > " + theirs, "rm " + theirs,
		"mkdir " + outside + "/d", "mkfifo " + outside + "/p", "ln -s x " + outside + "/l", "ln here " + outside + "/hard",
		"mv " + theirs + " stolen", "mv here " + theirs, "mv here " + outside + "/moved",
		"rm " + file, "echo x > " + filepath.Dir(file) + "/beside", "echo x > /dev/full",
		"ln -s " + theirs + " way && echo x > way", "echo x > $HOME/../top", `echo x > "$(dirname $0)/program"`, "echo x > /proc/self/root" + theirs,
	}
	event := Event{Kind: KindUser, Name: "x", Payload: []byte(strings.Join(append(allowed, denied...), "\n"))}
	r := runOnce(t, program, Settings{Writable: []string{inside, file}}, event)
	var want []string
	for _, text := range allowed {
		want = append(want, "yes: "+text)
	}
	for _, text := range denied {
		want = append(want, "no: "+text)
	}
	if diff := cmp.Diff(want, strings.Split(strings.TrimSpace(r.Stdout.String()), "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s%s", diff, r.Stderr)
	}
	if got := read(t, theirs); got != "theirs" {
		t.Errorf("the file outside holds %q", got)
	}
}

func TestPrivateDirectoryCannotBeReadWhateverItsModes(t *testing.T) {
	top := folder(t)
	home := filepath.Join(top, "home")
	for _, dir := range []string{home, filepath.Join(home, "node"), filepath.Join(top, "home2"), filepath.Join(top, "second")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(home, "node", "key"), "secret", 0o644)
	write(t, filepath.Join(top, "second", "key"), "secret", 0o644)
	write(t, filepath.Join(top, "home2", "file"), "neighbour", 0o644)
	write(t, filepath.Join(top, "file"), "neighbour", 0o644)
	if err := os.Symlink(home, filepath.Join(top, "link")); err != nil {
		t.Fatal(err)
	}
	text := "cat " + top + "/file " + top + "/home2/file\n" +
		"cat " + home + "/node/key; cat " + top + "/second/key; cat " + top + "/link/node/key; cat /proc/self/cwd/../../../" + filepath.Base(home) + "/node/key; ls " + home + "; echo x > " + home + "/new\nexit 0"
	for name, program := range map[string]string{
		"outside": script(t, text),
		"inside":  write(t, filepath.Join(home, "handler.sh"), "#!/bin/sh\n"+text, 0o755),
	} {
		r := runConfig(t, Config{Specs: []Spec{everyEvent(program)}, Private: []string{filepath.Join(top, "link"), filepath.Join(top, "second")}}, Event{Kind: KindUser, Name: "x"})
		if got, want := r.Stdout.String(), "neighbourneighbour"; got != want || !r.Done() {
			t.Errorf("program %s: read %q, want %q (%v, %s)", name, got, want, r.Err, r.Stderr)
		}
	}
	state := filepath.Join(home, "state")
	mkdir(t, state, 0o755)
	program := script(t, "cat "+home+"/node/key; echo x > here && cat here")
	r := runConfig(t, Config{Specs: []Spec{everyEvent(program)}, Private: []string{home}, ScratchRoot: state}, Event{Kind: KindUser, Name: "x"})
	if r.Stdout.String() != "x\n" {
		t.Errorf("a scratch directory in the private one: %q, %v, %s", r.Stdout, r.Err, r.Stderr)
	}
	elf := write(t, filepath.Join(home, "dash"), read(t, install(t, "/bin/dash")), 0o755)
	r = runConfig(t, Config{Specs: []Spec{everyEvent(elf)}, Private: []string{home}}, Event{Kind: KindUser, Name: "x", Payload: []byte("echo ran")})
	if r.Stdout.String() != "ran\n" {
		t.Errorf("an ELF program in the private directory: %q, %v, %s", r.Stdout, r.Err, r.Stderr)
	}
}

// What opens an agent's files may lie anywhere, beside what handlers need.
func TestPrivateFileCannotBeReadAndItsNeighboursCan(t *testing.T) {
	top := folder(t)
	unlock := write(t, filepath.Join(top, "unlock"), "secret", 0o644)
	write(t, filepath.Join(top, "file"), "neighbour", 0o644)
	if err := os.Symlink(unlock, filepath.Join(top, "link")); err != nil {
		t.Fatal(err)
	}
	program := script(t, "cat "+top+"/unlock; cat "+top+"/link; cat "+top+"/file")
	for _, private := range []string{unlock, filepath.Join(top, "link")} {
		r := runConfig(t, Config{Specs: []Spec{everyEvent(program)}, Private: []string{private}}, Event{Kind: KindUser, Name: "x"})
		if got, want := r.Stdout.String(), "neighbour"; got != want || !r.Done() {
			t.Errorf("%s is private: read %q, want %q (%v, %s)", private, got, want, r.Err, r.Stderr)
		}
	}
}

// Threat L05.
func TestSetuidProgramGainsNothing(t *testing.T) {
	needRoot(t)
	planted := install(t, "/usr/bin/id")
	if err := os.Chmod(planted, 0o755|os.ModeSetuid|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	who := handlerAccount(t)
	r := runOnce(t, script(t, planted+" -u; "+planted+" -g; mount -t tmpfs x . && echo mounted; chown 0 . && echo chowned; exit 0"), Settings{}, Event{Kind: KindUser, Name: "x"})
	if got, want := r.Stdout.String(), fmt.Sprintf("%d\n%d\n", who.uid, who.gid); got != want {
		t.Errorf("set-uid id printed %q, want %q (%s)", got, want, r.Stderr)
	}
}

func TestHandlerCannotSignalTheAgent(t *testing.T) {
	if os.Geteuid() != 0 && landlockABI() < signalLandlock {
		t.Skipf("needs Landlock ABI %d, this kernel has %d", signalLandlock, landlockABI())
	}
	// With namespaces the parent is process 1 of the run, which no signal ends.
	text := fmt.Sprintf("kill -0 %d && echo reached; if [ $PPID = 1 ]; then for s in TERM HUP INT QUIT USR1 SEGV URG 40 KILL; do kill -$s 1; done; else kill -0 $PPID && echo reached; fi; sleep 100000 & kill -9 $! && echo own", os.Getpid())
	r := runOnce(t, script(t, text), Settings{}, Event{Kind: KindUser, Name: "x"})
	if got := r.Stdout.String(); got != "own\n" {
		t.Errorf("signals reached %q, want only its own child", got)
	}
}

func TestOrdinaryAgentRunsHandlersAsItself(t *testing.T) {
	needOrdinaryUser(t)
	r := runOnce(t, script(t, "id -u"), Settings{}, Event{Kind: KindUser, Name: "x"})
	if got, want := r.Stdout.String(), fmt.Sprintln(os.Geteuid()); got != want {
		t.Errorf("ran as %q, want %q", got, want)
	}
}
