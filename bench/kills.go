package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	kills     = 11
	lookEvery = 50 * time.Millisecond
)

// measureKills measures from the kill -9 of an agent until all others say that it is
// not alive. They are asked: what streams tell of members comes in waves.
func measureKills(ctx context.Context, s system) ([]figure, error) {
	var took []time.Duration
	for i := range kills {
		victim := 1 + i%(s.size()-1) // the first is who others join by
		if err := wait(ctx, 5*time.Second); err != nil {
			return nil, err
		}
		begun := time.Now()
		if err := s.kill(victim); err != nil {
			return nil, err
		}
		for agent := range s.size() {
			if agent == victim {
				continue
			}
			if err := missed(ctx, s, agent, begun.Add(2*time.Minute)); err != nil {
				return nil, fmt.Errorf("kill %d: %w", i, err)
			}
		}
		took = append(took, time.Since(begun))
		if err := errors.Join(s.revive(ctx, victim), awaitAll(ctx, s)); err != nil {
			return nil, err
		}
	}
	what := fmt.Sprintf("kill -9 of one of %d agents, seen by all others", s.size())
	return []figure{
		{what + ", median", "s", percentile(took, 50).Seconds()},
		{what + ", longest", "s", percentile(took, 100).Seconds()},
	}, nil
}

// missed waits until an agent sees one member less.
func missed(ctx context.Context, s system, agent int, deadline time.Time) error {
	for {
		n, err := s.alive(ctx, agent)
		switch {
		case err != nil:
			return err
		case n == s.size()-1:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("agent %d has not noticed", agent)
		}
		if err := wait(ctx, lookEvery); err != nil {
			return err
		}
	}
}
