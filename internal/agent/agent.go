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
	"os"
	"path/filepath"
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

// Agent is a running agent.
type Agent struct {
	settings Settings // those it was started with
	plan     plan
	identity *home.Node
	logger   *slog.Logger

	node    *secgossip.Node
	runner  *handler.Runner
	server  *http.Server
	metrics *http.Server // nil: off
	rpc     *rpc.Listener
	started runJournal
	lock    *os.File // of the home

	level     slog.LevelVar
	logs      *logHub
	tags      atomic.Pointer[map[string]string]
	current   Settings                 // those in force; guarded by reloading
	reread    func() (Settings, error) // guarded by reloading
	reloading sync.Mutex               // held while settings change

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

// Start starts the agent of a home and writes a banner and then its log to log. Every error wraps ErrSetup, for with the same
// settings and home it would come again, unless a socket or the home is taken.
func Start(at home.Home, settings Settings, log io.Writer) (*Agent, error) {
	plan, err := settings.check()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	if err := checkDescriptors(plan.runsAtOnce()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	if err := keyring.Harden(lockedBuffers); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	gate := &gate{to: log}
	a := &Agent{
		settings: settings,
		current:  settings,
		plan:     plan,
		left:     make(chan struct{}),
	}
	a.level.Set(plan.level)
	a.tags.Store(&settings.Tags)
	a.logs = newLogHub()
	a.logger = slog.New(slog.NewMultiHandler(slog.NewTextHandler(gate, &slog.HandlerOptions{Level: &a.level}), a.logs.handler()))
	a.ctx, a.cancel = context.WithCancel(context.Background())
	if err := a.start(at); err != nil {
		gate.release("")
		a.Close()
		return nil, err
	}
	gate.release(a.banner())
	return a, nil
}

func (a *Agent) start(at home.Home) error {
	var err error
	if err = a.load(at); err != nil {
		return err
	}
	if a.identity.Keyring.Recovered() {
		a.logger.Warn("keyring was damaged, its previous version is in use; newer epochs are fetched from other members")
	}
	a.started.path = filepath.Join(at.State(), "runs.journal")
	a.runner, err = handler.New(handler.Config{
		Specs:         a.plan.handlers,
		Settings:      a.settings.handlerSettings(a.plan.timeout),
		Private:       append(at.Private(), a.settings.unlock().Private()...),
		Journal:       &a.started,
		UnfinishedDir: filepath.Join(at.State(), "unfinished"),
		Logger:        a.logger,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSetup, handlerError(err))
	}
	listener, err := net.Listen(tcpNetwork(a.plan.rpc), a.plan.rpc.String())
	if err != nil {
		return listenError("rpc-addr", a.plan.rpc, err)
	}
	own := func() (*tls.Certificate, error) { return a.identity.Identity.Certificate() }
	a.rpc = rpc.NewListener(listener, a.identity.Trust.ServerTLS(own, []pki.Kind{pki.KindClient}, time.Now))
	verifier := rpcauth.NewVerifier(a.identity.Trust)
	events := newHub()
	a.node, err = secgossip.New(secgossip.Config{
		Identity: a.identity.Identity,
		Trust:    a.identity.Trust,
		Keyring:  a.identity.Keyring,
		Verifier: eventVerifier{verifier},
		Observer: &observer{
			name:    string(a.identity.Identity.Name),
			tags:    a.tagsNow,
			runner:  a.runner,
			hub:     events,
			logger:  a.logger,
			nowFunc: time.Now,
		},
		Bind:      a.plan.bind,
		Advertise: a.advertise(),
		Tags:      a.settings.Tags,
		Profile:   a.plan.profile,
		StateDir:  at.State(),

		RotateEvery: a.plan.rotate,
		Strangers: func() map[string]uint64 {
			return map[string]uint64{"rpc_strangers_dropped": a.rpc.Counters()["strangers_dropped"]}
		},
		Logger: a.logger,
	})
	if err != nil {
		return listenError("bind", a.plan.bind, err)
	}
	if err := a.serveMetrics(); err != nil {
		return err
	}
	if err := a.serve(verifier, events); err != nil {
		return err
	}
	return a.runner.Repeat()
}

// load locks the home and reads it. Only in this order is what it read what is
// there: an agent that is about to stop may still write its keyring.
func (a *Agent) load(at home.Home) error {
	lock, lockErr := at.Lock()
	if lockErr != nil && !errors.Is(lockErr, fs.ErrNotExist) {
		return lockErr
	}
	a.lock = lock
	if lockErr == nil {
		if err := at.Sweep(); err != nil {
			// They are sealed, and not read by anybody. The next start tries again.
			a.logger.Warn("removing left-over temporary files", "error", err)
		}
	}
	load := at.LoadNode
	if a.settings.Keyring == keyringMemory {
		load = at.LoadNodeInMemory
	}
	var err error
	// Of a home that is not there, this says what to do.
	if a.identity, err = load(a.settings.unlock(), time.Now()); err != nil {
		return fmt.Errorf("%w: %w", ErrSetup, err)
	}
	return lockErr
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
		node:   a.node,
		runner: a.runner,
		hub:    events,
		logs:   a.logs,
		rpc:    a.rpc.Counters,
		trust:  a.identity.Trust,
		tags:   a.tagsNow,
		reload: a.Reload,
		leave:  func() { a.leaving.Do(func() { close(a.left) }) },
		ctx:    a.ctx,
		start:  a.background,
		logger: a.logger,
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

// Close stops everything, waits for it, and then wipes the secrets.
func (a *Agent) Close() error {
	a.closing.Lock()
	a.cancel()
	a.closing.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var problems []error
	if a.metrics != nil {
		problems = append(problems, a.metrics.Close())
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
	if a.runner != nil {
		problems = append(problems, a.runner.Close(ctx))
	}
	problems = append(problems, a.started.close())
	a.running.Wait()
	if a.identity != nil {
		// A call that outlived closeTimeout gets an error from them.
		a.identity.Destroy()
	}
	if a.lock != nil {
		problems = append(problems, a.lock.Close())
	}
	return errors.Join(problems...)
}
