package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/secgossip/secgossip/handler"
	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/secgossip"
)

// newHome is a home with a cluster of its own.
func newHome(t *testing.T) home.Home {
	t.Helper()
	at := home.Home(filepath.Join(t.TempDir(), "home"))
	if err := at.Init(context.Background(), home.InitRequest{
		Cluster: "demo", Node: "web-1", Passphrase: []byte("correct horse battery staple"), WorkFactor: 15,
	}, time.Now()); err != nil {
		t.Fatal(err)
	}
	return at
}

// loopback is settings for an agent that takes any free ports.
func loopback() Settings {
	return DefaultSettings().Merge(Settings{Bind: "127.0.0.1:0", RPCAddr: "127.0.0.1:0", Profile: string(secgossip.ProfileLocal)})
}

// silent is a listener that takes connections and says nothing.
func silent(t *testing.T) (address string, taken <-chan net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan net.Conn, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns <- conn
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-done
		for len(conns) > 0 {
			(<-conns).Close()
		}
	})
	return listener.Addr().String(), conns
}

func TestAnAgentThatStopsLeavesNothingRunning(t *testing.T) {
	at := newHome(t)
	leaks := goleak.IgnoreCurrent()
	for _, how := range []string{"closed", "left and closed"} {
		a, err := Start(at, loopback(), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if banner := a.banner(); !strings.Contains(banner, "Encrypted: AES-256-GCM, epoch 1") {
			t.Errorf("the banner does not say that it is encrypted:\n%s", banner)
		}
		if err := <-a.Join(); err != nil {
			t.Error(err)
		}
		if how != "closed" {
			if err := a.Leave(); err != nil {
				t.Error(err)
			}
		}
		if err := a.Close(); err != nil {
			t.Errorf("%s: %v", how, err)
		}
	}
	goleak.VerifyNone(t, leaks)
}

// Whoever joins by an address where nobody answers is not held up by that.
func TestAnAgentThatIsJoiningCanBeStopped(t *testing.T) {
	at := newHome(t)
	address, taken := silent(t)
	leaks := goleak.IgnoreCurrent()
	for what, settings := range map[string]Settings{"join": {Join: []string{address}}, "retry-join": {RetryJoin: []string{address}}} {
		a, err := Start(at, loopback().Merge(settings), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		a.Join()
		conn := <-taken // it is waiting for an answer now
		if err := a.Close(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		conn.Close()
	}
	goleak.VerifyNone(t, leaks)
}

func TestAnAgentThatIsRefusedLeavesNothingRunning(t *testing.T) {
	at, running := newHome(t), newHome(t)
	taken, _ := silent(t)
	busy, err := Start(running, loopback(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	leaks := goleak.IgnoreCurrent()
	var tooMany []string
	for i := range 9 {
		tooMany = append(tooMany, fmt.Sprintf("192.0.2.%d", i+1))
	}
	for what, test := range map[string]struct {
		at    home.Home
		over  Settings
		setup bool // whether the same would happen again
	}{
		"settings":      {at, Settings{Bind: "host"}, true},
		"no home":       {home.Home(t.TempDir()), Settings{}, true},
		"handler":       {at, Settings{EventHandlers: []string{"/no/such/program"}}, true},
		"handler user":  {at, Settings{EventHandlers: []string{"/bin/sh"}, HandlerUser: "no-such-user"}, true},
		"rpc-addr":      {at, Settings{RPCAddr: taken}, false},
		"metrics-addr":  {at, Settings{MetricsAddr: taken}, false},
		"bind":          {at, Settings{Bind: taken}, false},
		"other's":       {at, Settings{Bind: "192.0.2.1"}, true},
		"advertised":    {at, Settings{Bind: "127.0.0.1:1", Advertise: tooMany}, true},
		"home is taken": {running, Settings{}, false},
	} {
		t.Run(what, func(t *testing.T) {
			a, err := Start(test.at, loopback().Merge(test.over), io.Discard)
			if err == nil {
				a.Close()
				t.Fatal("it was started")
			}
			if errors.Is(err, ErrSetup) != test.setup {
				t.Errorf("got %v, want wrapped in %q: %t", err, ErrSetup, test.setup)
			}
		})
	}
	goleak.VerifyNone(t, leaks)
}

func TestTheBannerSaysWhoRunsHandlers(t *testing.T) {
	own := handler.Spec{Settings: handler.Settings{User: "deploy"}}
	for want, specs := range map[string][]handler.Spec{
		"none": nil, "1, as ": make([]handler.Spec, 1), "2, as ": {{}, own},
	} {
		got := DefaultSettings().handlersText(plan{handlers: specs})
		if !strings.HasPrefix(got, want) || strings.Contains(got, "''") {
			t.Errorf("got %q, want %q", got, want)
		}
		if more := strings.Contains(got, "of their own"); more != (os.Geteuid() == 0 && len(specs) == 2) {
			t.Errorf("%q speaks of several users: %t", got, more)
		}
	}
}
