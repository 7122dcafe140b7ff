//go:build unix

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/secgossip/secgossip/internal/agent"
)

// The scripts in testdata/script use what testscript knows, and the commands of
// this package's script_*_test.go files:
//
//	homes NAME...                 copies of homes that were made once: see templates
//	exits CODE ARG...             runs secgossip; its exit code must be CODE
//	comesto CODE ARG...           the same, again and again until it is
//	refuses CODE ARG...           as exits, and it must say why and change no file
//	daemon NAME ARG...            starts secgossip; it writes NAME.out and NAME.log
//	waitfor FILE RE [COUNT]       waits until FILE has COUNT matches, 1 by default
//	signal NAME INT|TERM|KILL     sends a signal to a daemon
//	ended NAME CODE               waits for a daemon to end; CODE may be killed
//	fields PATH NAME...           the JSON object at PATH of stdout has these fields and no other
//	value PATH RE                 the JSON value at PATH of stdout matches
//	truncate FILE SIZE            cuts a file off
//	handler FILE                  makes FILE.sh, which notes in FILE: NODE EVENT PAYLOAD
//	crowd ADDRESS...              strangers hold thousands of connections to each address
//	files NAME LIMIT              a daemon may open so many files from now on
//	memory NAME [MIB]             notes a daemon's memory; or it has grown by less since
//	nosecrets HOME FILE...        no secret of HOME is in a file, on stdout or in an argv
//
// Every script has a passphrase in ./pass, and the addresses GOSSIP1 to GOSSIP4
// and RPC1 to RPC4 for itself.

func TestMain(m *testing.M) {
	agent.Become()
	// The scripts speak of modes, and a handler's user must be able to run us.
	syscall.Umask(0o022)
	testscript.Main(m, map[string]func(){
		"secgossip": func() {
			agent.Become()
			e := &env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, workFactor: cheapWorkFactor}
			os.Exit(runIn(e, os.Args[1:]))
		},
		"secgossip-unabridged": main, // what is shipped
	})
}

// cheapWorkFactor is the least that keyring accepts. What is shipped takes a
// second and 256 MiB for each passphrase.
const cheapWorkFactor = 15

func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	// Under a strict umask go test makes a binary that only we may run.
	program, err := exec.LookPath("secgossip")
	check(t, err)
	check(t, os.Chmod(program, 0o755))
	made := templates(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		WorkdirRoot:         openFolder(t),
		RequireExplicitExec: true,
		Condition: func(name string) (bool, error) {
			if name != "multicast" {
				return false, fmt.Errorf("condition %q: there is only multicast", name)
			}
			return multicastComesBack(), nil
		},
		RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			if err := os.Chmod(e.WorkDir, 0o755); err != nil {
				return err
			}
			// Without --home, no script may reach this machine's own.
			e.Setenv("SECGOSSIP_HOME", filepath.Join(e.WorkDir, "nowhere"))
			// The race detector's pause at the end of each process, a second of it.
			e.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
			for i := 1; i <= 4; i++ {
				e.Setenv(fmt.Sprintf("GOSSIP%d", i), freeAddress(t))
				e.Setenv(fmt.Sprintf("RPC%d", i), freeAddress(t))
			}
			w := &world{templates: made, env: e.Vars, dir: e.WorkDir, daemons: make(map[string]*daemon)}
			e.Values[worldKey{}] = w
			e.Defer(w.end)
			return os.WriteFile(filepath.Join(e.WorkDir, "pass"), []byte(passphrase+"\n"), 0o600)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"homes":     onlyPositive(cmdHomes),
			"exits":     onlyPositive(cmdExits),
			"comesto":   onlyPositive(cmdComesTo),
			"refuses":   onlyPositive(cmdRefuses),
			"daemon":    onlyPositive(cmdDaemon),
			"waitfor":   onlyPositive(cmdWaitFor),
			"capture":   onlyPositive(cmdCapture),
			"signal":    onlyPositive(cmdSignal),
			"ended":     onlyPositive(cmdEnded),
			"fields":    onlyPositive(cmdFields),
			"value":     onlyPositive(cmdValue),
			"truncate":  onlyPositive(cmdTruncate),
			"handler":   onlyPositive(cmdHandler),
			"crowd":     onlyPositive(cmdCrowd),
			"files":     onlyPositive(cmdFiles),
			"memory":    onlyPositive(cmdMemory),
			"nosecrets": onlyPositive(cmdNoSecrets),
		},
	})
}

// multicastComesBack reports whether one on loopback hears what another says to all.
func multicastComesBack() bool {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return false
	}
	ear, err := net.ListenMulticastUDP("udp4", lo, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251)})
	if err != nil {
		return false
	}
	defer ear.Close()
	mouth, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.UDPAddr{
		IP: net.IPv4(224, 0, 0, 251), Port: ear.LocalAddr().(*net.UDPAddr).Port,
	})
	if err != nil {
		return false
	}
	defer mouth.Close()
	if _, err := mouth.Write([]byte("anybody?")); err != nil {
		return false
	}
	_ = ear.SetReadDeadline(time.Now().Add(time.Second))
	_, err = ear.Read(make([]byte, 16))
	return err == nil
}

// worldKey is where a script keeps its world.
type worldKey struct{}

// world is what the commands of one script have in common.
type world struct {
	templates string // folder of the homes to copy
	env       []string
	dir       string
	daemons   map[string]*daemon
	crowds    []*crowd
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// onlyPositive refuses "! command": each command says itself what it expects.
func onlyPositive(command func(ts *testscript.TestScript, args []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("this command cannot be negated")
		}
		command(ts, args)
	}
}

// openFolder is a folder that a handler's user can pass through, and in which
// nobody else can write.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// lastPort counts up from a random place below the ports that systems give to
// outgoing connections, so that nobody takes one between our look and its use.
var lastPort atomic.Uint32

func freeAddress(t *testing.T) string {
	t.Helper()
	const lowest, count = 12_000, 18_000
	lastPort.CompareAndSwap(0, uint32(os.Getpid()*37%count))
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", lowest+lastPort.Add(1)%count)
		packet, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		packet.Close()
		stream, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		stream.Close()
		return address
	}
	t.Fatal("no port is free")
	return ""
}

// usage ends a script that calls a command the wrong way.
func usage(ts *testscript.TestScript, ok bool, text string) {
	if !ok {
		ts.Fatalf("usage: %s", strings.TrimSpace(text))
	}
}
