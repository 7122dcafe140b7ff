// Package once holds tests of real agents that are killed while handlers run: what
// an event brings about is brought about once.
//
// Every step of a run is killed one by one in package handler. Here it is the
// program itself, its disk, and any moment. Agents listen on loopback.
package once

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/internal/lab"
	"github.com/secgossip/secgossip/internal/rpc"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
)

var kills = flag.Int("kills", 30, "how often a process of the agent is killed")

const (
	node = "web-1"
	// loads is how many clients fire events at the same time.
	loads = 2
	// longestLife is how long an agent may run before it is killed: some runs fit.
	longestLife = 300 * time.Millisecond
	callTimeout = 5 * time.Second
)

// program is the one that is killed.
var program lab.Binary

func TestMain(m *testing.M) { os.Exit(program.Run(m)) }

// agent is the agent that is killed again and again.
type agent struct {
	*testing.T
	*lab.Lab
	node     *lab.Node
	operator *home.Client

	mu    sync.Mutex
	fired [][]byte // every event so far, accepted or not
}

func newAgent(t *testing.T) *agent {
	t.Helper()
	bin, err := program.Path()
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.New(bin, "once")
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{T: t, Lab: l, node: &lab.Node{Name: node, Flags: []string{"--profile", "local"}}}
	t.Cleanup(func() {
		a.node.Kill()
		if lines, err := lab.ReadLines(l.Log(node)); err == nil && t.Failed() {
			t.Logf("the log ends:\n  %s", strings.Join(lines[max(0, len(lines)-8):], "\n  "))
		}
		if a.operator != nil {
			a.operator.Key.Destroy()
		}
		if err := l.Remove(); err != nil {
			t.Error(err)
		}
	})
	a.must(l.Init(t.Context(), "once", node))
	account, err := lab.HandlerAccount()
	a.must(err)
	settings := "handlers:\n"
	for name, idempotent := range map[string]string{"plain": "no", "again": "yes"} {
		output := l.Output(name)
		a.must(account.Create(output))
		a.must(l.WriteProgram(name+".sh", fmt.Sprintf("#!/bin/sh\necho $SECGOSSIP_EVENT_ID >> %s\nsleep 0.01\n", output)))
		settings += fmt.Sprintf("- {name: %s, on: user, run: %s, writable: [%s], idempotent: %s, queue: 1024}\n",
			name, l.Program(name+".sh"), output, idempotent)
	}
	a.must(os.WriteFile(home.Home(l.In(node)).Config(), []byte(settings), 0o600))
	a.operator, err = home.Home(l.In(node)).LoadClient(time.Now())
	a.must(err)
	return a
}

func (a *agent) must(err error) {
	a.Helper()
	if err != nil {
		a.Fatal(err)
	}
}

func (a *agent) client() *rpc.Client {
	own := func() (*tls.Certificate, error) { return a.operator.Certificate, nil }
	return rpc.NewClient(a.operator.Trust.ClientTLS(own, "", time.Now), a.node.RPC, func() string { return a.operator.Token })
}

// fire fires new events, one after another, until the agent is not there any more.
func (a *agent) fire(ctx context.Context) {
	client := a.client()
	defer client.Close()
	for ctx.Err() == nil {
		token, err := rpcauth.ParseTokenText(a.operator.Token)
		if err != nil {
			a.Error(err)
			return
		}
		now := time.Now()
		raw, err := rpcauth.SignEvent(a.operator.Key, token, rpcauth.EventRequest{
			Cluster: a.operator.Trust.Cluster(), Name: "x", LTime: uint64(now.UnixMilli()), Life: rpcauth.MaxEventLife,
		}, now)
		if err != nil {
			a.Error(err)
			return
		}
		a.mu.Lock()
		a.fired = append(a.fired, raw)
		a.mu.Unlock()
		call, cancel := context.WithTimeout(ctx, callTimeout)
		_, err = client.FireEvent(call, &secgossipv1.FireEventRequest{Event: raw})
		cancel()
		if err != nil {
			return // it was killed
		}
	}
}

// kill kills one of the agent's two processes, and waits for the end of both.
func (a *agent) kill(runner bool) error {
	network := a.node.NetworkPID()
	if network == 0 { // on systems where it is one process
		return a.node.Kill()
	}
	victim := network
	if runner {
		victim = a.node.PID()
	}
	if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
		return err
	}
	return lab.Await(a.Context(), func(context.Context) error {
		if a.node.Running() || !lab.Gone(network) {
			return errors.New("a part of the agent still runs")
		}
		return nil
	})
}

// replay fires everything of before again.
func (a *agent) replay(since int) {
	client := a.client()
	defer client.Close()
	for _, raw := range a.fired[since:] {
		ctx, cancel := context.WithTimeout(a.Context(), callTimeout)
		_, _ = client.FireEvent(ctx, &secgossipv1.FireEventRequest{Event: raw}) // most are refused
		cancel()
	}
}

// known are the ids of all events that were fired.
func (a *agent) known() map[string]bool {
	text, err := os.ReadFile(filepath.Join(a.In(node), "node", "issuer.crt"))
	a.must(err)
	issuer, err := pki.ParseCertificates(text)
	a.must(err)
	_, err = a.operator.Trust.AddIssuer(issuer[0].Raw, time.Now())
	a.must(err)
	verifier := rpcauth.NewVerifier(a.operator.Trust)
	ids := make(map[string]bool)
	for _, raw := range a.fired {
		e, err := verifier.VerifyEvent(raw, time.Now())
		a.must(err)
		ids[e.IDText()] = true
	}
	return ids
}

// times is how often each event was run by a handler.
func (a *agent) times(handler string) map[string]int {
	lines, err := lab.ReadLines(a.Output(handler))
	a.must(err)
	count := make(map[string]int)
	for _, line := range lines {
		if line = strings.TrimSpace(line); line != "" {
			count[line]++
		}
	}
	return count
}

func TestKilledAgentsRunNoEventTwice(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	a := newAgent(t)
	random := rand.New(rand.NewPCG(5, 0))
	replayed := 0
	for round := range *kills {
		a.must(a.Start(t.Context(), a.node))
		since := len(a.fired)
		a.replay(replayed)
		replayed = since
		ctx, cancel := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		for range loads {
			clients.Go(func() { a.fire(ctx) })
		}
		time.Sleep(time.Duration(random.Int64N(int64(longestLife)))) // the moment is what the test is about
		a.must(a.kill(round%2 == 0))
		cancel()
		clients.Wait()
	}
	a.must(a.Start(t.Context(), a.node))
	a.replay(0)
	a.must(lab.Await(t.Context(), a.idle))

	plain, again := a.times("plain"), a.times("again")
	known := a.known()
	for _, ran := range []map[string]int{plain, again} {
		for id := range ran {
			if !known[id] {
				t.Errorf("event %s was run, and nobody fired it", id)
			}
		}
	}
	repeated := 0
	for id, n := range plain {
		if n > 1 {
			t.Errorf("event %s was run %d times", id, n)
		}
	}
	for id, n := range again {
		if n > 2 {
			t.Errorf("event %s was run %d times by a handler that may be repeated once", id, n)
		}
		if n == 2 {
			repeated++
		}
	}
	t.Logf("%d kills, %d events fired; %d and %d were run, %d of them again after a kill", *kills, len(a.fired), len(plain), len(again), repeated)
	if len(plain) < *kills/2 || len(again) < *kills/2 {
		t.Errorf("%d and %d events were run: too few to say anything", len(plain), len(again))
	}
}

// idle complains while a handler runs, or has events that wait.
func (a *agent) idle(ctx context.Context) error {
	client := a.client()
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := client.ListHandlers(ctx, new(secgossipv1.ListHandlersRequest))
	if err != nil {
		return err
	}
	for _, h := range answer.GetHandlers() {
		if h.GetRunning()+h.GetWaiting() > 0 {
			return fmt.Errorf("handler %d has not ended", h.GetNumber())
		}
	}
	return nil
}
