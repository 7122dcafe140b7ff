package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/secgossip/secgossip/internal/discover"
	"github.com/secgossip/secgossip/internal/home"
)

// Join contacts the addresses of the settings: those of join once, where at least
// one must answer, and then those of retry-join until one does or there were as many
// attempts as the settings allow. It returns at once; the channel gets the result of
// either part. Call it once.
func (a *Agent) Join() <-chan error {
	joined := make(chan error, 2)
	a.running.Go(func() {
		err := a.join()
		joined <- err
		if err == nil && len(a.settings.RetryJoin) > 0 {
			joined <- a.retryJoin()
		}
	})
	return joined
}

func (a *Agent) join() error {
	if len(a.settings.Join) == 0 {
		return nil
	}
	n, err := a.joinBy(a.settings.Join)
	if err != nil {
		return &home.Problem{
			Err:  err,
			Next: "is that agent running, and reached by UDP and TCP? --retry-join keeps trying instead of giving up",
		}
	}
	a.logger.Info("joined", "answered", n)
	return nil
}

// joinBy joins by what places stand for now. One that cannot be looked up keeps nobody
// from the others.
func (a *Agent) joinBy(places []string) (int, error) {
	addresses, notFound := discover.Finder{Run: a.ask}.Find(a.ctx, places)
	if len(addresses) == 0 {
		return 0, notFound
	}
	n, err := a.node.Join(a.ctx, addresses)
	if err != nil {
		err = errors.Join(notFound, err)
	}
	return n, err
}

// retryJoin tries until somebody answers. A name is looked up at every attempt. The
// pause between attempts is that of the settings, give or take a quarter: hosts that
// start together must not come back together each time. Why nobody answers is said when
// that has changed.
func (a *Agent) retryJoin() error {
	said := ""
	for attempt := 1; ; attempt++ {
		n, err := a.joinBy(a.settings.RetryJoin)
		if err == nil && len(a.node.Members()) == 1 {
			// The list may be the same on all hosts, and name this one too.
			err = errors.New("only this node answered")
		}
		if err == nil {
			a.logger.Info("joined", "answered", n)
			return nil
		}
		if a.ctx.Err() != nil {
			return nil
		}
		if attempt == a.plan.retryMax {
			return &home.Problem{
				Err:  fmt.Errorf("nobody answered in %d attempts: %w", attempt, err),
				Next: "are those agents running, and reached by UDP and TCP? without --retry-max it is tried for ever",
			}
		}
		level := slog.LevelDebug
		if err.Error() != said {
			level, said = slog.LevelWarn, err.Error()
		}
		a.logger.Log(a.ctx, level, "nobody answered yet", "error", err)
		pause := a.plan.retryInterval*3/4 + rand.N(a.plan.retryInterval/2)
		select {
		case <-a.ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}
