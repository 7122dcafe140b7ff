package lab

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var kills = flag.Int("kills", 15, "how often TestKillingEitherProcess... kills, as each user")

// users are whom an agent can be started as here: a prefix that becomes them, and how
// the lab is given to them.
func users(t *testing.T) map[string]func(l *Lab, n *Node) {
	all := map[string]func(*Lab, *Node){"as it is": func(*Lab, *Node) {}}
	if os.Geteuid() != 0 {
		return all
	}
	// A number of nobody's: it must be able to own a home, and no more.
	const ordinary = 61000
	all["an ordinary user"] = func(l *Lab, n *Node) {
		l.Handlers = Account{ordinary, ordinary}
		for _, folder := range []string{l.In(n.Name), l.In("scratch")} {
			must(t, filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
				return errors.Join(err, os.Lchown(path, ordinary, ordinary))
			}))
		}
		id := fmt.Sprint(ordinary)
		n.Prefix = []string{"setpriv", "--reuid", id, "--regid", id, "--clear-groups", "--"}
	}
	return all
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// withHandler is an agent whose handler writes the payload of each event into a file.
func withHandler(t *testing.T, give func(*Lab, *Node)) (*Lab, *Node) {
	l, n := newAgent(t)
	give(l, n)
	must(t, l.WriteProgram("note", "#!/bin/sh\nexec cat >>"+l.Output(n.Name)+"\n"))
	must(t, l.Handlers.Create(l.Output(n.Name)))
	n.Flags = []string{"--event-handler", "user=" + l.Program("note"), "--handler-writable", l.Output(n.Name)}
	t.Cleanup(func() { n.Kill() })
	return l, n
}

// Threats L11 and L12: whichever of the two processes is killed, at whatever moment, the
// other ends as well, the agent starts again, and no event runs a handler twice.
func TestKillingEitherProcessEndsBothAndRunsNothingTwice(t *testing.T) {
	if testing.Short() {
		t.Skip("kills many agents")
	}
	for who, give := range users(t) {
		t.Run(who, func(t *testing.T) {
			l, n := withHandler(t, give)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			chance := rand.New(rand.NewPCG(seed, 0))
			var fired atomic.Int64
			for round := range *kills {
				must(t, l.Start(t.Context(), n))
				runner, network := n.PID(), n.NetworkPID()
				if network == 0 {
					t.Fatal("there is no network process")
				}
				ctx, cancel := context.WithCancel(t.Context())
				firing := make(chan struct{})
				go func() {
					defer close(firing)
					for ctx.Err() == nil {
						// It fails when the agent is killed meanwhile.
						_, _ = l.Ask(ctx, n.Name, n, "--timeout", "5s", "event", "--coalesce=false", "note", fmt.Sprintf("%d\n", fired.Add(1)))
					}
				}()
				// Not a wait for anything: chance is what is tested.
				time.Sleep(time.Duration(chance.IntN(300)) * time.Millisecond)
				victim := []int{runner, network}[round%2]
				must(t, syscall.Kill(victim, syscall.SIGKILL))
				err := Await(t.Context(), func(context.Context) error {
					if n.Running() || !Gone(network) {
						return errors.New("a part of the agent still runs")
					}
					return nil
				})
				cancel()
				<-firing
				must(t, err)
				if err := n.Stop(); err == nil {
					t.Error("an agent that was killed ended well")
				}
			}
			must(t, l.Start(t.Context(), n)) // the files it left are whole
			must(t, n.Stop())

			content, err := os.ReadFile(l.Output(n.Name))
			must(t, err)
			ran := strings.Fields(string(content))
			slices.Sort(ran)
			if twice := len(ran) - len(slices.Compact(slices.Clone(ran))); twice != 0 {
				t.Errorf("%d events ran a handler twice", twice)
			}
			for _, payload := range ran {
				if number := 0; func() bool { _, err := fmt.Sscan(payload, &number); return err != nil }() || int64(number) > fired.Load() {
					t.Errorf("a handler ran for %q, which nobody fired", payload)
				}
			}
			if len(ran) == 0 {
				t.Error("no event ran a handler: nothing was tested")
			}
			t.Logf("%d events fired, %d ran", fired.Load(), len(ran))
		})
	}
}

// statusOf is a process's status by its fields.
func statusOf(t *testing.T, pid int) map[string]string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	fields := make(map[string]string)
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.Join(strings.Fields(value), " ")
	}
	return fields
}

// socketsOf are the sockets that a process has open.
func socketsOf(t *testing.T, pid int) (sockets []string) {
	t.Helper()
	folder := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("only root can look at the descriptors of a process that is closed to others")
	}
	must(t, err)
	for _, entry := range entries {
		if to, err := os.Readlink(filepath.Join(folder, entry.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			sockets = append(sockets, to)
		}
	}
	return sockets
}

// Threat L12: what hears the network is nobody, and what runs handlers hears nobody.
func TestProcessesOfAnAgentHaveOnlyWhatTheyNeed(t *testing.T) {
	for who, give := range users(t) {
		t.Run(who, func(t *testing.T) {
			l, n := withHandler(t, give)
			must(t, l.Start(t.Context(), n))
			status := statusOf(t, n.NetworkPID())
			const none = "0000000000000000"
			want := map[string]string{
				"CapInh": none, "CapPrm": none, "CapEff": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2", "Groups": "",
			}
			if os.Geteuid() != 0 {
				delete(want, "Groups") // nobody but root can give them up
			}
			if os.Geteuid() == 0 && n.Prefix == nil {
				want["CapBnd"] = none
				var uid int
				if _, err := fmt.Sscan(status["Uid"], &uid); err != nil || uid < 61184 || uid > 65519 {
					t.Errorf("it runs as user %s, want one that no account has", status["Uid"])
				}
			}
			for field, value := range want {
				if status[field] != value {
					t.Errorf("%s of the network process is %q, want %q", field, status[field], value)
				}
			}
			info, err := l.Info(t.Context(), n.Name, n)
			must(t, err)
			for _, layer := range []string{"privileges", "memory", "files", "system calls"} {
				if !strings.HasPrefix(info["confinement"][layer], "enforced: true") {
					t.Errorf("%s: %s", layer, info["confinement"][layer])
				}
			}
			local, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/unix", n.PID()))
			must(t, err)
			sockets := socketsOf(t, n.PID())
			if len(sockets) < 1 || len(sockets) > 2 {
				t.Errorf("the runner has %d sockets, want its ends of the link and of its handler's spare", len(sockets))
			}
			for _, socket := range sockets {
				if inode := strings.Trim(socket, "socket:[]"); !strings.Contains(string(local), " "+inode+"\n") {
					t.Errorf("%s of the runner leads out of the host, or to a path", socket)
				}
			}
			if sockets := socketsOf(t, n.NetworkPID()); len(sockets) < 4 {
				t.Errorf("the network process has %d sockets: nothing was looked at", len(sockets))
			}
			must(t, n.Stop())
		})
	}
}

// Both hear the terminal's signal, and one of them what it means.
func TestInterruptOfTheWholeGroupIsOneLeave(t *testing.T) {
	l, n := newAgent(t)
	t.Cleanup(func() { n.Kill() })
	must(t, l.Start(t.Context(), n))
	must(t, syscall.Kill(-n.PID(), syscall.SIGINT)) // the lab gives each agent a group
	must(t, Await(t.Context(), func(context.Context) error {
		if n.Running() {
			return errors.New("it still runs")
		}
		return nil
	}))
	log, err := os.ReadFile(l.Log(n.Name))
	must(t, err)
	if got := strings.Count(string(log), "Caught"); got != 1 || !strings.Contains(string(log), "member-leave") {
		t.Errorf("it caught %d signals, want one, and a leave:\n%s", got, log)
	}
	if code := n.agent.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}
