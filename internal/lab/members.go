package lab

import (
	"context"
	"fmt"
	"slices"
	"strconv"
)

// Member is a member as an agent lists it.
type Member struct{ Name, Status string }

// Members asks a node's agent for its members, with the client of a home.
func (l *Lab) Members(ctx context.Context, home string, at *Node) ([]Member, error) {
	var list struct{ Members []Member }
	err := l.AskJSON(ctx, &list, home, at, "members")
	return list.Members, err
}

// AwaitAlive waits until every one of the nodes sees exactly them alive.
func (l *Lab) AwaitAlive(ctx context.Context, home string, nodes []*Node) error {
	var want []string
	for _, node := range nodes {
		want = append(want, node.Name)
	}
	slices.Sort(want)
	return Await(ctx, func(ctx context.Context) error {
		if err := CheckRunning(nodes); err != nil {
			return err
		}
		for _, node := range nodes {
			members, err := l.Members(ctx, home, node)
			if err != nil {
				return err
			}
			var alive []string
			for _, m := range members {
				if m.Status == "alive" {
					alive = append(alive, m.Name)
				}
			}
			slices.Sort(alive)
			if !slices.Equal(alive, want) {
				return fmt.Errorf("alive as %s sees it: got %q, want %q", node.Name, alive, want)
			}
		}
		return nil
	})
}

// Info returns an agent's figures by section.
func (l *Lab) Info(ctx context.Context, home string, at *Node) (info map[string]map[string]string, err error) {
	err = l.AskJSON(ctx, &info, home, at, "info")
	return info, err
}

// Counters returns those figures of an agent's gossip that are numbers.
func (l *Lab) Counters(ctx context.Context, home string, at *Node) (map[string]uint64, error) {
	info, err := l.Info(ctx, home, at)
	if err != nil {
		return nil, err
	}
	all := make(map[string]uint64)
	for name, text := range info["gossip"] {
		if value, err := strconv.ParseUint(text, 10, 64); err == nil {
			all[name] = value
		}
	}
	return all, nil
}
