package agent

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/secgossip/secgossip/handler"
	"github.com/secgossip/secgossip/internal/link"
)

// supervised is a runner with a handler of this text that was told of one event.
func supervised(t *testing.T, text string) (*runner, *gate, *strings.Builder) {
	t.Helper()
	if !canRun(t) {
		t.Skip("handlers cannot be confined here")
	}
	// The handler's user must come through every folder above it.
	dir, err := os.MkdirTemp("", "supervised")
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	check(t, os.Chmod(dir, 0o755))
	program := filepath.Join(dir, "handler.sh")
	check(t, os.WriteFile(program, []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	check(t, os.Chmod(program, 0o755))
	settings := loopback().Merge(Settings{EventHandlers: []string{"member-join=" + program}})
	plan, err := settings.check()
	check(t, err)
	log := new(strings.Builder)
	gate := &gate{to: log}
	r, err := newRunner(newHome(t), settings, plan, account{}, gate)
	check(t, err)
	t.Cleanup(func() { check(t, r.close()) })
	member := handler.Member{Name: "web-2"}
	if n := r.handlers.Dispatch(handler.Event{Kind: handler.KindMemberJoin, Members: []handler.Member{member}}); n != 1 {
		t.Fatalf("%d handlers are told, want 1", n)
	}
	return r, gate, log
}

// However the network process ends, handlers run for what has been accepted.
func TestHandlersAreWaitedForHoweverTheNetworkProcessEnds(t *testing.T) {
	for what, last := range map[string]link.Message{
		"well":                     new(link.Final),
		"with a problem":           &link.Final{Problem: "the disk is gone"},
		"without a word":           nil,
		"with what nobody may say": &link.Members{Event: "member-join"},
	} {
		r, gate, _ := supervised(t, "exit 0")
		ours, theirs := net.Pipe()
		l, network := link.New(ours, link.Runner), link.New(theirs, link.Network)
		go func() {
			if last == nil {
				_ = network.Close()
				return
			}
			_ = network.Send(last)
		}()
		if err := r.supervise(l, gate, nil); (err == nil) != (what == "well") {
			t.Errorf("%s: %v", what, err)
		}
		if got := r.handlers.Stats()[0].Runs; got != 1 {
			t.Errorf("%s: %d runs are over, want one", what, got)
		}
		_, _ = network.Close(), l.Close()
	}
}

// Who stops an agent twice waits for no handler.
func TestASecondStopDrainsNothing(t *testing.T) {
	r, gate, log := supervised(t, "sleep 60")
	ours, theirs := net.Pipe()
	l, network := link.New(ours, link.Runner), link.New(theirs, link.Network)
	defer l.Close()
	signals := make(chan os.Signal, 2)
	signals <- syscall.SIGTERM
	signals <- syscall.SIGTERM
	go func() {
		for range 2 {
			_, _ = network.Receive() // a test whose stops do not come ends below
		}
		_ = network.Send(&link.Final{Problem: "stopped twice"})
		_ = network.Close()
	}()
	if err := r.supervise(l, gate, signals); err == nil || err.Error() != "stopped twice" {
		t.Errorf("got %v", err)
	}
	gate.release("")
	gate.mu.Lock()
	defer gate.mu.Unlock()
	if strings.Contains(log.String(), "did not end in time") {
		t.Errorf("handlers were waited for:\n%s", log)
	}
}

// A reload that comes too late is no stop.
func TestAReloadCutsNoHandlerShort(t *testing.T) {
	r, gate, _ := supervised(t, "sleep 0.2")
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGHUP
	r.drain(gate, signals)
	if got := r.handlers.Stats()[0]; got.Runs != 1 || got.Failures != 0 {
		t.Errorf("%d runs are over, %d of them failed; want one that did its work", got.Runs, got.Failures)
	}
}

// A provider that is slow to end does not use up the time that handlers have.
func TestHandlersAreClosedWhileProvidersEnd(t *testing.T) {
	plan, err := loopback().check()
	check(t, err)
	r, err := newRunner(newHome(t), loopback(), plan, account{}, new(strings.Builder))
	check(t, err)
	r.asked.start(func(ctx context.Context) {
		<-ctx.Done()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := r.handlers.Reload(nil, handler.Settings{}); errors.Is(err, handler.ErrClosed) {
				return
			}
			select {
			case <-tick.C:
			case <-t.Context().Done():
				return
			}
		}
	})
	check(t, r.close())
}
