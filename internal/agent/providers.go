package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/secgossip/secgossip/handler"
	"github.com/secgossip/secgossip/internal/discover"
	"github.com/secgossip/secgossip/internal/link"
)

const (
	// providerTime is how long a provider may run: as long as a handler by default.
	providerTime = handler.DefaultTimeout

	// providerPause is how soon a provider is run again at the earliest, whoever asks and
	// however often: what it calls may count and charge. Meanwhile it has said what it
	// said last.
	providerPause = 10 * time.Second

	// findTime is how long the network process waits for what it says: for its run, and
	// for the runner to check the program and to clean up.
	findTime = providerTime + 15*time.Second
)

// providers are the programs of the operator's that say where nodes may be, in the
// runner. Each is run by itself, once at a time.
type providers struct {
	list []*provider
	ctx  context.Context // ends with close
	stop context.CancelFunc

	mu      sync.Mutex // held while something is started, and while ctx ends
	running sync.WaitGroup
}

// provider is one of them.
type provider struct {
	path   string
	run    func(ctx context.Context, tags map[string]string) handler.Result
	now    func() time.Time
	logger *slog.Logger

	mu      sync.Mutex // held while it runs
	last    time.Time  // when the latest run ended; zero: there was none
	latest  link.Discovered
	problem string // as it was last logged
}

// newProviders checks and rehearses programs, as handlers are.
func (r *runner) newProviders(places []string, settings Settings) (*providers, error) {
	p := new(providers)
	p.ctx, p.stop = context.WithCancel(context.Background())
	var problems []error
	for number, place := range places {
		path, arguments, _ := discover.Provider(place)
		program, err := handler.NewProvider(handler.Config{
			Settings: handler.Settings{
				User: settings.HandlerUser, Sandbox: handler.Sandbox(settings.HandlerSandbox), Timeout: providerTime,
				Network: true, // which is what it is there to ask
			},
			Private: append(r.home.Private(), settings.unlock().Private()...),
			Logger:  r.logger,
		}, path, arguments)
		if err != nil {
			problems = append(problems, fmt.Errorf("provider %q: %w", path, err))
			continue
		}
		p.list = append(p.list, &provider{
			path: path, logger: r.logger, now: time.Now, latest: link.Discovered{Provider: number},
			run: func(ctx context.Context, tags map[string]string) handler.Result {
				return program.Run(ctx, string(r.public.Name), tags)
			},
		})
	}
	return p, errors.Join(problems...)
}

// discover asks a provider and answers with what it says, without keeping anybody
// waiting. It is for the goroutine of serve.
func (r *runner) discover(l *link.Link, m *link.Discover) error {
	if m.Provider >= len(r.asked.list) {
		return fmt.Errorf("%w: provider %d of %d", errTold, m.Provider, len(r.asked.list))
	}
	p, tags := r.asked.list[m.Provider], maps.Clone(r.tags)
	// One that asks again before it was answered has asked in vain.
	if !p.mu.TryLock() {
		return l.Send(&link.Discovered{Ask: m.Ask, Provider: m.Provider, Problem: "it is being asked already"})
	}
	started := r.asked.start(func(ctx context.Context) {
		found := p.findLocked(ctx, tags)
		p.mu.Unlock()
		found.Ask = m.Ask
		if err := l.Send(&found); err != nil && !errors.Is(err, link.ErrClosed) {
			r.logger.Error("what a provider said is lost", "program", p.path, "error", err)
		}
	})
	if !started {
		p.mu.Unlock()
	}
	return nil
}

// start runs f, for which close waits. It reports whether f was started.
func (p *providers) start(f func(context.Context)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return false
	}
	p.running.Go(func() { f(p.ctx) })
	return true
}

// end kills what runs.
func (p *providers) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stop()
}

// close kills what runs and waits for that.
func (p *providers) close(ctx context.Context) error {
	p.end()
	ended := make(chan struct{})
	go func() {
		p.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for providers to end: %w", ctx.Err())
	}
}

// findLocked runs the provider, unless that was done a moment ago, and says what it has
// found.
func (p *provider) findLocked(ctx context.Context, tags map[string]string) link.Discovered {
	if !p.last.IsZero() && p.now().Sub(p.last) < providerPause {
		return p.latest
	}
	result := p.run(ctx, tags)
	p.last = p.now()
	p.latest.Runs++
	found, err := addressesOf(result)
	p.latest.Addresses, p.latest.Problem = found, ""
	if err != nil {
		p.latest.Failures++
		p.latest.Problem = validText(err.Error(), link.MaxText)
	}
	switch {
	case p.latest.Problem == p.problem || ctx.Err() != nil:
	case p.latest.Problem == "":
		p.logger.Info("provider does its work again", "program", p.path, "addresses", len(found))
	default:
		p.logger.Warn("provider failed", "program", p.path, "error", p.latest.Problem, "addresses", len(found), "stderr", fmt.Sprintf("%q", last(result.Stderr.Bytes(), 256)))
	}
	p.problem = p.latest.Problem
	return p.latest
}

// addressesOf is what a run has found. Of one that did not end well nothing is used:
// what was cut off may be half an address.
func addressesOf(result handler.Result) ([]string, error) {
	switch {
	case result.Err != nil:
		return nil, result.Err
	case result.ExitCode != 0:
		return nil, fmt.Errorf("exit code %d", result.ExitCode)
	case result.Stdout.Omitted > 0:
		return nil, errors.New("it prints more than 64 KiB")
	}
	return discover.ParseAddresses(result.Stdout.Bytes())
}

// last is the end of a text, at most so many bytes of it.
func last(text []byte, most int) []byte { return text[max(0, len(text)-most):] }

// ask has the runner ask a provider of the settings.
func (a *Agent) ask(ctx context.Context, place string) ([]string, error) {
	number := slices.Index(a.plan.providers, place)
	if number < 0 {
		return nil, discover.ErrNoPrograms
	}
	return a.runner.find(ctx, number)
}

// find asks the runner what a provider says.
func (r *remote) find(ctx context.Context, number int) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	answered := make(chan *link.Discovered, 1)
	r.mu.Lock()
	r.finds++
	ask := r.finds
	r.finding[ask] = answered
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.finding, ask)
	}()
	if err := r.link.Send(&link.Discover{Ask: ask, Provider: number}); err != nil {
		return nil, err
	}
	select {
	case m := <-answered:
		if m.Problem != "" {
			return m.Addresses, errors.New(m.Problem)
		}
		return m.Addresses, nil
	case <-ctx.Done():
		return nil, errNoAnswer
	}
}

// foundLocked takes in what a provider says.
func (r *remote) foundLocked(m *link.Discovered) {
	r.found[m.Provider] = m
	if answered, ok := r.finding[m.Ask]; ok {
		delete(r.finding, m.Ask)
		answered <- m
	}
}

// provided is what a provider said last.
func (r *remote) provided(number int) link.Discovered {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.found[number]; m != nil {
		return *m
	}
	return link.Discovered{}
}

// providers says of each provider how it fares, without its arguments.
func (a *Agent) providers() map[string]string {
	all := make(map[string]string)
	for number, place := range a.plan.providers {
		path, _, _ := discover.Provider(place)
		m := a.runner.provided(number)
		text := fmt.Sprintf("%d runs, %d failures, %d addresses", m.Runs, m.Failures, len(m.Addresses))
		if m.Problem != "" {
			text += ", failed: " + m.Problem
		}
		all[fmt.Sprintf("%d %s", number, path)] = text
	}
	return all
}
