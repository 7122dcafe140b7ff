package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect/v2"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/internal/lab"
	"github.com/secgossip/secgossip/internal/rpc"
	"github.com/secgossip/secgossip/rpcauth"
)

// secgossip is a cluster of our agents.
type secgossip struct {
	*lab.Lab
	nodes    []*lab.Node
	operator *home.Client
	token    []byte
	callers  []*rpc.Client // one for each agent
}

func startSecgossip(ctx context.Context, bin string, want setup) (_ system, err error) {
	l, err := lab.New(bin, "bench")
	if err != nil {
		return nil, err
	}
	s := &secgossip{Lab: l}
	defer func() {
		if err != nil {
			_ = s.stop()
		}
	}()
	for i := range want.agents + 1 { // the last is for ready
		node := &lab.Node{Name: fmt.Sprintf("web-%d", i+1)}
		if i == 0 {
			err = l.Init(ctx, "bench", node.Name)
		} else {
			err = l.IssueNode(ctx, "web-1", node.Name)
		}
		if err != nil {
			return nil, err
		}
		s.nodes = append(s.nodes, node)
	}
	if s.operator, err = home.Home(l.In("web-1")).LoadClient(time.Now()); err != nil {
		return nil, err
	}
	if s.token, err = rpcauth.ParseTokenText(s.operator.Token); err != nil {
		return nil, err
	}
	for i, node := range s.nodes {
		if i > 0 {
			node.Flags = []string{"--retry-join", s.nodes[0].Gossip}
		}
		if want.handlers {
			if err := s.giveHandler(node); err != nil {
				return nil, err
			}
		}
		if i == want.agents {
			break
		}
		if err := l.Start(ctx, node); err != nil {
			return nil, err
		}
		s.callers = append(s.callers, s.client(i))
	}
	return s, nil
}

// giveHandler gives a node the handler that notes what it is given, confined by all the
// layers that this machine has. All agents are on one host here and their handlers the
// same user, who may have so many more processes than one host's.
func (s *secgossip) giveHandler(node *lab.Node) error {
	// Each in a folder of its own, as on a host of its own: what lies beside a script is
	// linked beside its copy.
	program, output := filepath.Join(node.Name, "note"), s.Output(node.Name)
	settings := fmt.Sprintf("handlers:\n- {on: \"user:bench\", run: %q, writable: [%q], processes: 1024}\n", s.Program(program), output)
	return errors.Join(
		os.Mkdir(filepath.Dir(s.Program(program)), 0o755), os.Chmod(filepath.Dir(s.Program(program)), 0o755),
		s.WriteProgram(program, noteScript(output)), s.Handlers.Create(output),
		os.WriteFile(filepath.Join(s.In(node.Name), "config.yaml"), []byte(settings), 0o600),
	)
}

func (s *secgossip) size() int { return len(s.callers) }

func (s *secgossip) notes(agent int) string { return s.Output(s.nodes[agent].Name) }

func (s *secgossip) alive(ctx context.Context, agent int) (count int, err error) {
	// Serf calls a member alive that it suspects.
	list, err := s.callers[agent].ListMembers(ctx, &secgossipv1.ListMembersRequest{Status: "alive|suspect|leaving"})
	return len(list.GetMembers()), err
}

func (s *secgossip) kill(agent int) error { return s.nodes[agent].Kill() }

func (s *secgossip) revive(ctx context.Context, agent int) error { return s.Start(ctx, s.nodes[agent]) }

func (s *secgossip) client(agent int) *rpc.Client {
	own := func() (*tls.Certificate, error) { return s.operator.Certificate, nil }
	return rpc.NewClient(s.operator.Trust.ClientTLS(own, "", time.Now), s.nodes[agent].RPC, func() string { return s.operator.Token })
}

func (s *secgossip) ready(ctx context.Context) (time.Duration, error) {
	extra := len(s.nodes) - 1
	node := s.nodes[extra]
	begun := time.Now()
	if err := s.Start(ctx, node); err != nil {
		return 0, err
	}
	c := s.client(extra)
	defer c.Close()
	err := eventually(ctx, func(ctx context.Context) error {
		_, err := c.ListMembers(ctx, new(secgossipv1.ListMembersRequest))
		return err
	})
	took := time.Since(begun)
	return took, errors.Join(err, node.Stop())
}

func (s *secgossip) pid(agent int) int { return s.nodes[agent].PID() }

func (s *secgossip) listen(ctx context.Context, agent int) (<-chan string, error) {
	c := s.client(agent)
	stream, err := c.StreamEvents(ctx, &secgossipv1.StreamEventsRequest{Filters: []string{"user:bench"}})
	if err == nil {
		_, err = stream.Receive() // the first says that it is open
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	heard := make(chan string, 1<<16)
	go func() {
		defer close(heard)
		defer c.Close()
		for {
			batch, err := stream.Receive()
			if err != nil {
				return
			}
			for _, record := range batch.GetRecords() {
				heard <- string(record.GetUser().GetPayload())
			}
		}
	}()
	return heard, nil
}

func (s *secgossip) fire(ctx context.Context, payload string) error {
	now := time.Now()
	event, err := rpcauth.SignEvent(s.operator.Key, s.token, rpcauth.EventRequest{
		Cluster: s.operator.Trust.Cluster(), Name: "bench", Payload: []byte(payload), LTime: uint64(now.UnixMilli()),
	}, now)
	if err != nil {
		return err
	}
	_, err = s.callers[0].FireEvent(ctx, &secgossipv1.FireEventRequest{Event: event})
	if connect.CodeOf(err) == connect.CodeResourceExhausted {
		return errBusy
	}
	return err
}

func (s *secgossip) rotate(ctx context.Context) error {
	stream, err := s.callers[0].RotateKeys(ctx, new(secgossipv1.RotateKeysRequest))
	if err != nil {
		return err
	}
	var summary *secgossipv1.RotationSummary
	for {
		message, err := stream.Receive()
		switch {
		case errors.Is(err, io.EOF) && summary.GetRemoved():
			return nil
		case err != nil:
			return err
		case message.GetSummary() != nil:
			summary = message.GetSummary()
		}
	}
}

func (s *secgossip) stop() error {
	for _, c := range s.callers {
		c.Close()
	}
	if s.operator != nil {
		s.operator.Key.Destroy()
	}
	return errors.Join(lab.StopAll(s.nodes), s.Remove())
}
