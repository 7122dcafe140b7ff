// Package field holds tests of real agents on real networks: the program that an
// operator runs, in network namespaces with a packet filter or a router between
// them. Each test is the story of one network that is not as one would like it.
//
// They need root, ip(8) and nft(8), and skip with the reason where networks
// cannot be made. All of them run at once, each in a network of its own: most of
// their time is the agents' own, such as that until a path is checked again.
package field

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/lab"
)

// program is the one that all stories start. whyNot is why none of networks is told.
var (
	program lab.Binary
	whyNot  string
)

func TestMain(m *testing.M) {
	if whyNot = lab.WhyNoNetworks(context.Background()); whyNot == "" {
		// All stories at once, however few the processors: they mostly wait.
		if err := flag.Set("test.parallel", "16"); err != nil {
			panic(err)
		}
	}
	os.Exit(program.Run(m))
}

// Times within which an agent must notice something by itself; they allow for a
// busy machine.
const (
	// A path is checked when it is new, after a probe that was not answered and
	// every 30 s, by six challenges of a second.
	blockedWithin = 80 * time.Second
	// A blocked one is tried every 5 s.
	openWithin = 30 * time.Second
	// A host looks at its addresses every 30 s.
	movedWithin = 60 * time.Second
)

// keeper is the host that makes the cluster. Its home has the client that asks
// every agent.
const keeper = "a"

// field is a cluster on a network.
type field struct {
	*testing.T
	*lab.Lab
	net   *lab.Network
	hosts []*host
	fired []string // payloads that every host's handlers must have seen
}

// host is one agent and the namespace it is in.
type host struct {
	*lab.Node
	*lab.Namespace
	name string
}

// newField makes a network and the identities of a cluster, the keeper's first.
func newField(t *testing.T, others ...string) *field {
	if whyNot != "" {
		t.Skip(whyNot)
	}
	t.Parallel()
	bin, err := program.Path()
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.New(bin, "field")
	if err != nil {
		t.Fatal(err)
	}
	f := &field{T: t, Lab: l}
	t.Cleanup(func() { f.check(l.Remove()) })
	if f.net, err = lab.NewNetwork(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.check(f.net.Remove()) })
	t.Cleanup(func() { f.check(f.end()) })
	f.must(l.WriteProgram("tell.sh", fmt.Sprintf(tellScript, l.In("output"))))
	f.must(l.Init(t.Context(), "field", keeper))
	for _, name := range others {
		f.must(l.IssueNode(t.Context(), keeper, name))
	}
	return f
}

// tellScript is a handler that writes what it read to a file of its node.
const tellScript = `#!/bin/sh
payload=$(cat)
printf '%%s\n' "$payload" >> %s/"$SERF_SELF_NAME".txt
`

func (f *field) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *field) check(err error) {
	f.Helper()
	if err != nil {
		f.Error(err)
	}
}

// end stops every agent, and shows how their logs end if the test has failed.
func (f *field) end() error {
	var nodes []*lab.Node
	for _, h := range f.hosts {
		nodes = append(nodes, h.Node)
	}
	err := lab.StopAll(nodes)
	if err == nil && !f.Failed() {
		return nil
	}
	for _, h := range f.hosts {
		lines := f.log(h)
		f.Logf("the log of %s ends:\n%s", h.name, strings.Join(lines[max(0, len(lines)-lastLines):], "\n"))
	}
	return err
}

// lastLines is how much of each agent's log is shown when a test fails.
const lastLines = 40

// add makes a host of the network with these addresses. Its agent is not started.
func (f *field) add(name string, addrs ...string) *host {
	var prefixes []netip.Prefix
	for _, addr := range addrs {
		prefixes = append(prefixes, netip.MustParsePrefix(addr))
	}
	space, err := f.net.Add(f.Context(), prefixes...)
	f.must(err)
	return &host{Namespace: space, name: name}
}

// gossipPort is every agent's.
const gossipPort = 7946

// at is where a host is reached from outside, by its first address.
func (h *host) at() string { return netip.AddrPortFrom(h.Addrs[0].Addr(), gossipPort).String() }

// start starts a host's agent.
func (f *field) start(h *host, bind string, flags ...string) *host {
	f.Helper()
	f.must(f.Handlers.Create(f.Output(h.name)))
	h.Node = &lab.Node{
		// RPC is on the loopback of the host's own namespace.
		Name: h.name, Gossip: bind, RPC: "127.0.0.1:7373", Prefix: h.Namespace.Prefix(),
		Flags: append([]string{
			"--event-handler", "user=" + f.Program("tell.sh"), "--handler-writable", f.Output(h.name),
		}, flags...),
	}
	f.hosts = append(f.hosts, h)
	f.must(f.Start(f.Context(), h.Node))
	return h
}

// ip runs lines of ip(8) on a host.
func (f *field) ip(h *host, lines ...string) {
	f.Helper()
	for _, line := range lines {
		_, err := h.Namespace.Run(f.Context(), append([]string{"ip"}, strings.Fields(line)...)...)
		f.must(err)
	}
}

// filter adds a chain to a host's packet filter: hook is input or output, rules
// are nft's.
func (f *field) filter(h *host, hook string, rules string) {
	f.Helper()
	f.must(h.Filter(f.Context(), fmt.Sprintf(
		"table inet field { chain %s { type filter hook %s priority 0; %s; }; }\n", hook, hook, rules)))
}

// await polls until complaint has nothing to say.
func (f *field) await(patience time.Duration, complaint func(ctx context.Context) error) {
	f.Helper()
	begun := time.Now()
	err := lab.AwaitFor(f.Context(), patience, func(ctx context.Context) error {
		for _, h := range f.hosts {
			if !h.Running() {
				return lab.Finally(fmt.Errorf("the agent of %s has ended", h.name))
			}
		}
		return complaint(ctx)
	})
	if err != nil {
		f.Fatalf("after %s: %v", time.Since(begun).Round(time.Second), err)
	}
}

// member is what `members --json` says of one.
type member struct {
	Name, Status, Path string
	Addr               netip.Addr
	Port               uint16
}

// members asks a host's agent for its members. No agent that tells an address
// tells one that leads the others to themselves, or nowhere.
func (f *field) members(ctx context.Context, h *host) (map[string]member, error) {
	var list struct{ Members []member }
	if err := f.AskJSON(ctx, &list, keeper, h.Node, "members"); err != nil {
		return nil, err
	}
	all := make(map[string]member)
	for _, m := range list.Members {
		if m.Addr.IsLoopback() || m.Addr.IsUnspecified() || !m.Addr.IsValid() || m.Port == 0 {
			f.Errorf("as %s sees it %s is at %s, port %d", h.name, m.Name, m.Addr, m.Port)
		}
		all[m.Name] = m
	}
	return all, nil
}

// awaitAlive waits until everybody sees everybody alive.
func (f *field) awaitAlive() {
	f.Helper()
	f.await(lab.Patience, func(ctx context.Context) error {
		for _, h := range f.hosts {
			members, err := f.members(ctx, h)
			if err != nil {
				return err
			}
			for _, other := range f.hosts {
				if got := members[other.name].Status; got != "alive" {
					return fmt.Errorf("as %s sees it %s is %q, want alive", h.name, other.name, got)
				}
			}
		}
		return nil
	})
}

// awaitPaths waits until a host's packets go to the others as wanted.
func (f *field) awaitPaths(h *host, want map[string]string) {
	f.Helper()
	f.await(lab.Patience, func(ctx context.Context) error {
		members, err := f.members(ctx, h)
		if err != nil {
			return err
		}
		got := make(map[string]string)
		for name, m := range members {
			if name != h.name {
				got[name] = m.Path
			}
		}
		if !maps.Equal(got, want) {
			return fmt.Errorf("paths from %s: got %v, want %v", h.name, got, want)
		}
		return nil
	})
}

// everybodyHears fires an event at every one of these hosts, or at all, and waits
// until the handlers of all hosts have run for each, once.
func (f *field) everybodyHears(when string, at ...*host) {
	f.Helper()
	if len(at) == 0 {
		at = f.hosts
	}
	for _, h := range at {
		f.fire(h, when+" from "+h.name)
	}
	f.awaitHandlers()
}

func (f *field) fire(at *host, payload string) {
	f.Helper()
	_, err := f.Ask(f.Context(), keeper, at.Node, "event", "--coalesce=false", "story", payload)
	f.must(err)
	f.fired = append(f.fired, payload)
}

func (f *field) awaitHandlers() {
	f.Helper()
	want := slices.Sorted(slices.Values(f.fired))
	f.await(lab.Patience, func(context.Context) error {
		for _, h := range f.hosts {
			got, err := lab.ReadLines(f.Output(h.name))
			if err != nil {
				return err
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				return fmt.Errorf("handlers of %s have run for %q, want %q", h.name, got, want)
			}
		}
		return nil
	})
}

// log is what a host's agent has logged.
func (f *field) log(h *host) []string {
	lines, err := lab.ReadLines(f.Log(h.name))
	f.check(err)
	return lines
}

// logged counts the lines of a host's log with all of these words.
func (f *field) logged(h *host, words ...string) (n int) {
	for _, line := range f.log(h) {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			n++
		}
	}
	return n
}

// awaitLogged waits until a host has logged a line about each of the others.
func (f *field) awaitLogged(patience time.Duration, h *host, text string, about ...string) {
	f.Helper()
	f.await(patience, func(context.Context) error {
		var missing []error
		for _, name := range about {
			if f.logged(h, text, "node="+name) == 0 {
				missing = append(missing, fmt.Errorf("%s has not logged that %s: node=%s", h.name, text, name))
			}
		}
		return errors.Join(missing...)
	})
}

// What an agent logs about a path, once each.
const (
	isBlocked  = `level=WARN msg="udp to a node is blocked: its packets go by stream"`
	worksAgain = `level=INFO msg="udp to a node works again"`
)

// loggedOnce checks what hosts have logged about paths in all: one line of each
// kind for each of these pairs, from and to, and no other.
func (f *field) loggedOnce(pairs ...[2]string) {
	f.Helper()
	for _, h := range f.hosts {
		for _, other := range f.hosts {
			want := 0
			if slices.Contains(pairs, [2]string{h.name, other.name}) {
				want = 1
			}
			for _, text := range []string{isBlocked, worksAgain} {
				if got := f.logged(h, text, "node="+other.name); got != want {
					f.Errorf("%s has logged %d times, want %d: %s node=%s", h.name, got, want, text, other.name)
				}
			}
		}
	}
}

// nobodyFailed checks that no host has ever counted another as failed.
func (f *field) nobodyFailed() {
	f.Helper()
	for _, h := range f.hosts {
		if n := f.logged(h, "event=member-failed"); n != 0 {
			f.Errorf("%s has counted members as failed, %d times", h.name, n)
		}
	}
}
