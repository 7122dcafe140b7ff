package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/hashicorp/serf/client"
)

// serf is a cluster of Serf agents.
type serf struct {
	bin, folder string
	agents      []*serfAgent
	key         string
	handlers    bool
}

type serfAgent struct {
	name, bind, rpc string
	cmd             *exec.Cmd
	caller          *client.RPCClient
}

func startSerf(ctx context.Context, bin, folder string, want setup) (_ system, err error) {
	s := &serf{bin: bin, folder: folder, key: newSerfKey(), handlers: want.handlers}
	defer func() {
		if err != nil {
			_ = s.stop()
		}
	}()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	for i := range want.agents {
		a, err := s.start(ctx, fmt.Sprintf("web-%d", i+1))
		if err != nil {
			return nil, err
		}
		s.agents = append(s.agents, a)
	}
	return s, nil
}

func (s *serf) size() int { return len(s.agents) }

func (s *serf) notes(agent int) string { return filepath.Join(s.folder, s.agents[agent].name+".notes") }

func (s *serf) alive(_ context.Context, agent int) (count int, err error) {
	members, err := s.agents[agent].caller.Members()
	for _, m := range members {
		if m.Status == "alive" {
			count++
		}
	}
	return count, err
}

func (s *serf) kill(agent int) error {
	a := s.agents[agent]
	a.caller.Close()
	err := a.cmd.Process.Kill()
	_ = a.cmd.Wait() // it was killed
	return err
}

func (s *serf) revive(ctx context.Context, agent int) (err error) {
	s.agents[agent], err = s.startAt(ctx, s.agents[agent])
	return err
}

func newSerfKey() string {
	key := make([]byte, 32)
	rand.Read(key)
	return base64.StdEncoding.EncodeToString(key)
}

// start starts an agent and waits until it answers.
func (s *serf) start(ctx context.Context, name string) (*serfAgent, error) {
	bind, err := freeAddress()
	if err != nil {
		return nil, err
	}
	rpc, err := freeAddress()
	if err != nil {
		return nil, err
	}
	return s.startAt(ctx, &serfAgent{name: name, bind: bind, rpc: rpc})
}

// startAt starts an agent where one was or is to be.
func (s *serf) startAt(ctx context.Context, where *serfAgent) (*serfAgent, error) {
	name := where.name
	a := &serfAgent{name: name, bind: where.bind, rpc: where.rpc}
	ring := filepath.Join(s.folder, name+".json")
	text, err := json.Marshal([]string{s.key})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(ring, text, 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(s.folder, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	args := []string{"agent", "-node=" + name, "-bind=" + a.bind, "-rpc-addr=" + a.rpc, "-keyring-file=" + ring,
		"-snapshot=" + filepath.Join(s.folder, name+".snapshot")}
	if len(s.agents) > 0 {
		args = append(args, "-retry-join="+s.agents[0].bind)
	}
	if s.handlers {
		program, notes := filepath.Join(s.folder, name+".sh"), filepath.Join(s.folder, name+".notes")
		if err := errors.Join(os.WriteFile(program, []byte(noteScript(notes)), 0o700), os.WriteFile(notes, nil, 0o600)); err != nil {
			return nil, err
		}
		args = append(args, "-event-handler=user:bench="+program)
	}
	a.cmd = exec.CommandContext(ctx, s.bin, args...)
	a.cmd.Stdout, a.cmd.Stderr = log, log
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	return a, eventually(ctx, func(context.Context) error {
		c, err := client.NewRPCClient(a.rpc)
		if err != nil {
			return err
		}
		if _, err = c.Members(); err != nil {
			c.Close()
			return err
		}
		a.caller = c
		return nil
	})
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (a *serfAgent) stop() error {
	a.caller.Close()
	_ = a.cmd.Process.Signal(os.Interrupt)
	done := make(chan struct{})
	go func() { _ = a.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		_ = a.cmd.Process.Kill()
		<-done
	}
	return nil
}

func (s *serf) ready(ctx context.Context) (time.Duration, error) {
	begun := time.Now()
	a, err := s.start(ctx, "web-new")
	took := time.Since(begun)
	if err != nil {
		return 0, err
	}
	return took, a.stop()
}

func (s *serf) pid(agent int) int { return s.agents[agent].cmd.Process.Pid }

func (s *serf) listen(ctx context.Context, agent int) (<-chan string, error) {
	c, err := client.NewRPCClient(s.agents[agent].rpc)
	if err != nil {
		return nil, err
	}
	records, heard := make(chan map[string]any, 1<<16), make(chan string, 1<<16)
	if _, err := c.Stream("user:bench", records); err != nil {
		c.Close()
		return nil, err
	}
	context.AfterFunc(ctx, func() { c.Close() })
	go func() {
		defer close(heard)
		for record := range records {
			if payload, ok := record["Payload"].([]byte); ok {
				heard <- string(bytes.Clone(payload))
			}
		}
	}()
	return heard, nil
}

func (s *serf) fire(_ context.Context, payload string) error {
	return s.agents[0].caller.UserEvent("bench", []byte(payload), false)
}

// rotate does what the guide of Serf says: install, use, remove.
func (s *serf) rotate(context.Context) error {
	old := s.key
	s.key = newSerfKey()
	caller := s.agents[0].caller
	for _, step := range []func() (map[string]string, error){
		func() (map[string]string, error) { return caller.InstallKey(s.key) },
		func() (map[string]string, error) { return caller.UseKey(s.key) },
		func() (map[string]string, error) { return caller.RemoveKey(old) },
	} {
		if _, err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (s *serf) stop() error {
	var problems []error
	for _, a := range s.agents {
		problems = append(problems, a.stop())
	}
	return errors.Join(problems...)
}
