package agent

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/secgossip/secgossip/internal/home"
)

// Join contacts the addresses of the settings: those of join once, where at least
// one must answer, and then those of retry-join until one does. It returns at
// once; the channel gets the result of the first part. Call it once.
func (a *Agent) Join() <-chan error {
	joined := make(chan error, 1)
	a.running.Go(func() {
		err := a.join()
		joined <- err
		if err == nil && len(a.settings.RetryJoin) > 0 {
			a.retryJoin()
		}
	})
	return joined
}

func (a *Agent) join() error {
	if len(a.settings.Join) == 0 {
		return nil
	}
	n, err := a.node.Join(a.ctx, a.settings.Join)
	if err != nil {
		return &home.Problem{
			Err:  err,
			Next: "is that agent running, and reached by UDP and TCP? --retry-join keeps trying instead of giving up",
		}
	}
	a.logger.Info("joined", "answered", n)
	return nil
}

// retryInterval is the pause between attempts to join, give or take a quarter.
const retryInterval = 15 * time.Second

func (a *Agent) retryJoin() {
	for {
		n, err := a.node.Join(a.ctx, a.settings.RetryJoin)
		if err == nil && len(a.node.Members()) == 1 {
			// The list may be the same on all hosts, and name this one too.
			err = errors.New("only this node answered")
		}
		if err == nil {
			a.logger.Info("joined", "answered", n)
			return
		}
		if a.ctx.Err() != nil {
			return
		}
		a.logger.Warn("nobody answered yet", "error", err)
		pause := retryInterval*3/4 + rand.N(retryInterval/2)
		select {
		case <-a.ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
