package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
)

// cluster is three nodes and two clients: memo, and the keeper's operator.
type cluster struct {
	bin    string
	folder *folder
	nodes  []*node
	fired  []string // payloads that handlers must have seen, in order
}

type node struct {
	name        string
	gossip, rpc string // HOST:PORT, once it is started
	agent       *process
}

func newCluster(bin string, f *folder) *cluster {
	return &cluster{bin: bin, folder: f, nodes: []*node{{name: "web-1"}, {name: "web-2"}, {name: "web-3"}}}
}

// keeper is the home that init makes, with the operator in it; memo is the home
// of the client.
func (c *cluster) keeper() string { return c.folder.in("web-1") }
func (c *cluster) memo() string   { return c.folder.in("memo") }

// makeHomes makes the cluster's identities.
func (c *cluster) makeHomes(ctx context.Context) error {
	_, err := c.run(ctx, command{
		args: []string{"--home", c.keeper(), "init", "--cluster", "demo", "--node", "web-1", "--passphrase-file", "-"},
		// Nobody will need it again: the root goes with the folder.
		stdin: rand.Text() + "\n",
	})
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"node", "web-2", "--out", c.folder.in("web-2")},
		{"node", "web-3", "--out", c.folder.in("web-3")},
		{"client", "memo", "--grant", "event:memresponse", "--grant", "members:read", "--out", c.memo()},
	} {
		if _, err := c.run(ctx, command{args: append([]string{"--home", c.keeper(), "pki", "issue"}, args...)}); err != nil {
			return err
		}
	}
	return nil
}

// start starts the agents, the others joining the first.
func (c *cluster) start(ctx context.Context) error {
	for _, node := range c.nodes {
		if err := c.folder.create(c.folder.output(node.name), 0o600); err != nil {
			return err
		}
		// Between choosing ports and listening there somebody else may take one.
		const attempts = 5
		for attempt := 1; ; attempt++ {
			err := c.startNode(ctx, node)
			if err == nil {
				break
			}
			if !errors.Is(err, errPortTaken) || attempt == attempts {
				return err
			}
		}
	}
	return nil
}

func (c *cluster) startNode(ctx context.Context, node *node) error {
	var err error
	if node.gossip, node.rpc, err = freePorts(); err != nil {
		return err
	}
	args := []string{
		"--home", c.folder.in(node.name), "--rpc-addr", node.rpc, "agent", "--bind", node.gossip,
		"--event-handler", c.folder.program("handler.sh"),
		"--event-handler", "user=" + c.folder.program("tell.sh"),
		"--handler-writable", c.folder.granted,
		"--handler-writable", c.folder.output(node.name),
	}
	if first := c.nodes[0]; node != first {
		args = append(args, "--join", first.gossip)
	}
	log := c.folder.log(node.name)
	if node.agent, err = c.launch(log, args...); err != nil {
		return err
	}
	return await(ctx, func(context.Context) error {
		exited := node.agent.exited()
		content, err := os.ReadFile(log)
		switch {
		case err != nil:
			return err
		case exited && strings.Contains(string(content), "already in use"):
			return final{errPortTaken}
		case exited:
			return final{fmt.Errorf("agent %s ended", node.name)}
		case !strings.Contains(string(content), "agent running!"):
			return fmt.Errorf("agent %s has not said that it runs", node.name)
		}
		return nil
	})
}

var errPortTaken = errors.New("somebody else took the port")

// freePorts finds two addresses on loopback that nobody listens on.
func freePorts() (gossip, rpc string, err error) {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer first.Close()
	second, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer second.Close()
	// If one is taken for UDP, the agent will not start and says so.
	return first.Addr().String(), second.Addr().String(), nil
}

// awaitMembers waits until every agent sees every node alive.
func (c *cluster) awaitMembers(ctx context.Context) error {
	return await(ctx, func(ctx context.Context) error {
		if err := c.checkRunning(); err != nil {
			return err
		}
		for _, node := range c.nodes {
			var list struct {
				Members []struct{ Name, Status string }
			}
			if err := c.askJSON(ctx, &list, c.memo(), node, "members"); err != nil {
				return err
			}
			var alive []string
			for _, m := range list.Members {
				if m.Status == "alive" {
					alive = append(alive, m.Name)
				}
			}
			slices.Sort(alive)
			if want := []string{"web-1", "web-2", "web-3"}; !slices.Equal(alive, want) {
				return fmt.Errorf("alive as %s sees it: got %q, want %q", node.name, alive, want)
			}
		}
		return nil
	})
}

// awaitEpoch waits until the keeper holds one epoch and it is want.
func (c *cluster) awaitEpoch(ctx context.Context, want epoch) error {
	return await(ctx, func(ctx context.Context) error {
		var got epochs
		if err := c.askJSON(ctx, &got, c.keeper(), c.nodes[0], "keys", "list"); err != nil {
			return err
		}
		if !slices.Equal(got.Epochs, []epoch{want}) {
			return fmt.Errorf("keys list: got %+v, want %+v alone", got.Epochs, want)
		}
		return nil
	})
}

// ask calls an agent with the client of a home and returns what is printed.
func (c *cluster) ask(ctx context.Context, home string, at *node, args ...string) (string, error) {
	return c.run(ctx, command{args: append([]string{"--home", home, "--rpc-addr", at.rpc}, args...)})
}

// askJSON is ask for commands with --json.
func (c *cluster) askJSON(ctx context.Context, into any, home string, at *node, args ...string) error {
	out, err := c.ask(ctx, home, at, append(args, "--json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), into)
}
