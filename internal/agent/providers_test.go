package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/secgossip/secgossip/handler"
	"github.com/secgossip/secgossip/internal/discover"
	"github.com/secgossip/secgossip/internal/link"
)

// printed is a provider without a program: what it says is the test's.
func printed(says func() handler.Result) (*provider, *bytes.Buffer, *int) {
	log, runs := new(bytes.Buffer), new(int)
	return &provider{
		path: "/usr/local/bin/nodes", now: time.Now, logger: slog.New(slog.NewTextHandler(log, nil)),
		run: func(context.Context, map[string]string) handler.Result { *runs++; return says() },
	}, log, runs
}

func prints(text string) handler.Result {
	return handler.Result{Started: true, Stdout: handler.Output{Head: []byte(text)}}
}

func TestProviderIsRunNoMoreOftenThanItMayBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, runs := printed(func() handler.Result { return prints("web-1\n") })
		for range 100 { // 10 s
			if found := p.findLocked(t.Context(), nil); !slices.Equal(found.Addresses, []string{"web-1"}) || found.Runs != 1 {
				t.Fatalf("got %+v", found)
			}
			time.Sleep(providerPause / 100)
		}
		if p.findLocked(t.Context(), nil); *runs != 2 {
			t.Errorf("it was run %d times, want twice", *runs)
		}
	})
}

func TestProviderThatFailsIsSaidOnceForEachChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		result := handler.Result{Started: true, ExitCode: 3, Stdout: handler.Output{Head: []byte("web-1\n")}, Stderr: handler.Output{Head: []byte("no\nroute")}}
		p, log, _ := printed(func() handler.Result { return result })
		var found link.Discovered
		ask := func() {
			for range 5 {
				found = p.findLocked(t.Context(), nil)
				time.Sleep(providerPause)
			}
		}
		ask()
		if found.Failures != 5 || found.Runs != 5 || len(found.Addresses) > 0 || !strings.Contains(found.Problem, "exit code 3") {
			t.Errorf("got %+v, want nothing of a run that failed", found)
		}
		result = handler.Result{ExitCode: -1, Err: handler.ErrTimeout}
		ask()
		result = prints("web-1\nhttp://web-2\n")
		if ask(); len(found.Addresses) != 1 || found.Failures != 15 {
			t.Errorf("got %+v, want the good address and a failure for the other", found)
		}
		result = prints("web-1\n")
		if ask(); found.Problem != "" || found.Failures != 15 || found.Runs != 20 {
			t.Errorf("got %+v", found)
		}
		result = handler.Result{Started: true, Stdout: handler.Output{Head: []byte("web-1\nweb"), Omitted: 1}}
		if ask(); len(found.Addresses) > 0 {
			t.Errorf("got %+v of an output that is cut off", found)
		}
		text := log.String()
		if warned, info := strings.Count(text, "level=WARN"), strings.Count(text, "level=INFO"); warned != 4 || info != 1 || strings.Count(text, "\n") != 5 {
			t.Errorf("%d warnings and %d other lines, want 4 and 1:\n%s", warned, info, text)
		}
	})
}

// Threat L12.
func TestNetworkProcessCanAskProvidersOfTheSettingsAndNothingElse(t *testing.T) {
	h := newBroken(t)
	release := make(chan struct{})
	p, _, _ := printed(func() handler.Result { <-release; return prints("web-1\n") })
	h.runner.asked.list = []*provider{p}
	for ask := range uint64(100) {
		check(t, h.Send(&link.Discover{Ask: ask}))
	}
	for ask := range uint64(99) {
		// Those that were asked while it runs are refused, and wait for nothing.
		if m := received[*link.Discovered](t, h); m.Ask != ask+1 || !strings.Contains(m.Problem, "already") {
			t.Fatalf("got %+v", m)
		}
	}
	if got := h.report(t).Refused; got != 0 {
		t.Errorf("%d events are refused", got)
	}
	close(release)
	if m := received[*link.Discovered](t, h); m.Ask != 0 || !slices.Equal(m.Addresses, []string{"web-1"}) || m.Runs != 1 {
		t.Errorf("got %+v", m)
	}
	check(t, h.Send(&link.Discover{Provider: 1}))
	if err := <-h.over; !errors.Is(err, errTold) {
		t.Errorf("one that there is not: got %v, want %v", err, errTold)
	}
}

func TestRunnerEndsTheProvidersThatRun(t *testing.T) {
	h := newBroken(t)
	p, _, _ := printed(nil)
	p.run = func(ctx context.Context, _ map[string]string) handler.Result {
		<-ctx.Done()
		return handler.Result{ExitCode: -1, Err: handler.ErrClosed}
	}
	h.runner.asked.list = []*provider{p}
	check(t, h.Send(new(link.Discover)))
	h.report(t)
	check(t, h.runner.close())
	if !p.mu.TryLock() {
		t.Error("it still runs")
	}
}

func TestPlacesThatAreProgramsAreTheSettingsAlone(t *testing.T) {
	settings := loopback().Merge(Settings{Join: []string{"exec:/b", "web-1"}, RetryJoin: []string{"exec:/a x", "exec:/b", "exec:/a"}})
	plan, err := settings.check()
	if want := []string{"exec:/b", "exec:/a x", "exec:/a"}; err != nil || !slices.Equal(plan.providers, want) || plan.runsAtOnce() != 3 {
		t.Errorf("got %q, %v, want %q", plan.providers, err, want)
	}
	for i := range link.MaxProviders {
		settings.RetryJoin = append(settings.RetryJoin, fmt.Sprintf("exec:/%d", i))
	}
	settings.Join = append(settings.Join, "exec:sh")
	if err := settings.Check(); err == nil || !strings.Contains(err.Error(), "at most 16") || !strings.Contains(err.Error(), "join: \"exec:sh\"") {
		t.Errorf("got %v", err)
	}
	// What a client or an issuer of identities names is never run.
	if _, err := ConfigFor(nil, []string{"exec:/bin/sh"}); !errors.Is(err, discover.ErrNoPrograms) {
		t.Errorf("an invitation: got %v, want %v", err, discover.ErrNoPrograms)
	}
	who := account{uid: 0, switched: true}
	if err := who.apartFrom(Settings{HandlerUser: "root"}, plan); err == nil {
		t.Error("a provider may be the user of the network process")
	}
}

// A program on a real agent finds another one. Whoever else it names has no
// certificate, and does no harm.
func TestProviderFindsTheCluster(t *testing.T) {
	if !canRun(t) {
		t.Skip("programs cannot be confined here")
	}
	nobody, _ := silent(t)
	program := filepath.Join(folder(t), "nodes")
	write := func(text string) {
		t.Helper()
		check(t, os.WriteFile(program, []byte("#!/bin/sh\n"+text), 0o755))
		check(t, os.Chmod(program, 0o755))
		check(t, os.Chmod(filepath.Dir(filepath.Dir(program)), 0o755))
	}
	write("echo $1 '# nobody'; echo 127.0.0.1:1")
	settings := loopback().Merge(Settings{RetryJoin: []string{"exec:" + program + " " + nobody}, RetryMax: 1, RetryInterval: "1s"})
	a, err := Start(newHome(t), settings, io.Discard)
	check(t, err)
	defer a.Close()
	joined := a.Join()
	check(t, <-joined)
	if err := <-joined; err == nil || !strings.Contains(err.Error(), nobody) {
		t.Errorf("got %v, want that nobody answers at %s", err, nobody)
	}
	if got := a.providers()["0 "+program]; got != "1 runs, 0 failures, 2 addresses" {
		t.Errorf("got %q of %q", got, a.providers())
	}
	if _, err := a.ask(t.Context(), "exec:/bin/sh"); !errors.Is(err, discover.ErrNoPrograms) {
		t.Errorf("another program: got %v, want %v", err, discover.ErrNoPrograms)
	}
	settings.RetryJoin = []string{"exec:" + program + "-not-there"}
	if _, err := Start(newHome(t), settings, io.Discard); !errors.Is(err, ErrSetup) || !strings.Contains(err.Error(), "provider") {
		t.Errorf("got %v, want %v", err, ErrSetup)
	}
}
