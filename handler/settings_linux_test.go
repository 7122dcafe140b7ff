package handler

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestLimitsAreThoseOfTheHandler(t *testing.T) {
	program := script(t, "ulimit -Hf; ulimit -Hd")
	for _, own := range []Settings{{FileSize: 1 << 20, Memory: 512 << 20}, {FileSize: 32 << 20, Memory: 128 << 20}} {
		r := runConfig(t, Config{Specs: []Spec{{Filters: []Filter{{Kind: kindAny}}, Program: program, Settings: own}}}, Event{Kind: KindUser, Name: "x"})
		want := fmt.Sprintf("%d\n%d\n", own.FileSize/512, own.Memory/1024) // sh counts blocks and KiB
		if raceDetector {
			want, _, _ = strings.Cut(want, "\n")
		}
		if !strings.HasPrefix(r.Stdout.String(), want) {
			t.Errorf("got %q, %v, want %q", r.Stdout, r.Err, want)
		}
	}
}

func TestReadablePathsAreAllThatIsRead(t *testing.T) {
	dir := folder(t)
	named := write(t, filepath.Join(dir, "named"), "named\n", 0o644)
	other := write(t, filepath.Join(dir, "other"), "other\n", 0o644)
	program := script(t, "cat "+named+" "+other+" 2>/dev/null; exit 0")
	run := func(own Settings) string {
		return runConfig(t, Config{Specs: []Spec{{Filters: []Filter{{Kind: kindAny}}, Program: program, Settings: own}}},
			Event{Kind: KindUser, Name: "x"}).Stdout.String()
	}
	if got := run(Settings{}); got != "named\nother\n" {
		t.Errorf("without the setting it read %q", got)
	}
	if got := run(Settings{Readable: []string{named}}); got != "named\n" {
		t.Errorf("it read %q, want what was named", got)
	}
}

func TestPrivateFileCannotBeMadeReadable(t *testing.T) {
	needLandlock(t)
	private := folder(t)
	key := write(t, filepath.Join(private, "key"), "secret", 0o644)
	symlink(t, key, filepath.Join(folder(t), "link"))
	for _, path := range []string{key, private, filepath.Join(private, "absent")} {
		spec := everyEvent(script(t, "exit 0"))
		spec.Settings.Readable = []string{path}
		if _, err := New(Config{Specs: []Spec{spec}, Private: []string{private}, ScratchRoot: folder(t)}); err == nil {
			t.Errorf("%s was made readable", path)
		}
	}
}

// Each run waits until all of them are there, so this ends only when they run at
// once.
func TestAsManyRunsAtOnceAsTheSettingsSay(t *testing.T) {
	dir := granted(t)
	const atOnce = 3
	program := script(t, fmt.Sprintf(`touch %s/$SERF_USER_LTIME
until [ $(ls %[1]s | wc -l) -ge %d ]; do sleep 0.01; done`, dir, atOnce))
	spec := everyEvent(program)
	spec.Settings = Settings{Concurrency: atOnce, Writable: []string{dir}}
	results := make(chan Result, atOnce)
	r := launch(t, Config{Specs: []Spec{spec}, OnResult: func(r Result) { results <- r }})
	for i := range atOnce {
		r.Dispatch(Event{Kind: KindUser, Name: "x", LTime: uint64(i)})
	}
	for range atOnce {
		if got := receive(t, results); !got.Done() {
			t.Errorf("exit %d, %v, %s", got.ExitCode, got.Err, got.Stderr)
		}
	}
}

func TestNetworkIsThereWhenTheSettingsSaySo(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash, which can open a connection, is not here")
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	program := write(t, filepath.Join(folder(t), "connect"), "#!"+bash+"\nexec 3<>/dev/tcp/127.0.0.1/"+port+" && echo connected\n", 0o755)
	for _, network := range []bool{false, true} {
		spec := everyEvent(program)
		spec.Settings.Network = network
		r := runConfig(t, Config{Specs: []Spec{spec}}, Event{Kind: KindUser, Name: "x"})
		if got := r.Stdout.String() == "connected\n"; got != network {
			t.Errorf("network %t: it printed %q and %q, %v", network, r.Stdout, r.Stderr, r.Err)
		}
	}
}
