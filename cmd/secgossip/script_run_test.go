//go:build unix

package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// patience is how long a script waits for what must happen. It decides nothing
// else: a script that works waits for files and processes, not for time.
const patience = 60 * time.Second

// daemon is a command that runs beside the script.
type daemon struct {
	cmd   *exec.Cmd
	home  string        // the folder it works in, if it names one
	stdin io.Closer     // open and silent, as a terminal is
	done  chan struct{} // closed when it has ended

	memory int // KiB, when it was noted
}

func cmdDaemon(ts *testscript.TestScript, args []string) {
	usage(ts, len(args) > 1, "daemon NAME ARG...")
	w, name, args := worldOf(ts), args[0], args[1:]
	if d := w.daemons[name]; d != nil && !d.ended() {
		ts.Fatalf("daemon %s is running", name)
	}
	stdout, err := os.Create(ts.MkAbs(name + ".out"))
	ts.Check(err)
	defer stdout.Close()
	stderr, err := os.Create(ts.MkAbs(name + ".log"))
	ts.Check(err)
	defer stderr.Close()
	d := &daemon{cmd: exec.Command("secgossip", args...), done: make(chan struct{})}
	d.cmd.Dir, d.cmd.Env, d.cmd.Stdout, d.cmd.Stderr = ts.MkAbs("."), append(slices.Clone(w.env), "CREDENTIALS_DIRECTORY="+ts.Getenv("CREDENTIALS_DIRECTORY")), stdout, stderr
	d.stdin, err = d.cmd.StdinPipe()
	ts.Check(err)
	if i := slices.Index(args, "--home"); i >= 0 {
		d.home = ts.MkAbs(args[i+1])
	}
	ts.Check(d.cmd.Start())
	go func() {
		defer close(d.done)
		_ = d.cmd.Wait() // the exit code is in ProcessState
	}()
	w.daemons[name] = d
}

func (d *daemon) ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// end ends what a script left running.
func (w *world) end() {
	for _, c := range w.crowds {
		c.end()
	}
	for _, d := range w.daemons {
		_ = d.cmd.Process.Kill() // it may have ended
		<-d.done
		d.stdin.Close()
	}
}

func (w *world) daemon(ts *testscript.TestScript, name string) *daemon {
	d := w.daemons[name]
	if d == nil {
		ts.Fatalf("no daemon %q", name)
	}
	return d
}

func cmdSignal(ts *testscript.TestScript, args []string) {
	usage(ts, len(args) == 2, "signal NAME INT|TERM|KILL|HUP|STOP")
	signals := map[string]os.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL, "HUP": syscall.SIGHUP, "STOP": syscall.SIGSTOP}
	signal, ok := signals[args[1]]
	usage(ts, ok, "signal NAME INT|TERM|KILL|HUP|STOP")
	d := worldOf(ts).daemon(ts, args[0])
	if signal == syscall.SIGSTOP {
		// Either process that goes on would notice that the other does not.
		for _, pid := range processesOf(ts, d) {
			ts.Check(syscall.Kill(pid, syscall.SIGSTOP))
		}
		return
	}
	ts.Check(d.cmd.Process.Signal(signal))
}

func cmdEnded(ts *testscript.TestScript, args []string) {
	usage(ts, len(args) == 2, "ended NAME CODE|killed")
	d := worldOf(ts).daemon(ts, args[0])
	select {
	case <-d.done:
	case <-time.After(patience):
		ts.Fatalf("%s has not ended:\n%s", args[0], ts.ReadFile(args[0]+".log"))
	}
	got := strconv.Itoa(d.cmd.ProcessState.ExitCode())
	if got == "-1" {
		got = "killed"
	}
	if got != args[1] {
		ts.Fatalf("%s ended with %s, want %s:\n%s", args[0], got, args[1], ts.ReadFile(args[0]+".log"))
	}
}

func cmdWaitFor(ts *testscript.TestScript, args []string) {
	usage(ts, len(args) == 2 || len(args) == 3, "waitfor FILE RE [COUNT]")
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	count := 1
	if len(args) == 3 {
		count, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	d := worldOf(ts).daemons[strings.TrimSuffix(args[0], filepath.Ext(args[0]))]
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		over := d != nil && d.ended() // before the look: nothing is written after
		content, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && len(re.FindAllIndex(content, count)) >= count {
			return
		}
		if over {
			ts.Fatalf("the daemon ended before %s had %d of %s:\n%s", args[0], count, re, content)
		}
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("%s has not %d of %s:\n%s", args[0], count, re, content)
		}
	}
}

// cmdCapture puts what the group of an expression matches in a file into a variable.
func cmdCapture(ts *testscript.TestScript, args []string) {
	usage(ts, len(args) == 3, "capture VARIABLE FILE RE")
	re, err := regexp.Compile("(?m)" + args[2])
	ts.Check(err)
	match := re.FindStringSubmatch(ts.ReadFile(args[1]))
	if len(match) != 2 {
		ts.Fatalf("%s has no %s", args[1], re)
	}
	ts.Setenv(args[0], match[1])
}

func cmdExits(ts *testscript.TestScript, args []string) {
	usage(ts, len(args) > 1, "exits CODE ARG...")
	if got := codeOf(ts, args[1:]); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// cmdComesTo is for what the cluster has to find out first.
func cmdComesTo(ts *testscript.TestScript, args []string) {
	usage(ts, len(args) > 1, "comesto CODE ARG...")
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		got := codeOf(ts, args[1:])
		if got == args[0] {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("exit code %s, want %s", got, args[0])
		}
	}
}

func codeOf(ts *testscript.TestScript, args []string) string {
	code := 0
	err := ts.Exec("secgossip", args...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	return strconv.Itoa(code)
}

// cmdRefuses holds a refusal to the rules of all refusals: it says what is wrong
// on stderr, nothing on stdout, and everything on disk is as before.
func cmdRefuses(ts *testscript.TestScript, args []string) {
	usage(ts, len(args) > 1, "refuses CODE ARG...")
	w := worldOf(ts)
	before := w.snapshot(ts)
	cmdExits(ts, args)
	after := w.snapshot(ts)
	for _, path := range slices.Sorted(maps.Keys(before)) {
		if after[path] != before[path] {
			ts.Fatalf("%s was changed or removed:\n%s\n%s", path, before[path], after[path])
		}
	}
	for _, path := range slices.Sorted(maps.Keys(after)) {
		if _, ok := before[path]; !ok {
			ts.Fatalf("%s was made", path)
		}
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("a refusal wrote to stdout: %q", out)
	}
	if text := ts.ReadFile("stderr"); !strings.Contains(text, "secgossip: error: ") {
		ts.Fatalf("no error on stderr: %q", text)
	}
}

// snapshot says of every file of the script what it is. What a running daemon
// writes to is left out.
func (w *world) snapshot(ts *testscript.TestScript) map[string]string {
	files := make(map[string]string)
	var skip []string
	for name, d := range w.daemons {
		if !d.ended() {
			skip = append(skip, filepath.Join(w.dir, name+".out"), filepath.Join(w.dir, name+".log"), d.home,
				filepath.Join(w.dir, ".tmp")) // testscript's TMPDIR, where handlers have their folders
		}
	}
	ts.Check(filepath.WalkDir(w.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if slices.Contains(skip, path) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := info.Mode()
		if mode.IsDir() && os.Geteuid() == 0 {
			mode &^= fs.ModeSticky | 0o070 // an agent of root hands folders of its home over
		}
		state := mode.String()
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			state += fmt.Sprintf(" %x", sha256.Sum256(content))
		}
		files[path] = state
		return nil
	}))
	return files
}

func cmdFields(ts *testscript.TestScript, args []string) {
	usage(ts, len(args) > 1, "fields PATH NAME...")
	object, ok := lookUp(ts, args[0]).(map[string]any)
	if !ok {
		ts.Fatalf("%s is no object", args[0])
	}
	got, want := slices.Sorted(maps.Keys(object)), slices.Sorted(slices.Values(args[1:]))
	if !slices.Equal(got, want) {
		ts.Fatalf("%s has the fields %q, want %q", args[0], got, want)
	}
}

func cmdValue(ts *testscript.TestScript, args []string) {
	usage(ts, len(args) == 2, "value PATH RE")
	re, err := regexp.Compile("^(?:" + args[1] + ")$")
	ts.Check(err)
	text, err := json.Marshal(lookUp(ts, args[0]))
	ts.Check(err)
	if got := strings.Trim(string(text), `"`); !re.MatchString(got) {
		ts.Fatalf("%s is %s, want %s", args[0], got, args[1])
	}
}

// lookUp finds the value at a path such as members.0.name in the JSON on stdout.
// A lone dot is all of it; what is not there is null.
func lookUp(ts *testscript.TestScript, path string) any {
	var value any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &value))
	for _, step := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' }) {
		switch v := value.(type) {
		case map[string]any:
			value = v[step]
		case []any:
			i, err := strconv.Atoi(step)
			ts.Check(err)
			if value = nil; i < len(v) {
				value = v[i]
			}
		default:
			value = nil
		}
	}
	return value
}
