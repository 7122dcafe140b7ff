// Package agent wires settings, gossip node, RPC and handlers into one running
// agent.
package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/secgossip/secgossip/handler"
	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/internal/rpc"
	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
	"github.com/secgossip/secgossip/secgossip"
)

// ErrSetup says that the agent was not started because of its settings or its
// home; nothing was changed.
var ErrSetup = errors.New("not started")

// Agent is what of a running agent lives in the network process: everything but the
// handlers.
type Agent struct {
	settings Settings // those it was started with, but for handlers
	plan     plan
	identity *home.Node
	logger   *slog.Logger
	layers   []handler.Layer // what confines this process
	handlers string          // what the banner says of them

	node     *secgossip.Node
	watcher  *observer
	runner   *remote
	server   *http.Server
	metrics  *http.Server // nil: off
	watchers net.Listener // of the metrics
	rpc      *rpc.Listener

	level   slog.LevelVar
	logs    *logHub
	tags    atomic.Pointer[map[string]string]
	checked *checked // what may be used next; for the goroutine that reloads

	retagging sync.Mutex        // held while tags change
	tagged    map[string]string // those of the settings in force; guarded by retagging

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	left    chan struct{} // closed when a client asked us to leave
	leaving sync.Once
	running sync.WaitGroup
	closing sync.Mutex // held while something is started, and while ctx ends
}

// lockedBuffers is how many secrets an agent holds in locked memory at most: two
// node keys, what seals the keyring, the knock secret, four epochs, and as many
// again while files are read.
const lockedBuffers = 16

// settle makes this process what it is to be before it hears anybody, and says what
// confines it then. It is told which folder of the metrics, if any, it goes on writing
// to.
type settle func(socketFolder string) ([]handler.Layer, error)

// startAgent starts the network process's part of the agent of a home and writes a
// banner and then its log to log. The caller holds the lock of the home. Every error
// wraps ErrSetup, for with the same settings and home it would come again, unless a
// socket is taken.
func startAgent(at home.Home, settings Settings, runner *remote, settle settle, handlers string, log io.Writer) (*Agent, error) {
	plan, err := settings.check()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	if err := keyring.Harden(lockedBuffers); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	gate := &gate{to: log}
	a := &Agent{
		settings: settings,
		plan:     plan,
		runner:   runner,
		handlers: handlers,
		left:     make(chan struct{}),
	}
	a.level.Set(plan.level)
	a.tags.Store(&settings.Tags)
	a.tagged = settings.Tags
	a.logs = newLogHub()
	a.logger = slog.New(slog.NewMultiHandler(slog.NewTextHandler(gate, &slog.HandlerOptions{Level: &a.level}), a.logs.handler()))
	a.ctx, a.cancel = context.WithCancel(context.Background())
	if err := a.start(at, settle); err != nil {
		gate.release("")
		a.Close()
		return nil, err
	}
	gate.release(a.banner())
	return a, nil
}

func (a *Agent) start(at home.Home, settle settle) error {
	var err error
	if err = a.load(at, settle); err != nil {
		return err
	}
	if a.identity.Keyring.Recovered() {
		a.logger.Warn("keyring was damaged, its previous version is in use; newer epochs are fetched from other members")
	}
	a.runner.know(a.identity.Trust)
	events := newHub()
	answers := &answers{hub: events, logger: a.logger}
	take := answers.take
	a.runner.say.Store(&take)
	listener, err := net.Listen(tcpNetwork(a.plan.rpc), a.plan.rpc.String())
	if err != nil {
		return listenError("rpc-addr", a.plan.rpc, err)
	}
	own := func() (*tls.Certificate, error) { return a.identity.Identity.Certificate() }
	a.rpc = rpc.NewListener(listener, a.identity.Trust.ServerTLS(own, []pki.Kind{pki.KindClient}, time.Now))
	verifier := rpcauth.NewVerifier(a.identity.Trust)
	watcher := &observer{
		runner:  a.runner,
		hub:     events,
		logger:  a.logger,
		nowFunc: time.Now,
	}
	watcher.gather()
	a.watcher = watcher
	a.running.Go(func() { watcher.members.run(a.ctx) })
	a.running.Go(func() { watcher.events.run(a.ctx) })
	a.node, err = secgossip.New(secgossip.Config{
		Identity:  a.identity.Identity,
		Trust:     a.identity.Trust,
		Keyring:   a.identity.Keyring,
		Verifier:  eventVerifier{verifier},
		Observer:  watcher,
		Bind:      a.plan.bind,
		Advertise: a.advertise(),
		Tags:      a.settings.Tags,
		Profile:   a.plan.profile,
		StateDir:  at.State(),
		Rejoin:    a.settings.Rejoin,
		Replay:    a.settings.Replay,

		ReconnectTimeout: a.plan.reconnectTimeout,
		TombstoneTimeout: a.plan.tombstoneTimeout,

		RotateEvery: a.plan.rotate,
		Strangers: func() map[string]uint64 {
			return map[string]uint64{"rpc_strangers_dropped": a.rpc.Counters()["strangers_dropped"]}
		},
		Logger: a.logger,
	})
	if err != nil {
		return listenError("bind", a.plan.bind, err)
	}
	answers.node.Store(a.node)
	a.runner.follow(a.node.SignedRevocations)
	if err := a.setTags(a.node.Tags()); err != nil {
		return err
	}
	a.serveMetrics()
	if a.settings.Discover != "" {
		a.running.Go(a.meetNeighbours)
	}
	return a.serve(verifier, events)
}

// load reads the home. With the keys at hand this process settles: from then on it is
// without the rights it was started with.
func (a *Agent) load(at home.Home, settle settle) error {
	if err := at.Sweep(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		// They are sealed, and not read by anybody. The next start tries again.
		a.logger.Warn("removing left-over temporary files", "error", err)
	}
	var listening error // which says itself whether it would come again
	var err error
	a.identity, err = at.LoadNodeThen(a.settings.unlock(), a.settings.Keyring == keyringMemory, func() error {
		// A socket in the file system is made while we may still write there.
		if listening = a.listenMetrics(); listening != nil {
			return listening
		}
		if settle == nil {
			return nil
		}
		var err error
		a.layers, err = settle(a.socketFolder())
		return err
	}, time.Now())
	if listening != nil {
		return listening
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSetup, err)
	}
	return nil
}

// background runs f, which must end soon after ctx does; Close waits for it. It
// reports whether f was started: no more is once Close has begun.
func (a *Agent) background(f func()) bool {
	a.closing.Lock()
	defer a.closing.Unlock()
	if a.ctx.Err() != nil {
		return false
	}
	a.running.Go(f)
	return true
}

// tcpNetwork keeps an IPv4 wildcard from opening IPv6 as well.
func tcpNetwork(at netip.AddrPort) string {
	if at.Addr().Is4() {
		return "tcp4"
	}
	return "tcp"
}

// advertise fills in the port of addresses that were given without one.
func (a *Agent) advertise() []netip.AddrPort {
	var all []netip.AddrPort
	for _, at := range a.plan.advertise {
		if at.Port() == 0 {
			at = netip.AddrPortFrom(at.Addr(), a.plan.bind.Port())
		}
		all = append(all, at)
	}
	return all
}

// handlerError adds the fix where what is wrong with a handler does not name it.
func handlerError(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &home.Problem{
			Err:  err,
			Next: "name a program that exists, as FILTER=PATH: no shell reads it, and the search path is not asked",
		}
	}
	return err
}

// listenError adds the fix to what listening says.
func listenError(flag string, at netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &home.Problem{
			Err:  fmt.Errorf("address %s is already in use", at),
			Next: fmt.Sprintf("another agent may be running here; stop it, or name another address by --%s", flag),
		}
	case errors.Is(err, fs.ErrPermission):
		err = &home.Problem{
			Err:  fmt.Errorf("address %s: %w", at, err),
			Next: fmt.Sprintf("the agent listens without root's rights: name a port from 1024 on by --%s, or let everybody have that port: sysctl net.ipv4.ip_unprivileged_port_start=%d", flag, at.Port()),
		}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		err = &home.Problem{
			Err:  fmt.Errorf("address %s is not on this host", at),
			Next: fmt.Sprintf("name an address of this host by --%s; behind port mapping, the public one goes to --advertise", flag),
		}
	}
	return fmt.Errorf("%w: %w", ErrSetup, err)
}

// serve opens the RPC: mutual TLS, then the gate, then the service.
func (a *Agent) serve(verifier *rpcauth.Verifier, events *hub) error {
	gate, err := rpcauth.NewGate(rpcauth.GateConfig{
		Verifier: verifier,
		Rules:    rpc.Rules(),
		Now:      time.Now,
		Audit:    a.audit,
		Refuse:   rpc.Refuse,
	})
	if err != nil {
		return err
	}
	service := &service{
		node:      a.node,
		runner:    a.runner,
		layers:    a.layers,
		hub:       events,
		logs:      a.logs,
		rpc:       a.rpc.Counters,
		coalesced: a.watcher.coalesced.Load,
		trust:     a.identity.Trust,
		tags:      a.tagsNow,
		retag:     a.UpdateTags,
		asked:     a.providers,
		leave:     func() { a.leaving.Do(func() { close(a.left) }) },
		ctx:       a.ctx,
		start:     a.background,
		logger:    a.logger,
	}
	a.server = rpc.NewServer(gate.Wrap(rpc.Handler(service, a.logger)))
	a.running.Go(func() {
		if err := a.server.Serve(a.rpc); err != nil && !errors.Is(err, http.ErrServerClosed) {
			a.logger.Error("rpc stopped", "error", err)
		}
	})
	return nil
}

// audit puts one decision of the gate on record.
func (a *Agent) audit(r rpcauth.AuditRecord) {
	a.logger.Info("rpc audit", "verdict", string(r.Verdict), "principal", string(r.Who), "token", r.Token,
		"procedure", r.What, "source", r.Source, "reason", r.Reason, "skipped", r.Skipped)
}

// Left is closed when a client asked the agent to leave.
func (a *Agent) Left() <-chan struct{} { return a.left }

// Leave tells the cluster that we go. Close follows.
func (a *Agent) Leave() error { return a.node.Leave() }

// closeTimeout bounds the end of handlers and calls.
const closeTimeout = 5 * time.Second

// Close stops everything, waits for it, and then wipes the secrets. What was gathered
// for handlers and streams is told before they end.
func (a *Agent) Close() error {
	if a.watcher != nil {
		a.watcher.stop()
	}
	a.closing.Lock()
	a.cancel()
	a.closing.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var problems []error
	if a.metrics != nil {
		problems = append(problems, a.metrics.Close())
	} else if a.watchers != nil {
		problems = append(problems, a.watchers.Close())
	}
	if a.server != nil {
		// A call that asked us to leave still gets its answer.
		if err := a.server.Shutdown(ctx); err != nil {
			problems = append(problems, a.server.Close())
		}
	} else if a.rpc != nil {
		problems = append(problems, a.rpc.Close())
	}
	if a.node != nil {
		problems = append(problems, a.node.Close())
	}
	a.running.Wait()
	if a.identity != nil {
		// A call that outlived closeTimeout gets an error from them.
		a.identity.Destroy()
	}
	return errors.Join(problems...)
}
