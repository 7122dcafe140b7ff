package agent

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/secgossip/secgossip/handler"
	"github.com/secgossip/secgossip/internal/discover"
	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/internal/link"
	"github.com/secgossip/secgossip/internal/metrics"
	"github.com/secgossip/secgossip/secgossip"
)

// Settings are what an operator can say about an agent. The keys of the settings
// file are the names of the flags. No setting weakens a check.
type Settings struct {
	Bind            string            `yaml:"bind"`
	Advertise       []string          `yaml:"advertise"`
	RPCAddr         string            `yaml:"rpc-addr"`
	MetricsAddr     string            `yaml:"metrics-addr"`
	Join            []string          `yaml:"join"`
	RetryJoin       []string          `yaml:"retry-join"`
	Discover        string            `yaml:"discover"`
	MDNSIface       string            `yaml:"mdns-iface"`
	RetryInterval   string            `yaml:"retry-interval"`
	RetryMax        int               `yaml:"retry-max"`
	Tags            map[string]string `yaml:"tag"`
	Profile         string            `yaml:"profile"`
	LogLevel        string            `yaml:"log-level"`
	EventHandlers   []string          `yaml:"event-handler"`
	HandlerWritable []string          `yaml:"handler-writable"`
	HandlerUser     string            `yaml:"handler-user"`
	AgentUser       string            `yaml:"agent-user"`
	RotateEvery     string            `yaml:"rotate-every"`
	HandlerTimeout  string            `yaml:"handler-timeout"`
	HandlerSandbox  string            `yaml:"handler-sandbox"`
	Handlers        []HandlerSettings `yaml:"handlers"` // of a file only

	LeaveOnTerminate     bool `yaml:"leave-on-terminate"`
	SkipLeaveOnInterrupt bool `yaml:"skip-leave-on-interrupt"`

	Rejoin           bool   `yaml:"rejoin"`
	Replay           bool   `yaml:"replay"`
	ReconnectTimeout string `yaml:"reconnect-timeout"`
	TombstoneTimeout string `yaml:"tombstone-timeout"`

	Keyring              string `yaml:"keyring"`
	UnlockPassphraseFile string `yaml:"unlock-passphrase-file"`
	UnlockIdentityFile   string `yaml:"unlock-identity-file"`
}

// unlock is what the settings say about the node's sealed files.
func (s Settings) unlock() home.Unlock {
	return home.Unlock{PassphraseFile: s.UnlockPassphraseFile, IdentityFile: s.UnlockIdentityFile}
}

// DefaultSettings are in force where neither file nor flag says otherwise. There
// is no handler-user and no agent-user among them: which ones those are by default
// depends on whether the agent is root, and on the accounts there are.
func DefaultSettings() Settings {
	return Settings{
		Bind:           "0.0.0.0:7946",
		RPCAddr:        "127.0.0.1:7373",
		LogLevel:       "info",
		RotateEvery:    "1h",
		HandlerTimeout: "30s",
		HandlerSandbox: string(handler.Strict),
		Keyring:        keyringDisk,

		RetryInterval:    "15s",
		ReconnectTimeout: "24h",
		TombstoneTimeout: "24h",
	}
}

// DefaultAgentUser is the account of the network process of an agent that is root, if
// there is such a one.
const DefaultAgentUser = "secgossip"

// Where an agent keeps its epochs.
const (
	keyringDisk   = "disk"
	keyringMemory = "memory"
)

// Merge lays over on top of s: a value that is set replaces, lists are appended
// and tags are laid over one by one, as Serf does.
func (s Settings) Merge(over Settings) Settings {
	replace := func(value *string, by string) {
		if by != "" {
			*value = by
		}
	}
	replace(&s.Bind, over.Bind)
	replace(&s.RPCAddr, over.RPCAddr)
	replace(&s.MetricsAddr, over.MetricsAddr)
	replace(&s.Profile, over.Profile)
	replace(&s.LogLevel, over.LogLevel)
	replace(&s.HandlerUser, over.HandlerUser)
	replace(&s.AgentUser, over.AgentUser)
	replace(&s.RotateEvery, over.RotateEvery)
	replace(&s.HandlerTimeout, over.HandlerTimeout)
	replace(&s.HandlerSandbox, over.HandlerSandbox)
	replace(&s.Keyring, over.Keyring)
	replace(&s.RetryInterval, over.RetryInterval)
	replace(&s.ReconnectTimeout, over.ReconnectTimeout)
	replace(&s.TombstoneTimeout, over.TombstoneTimeout)
	s.RetryMax = cmp.Or(over.RetryMax, s.RetryMax)
	s.LeaveOnTerminate = s.LeaveOnTerminate || over.LeaveOnTerminate
	s.SkipLeaveOnInterrupt = s.SkipLeaveOnInterrupt || over.SkipLeaveOnInterrupt
	s.Rejoin = s.Rejoin || over.Rejoin
	s.Replay = s.Replay || over.Replay
	if over.unlock().Set() { // one takes the place of the other
		s.UnlockPassphraseFile, s.UnlockIdentityFile = over.UnlockPassphraseFile, over.UnlockIdentityFile
	}
	s.Advertise = slices.Concat(s.Advertise, over.Advertise)
	s.Join = slices.Concat(s.Join, over.Join)
	s.RetryJoin = slices.Concat(s.RetryJoin, over.RetryJoin)
	s.Discover = cmp.Or(over.Discover, s.Discover)
	s.MDNSIface = cmp.Or(over.MDNSIface, s.MDNSIface)
	s.EventHandlers = slices.Concat(s.EventHandlers, over.EventHandlers)
	s.HandlerWritable = slices.Concat(s.HandlerWritable, over.HandlerWritable)
	s.Handlers = slices.Concat(s.Handlers, over.Handlers)
	tags := maps.Clone(s.Tags)
	if tags == nil {
		tags = make(map[string]string)
	}
	maps.Copy(tags, over.Tags)
	s.Tags = tags
	return s
}

// plan is settings that were checked.
type plan struct {
	bind      netip.AddrPort
	advertise []netip.AddrPort // port 0: the port we listen on
	rpc       netip.AddrPort
	profile   secgossip.Profile
	level     slog.Level
	handlers  []handler.Spec
	providers []string // places that are programs, each once, by number
	rotate    time.Duration
	timeout   time.Duration

	retryInterval    time.Duration
	retryMax         int // 0: for ever
	reconnectTimeout time.Duration
	tombstoneTimeout time.Duration

	metricsNetwork, metricsAddr string // empty: off
}

// runsAtOnce is how many handlers and providers can run at the same time.
func (p plan) runsAtOnce() (count int) {
	count = len(p.providers)
	for _, spec := range p.handlers {
		count += max(1, spec.Settings.Concurrency)
	}
	return count
}

// Check reports every problem of the settings at once. What only this host can
// tell, whether a handler exists or an address is free, is found out by Start.
func (s Settings) Check() error {
	_, err := s.check()
	return err
}

func (s Settings) check() (plan, error) {
	var p plan
	var problems []error
	note := func(key string, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", key, err))
		}
	}
	var err error
	p.bind, err = parseAddr(s.Bind, defaultPort)
	note("bind", err)
	p.rpc, err = parseAddr(s.RPCAddr, defaultRPCPort)
	note("rpc-addr", err)
	if s.MetricsAddr != "" {
		p.metricsNetwork, p.metricsAddr, err = metrics.ParseAddr(s.MetricsAddr)
		note("metrics-addr", err)
	}
	for _, a := range s.Advertise {
		at, err := parseAdvertise(a)
		note("advertise", err)
		p.advertise = append(p.advertise, at)
	}
	if s.Profile != "" {
		p.profile, err = secgossip.ParseProfile(s.Profile)
		problems = append(problems, err) // it says that it is about the profile
	}
	p.level, err = parseLevel(s.LogLevel)
	note("log-level", err)
	problems = append(problems, secgossip.CheckTags(s.Tags)) // likewise
	for _, text := range s.EventHandlers {
		spec, err := handler.ParseSpec(text)
		note("event-handler", err)
		p.handlers = append(p.handlers, spec)
	}
	named := make(map[string]bool)
	for i, own := range s.Handlers {
		what := fmt.Sprintf("handlers: number %d", i+1)
		if own.Name != "" {
			what = fmt.Sprintf("handlers: %q", own.Name)
		}
		spec, err := own.spec()
		for _, problem := range problemsOf(err) {
			note(what, problem)
		}
		if own.Name != "" && named[own.Name] {
			note(what, errors.New("two handlers have that name"))
		}
		named[own.Name] = true
		p.handlers = append(p.handlers, spec)
	}
	p.rotate, err = parseRotateEvery(s.RotateEvery)
	note("rotate-every", err)
	p.timeout, err = parseTimeout(s.HandlerTimeout)
	note("handler-timeout", err)
	if s.HandlerSandbox != string(handler.Strict) && s.HandlerSandbox != string(handler.Reduced) {
		note("handler-sandbox", fmt.Errorf("%q: use %s or %s", s.HandlerSandbox, string(handler.Strict), string(handler.Reduced)))
	}
	if s.Keyring != keyringDisk && s.Keyring != keyringMemory {
		note("keyring", fmt.Errorf("%q: use %s or %s", s.Keyring, keyringDisk, keyringMemory))
	}
	for _, place := range s.Join {
		note("join", discover.CheckPlace(place))
	}
	for _, place := range s.RetryJoin {
		note("retry-join", discover.CheckPlace(place))
	}
	if p.providers = s.providers(); len(p.providers) > link.MaxProviders {
		note("retry-join", fmt.Errorf("%d programs to ask for addresses: at most %d", len(p.providers), link.MaxProviders))
	}
	if s.Discover != "" {
		note("discover", discover.CheckNeighbours(s.Discover))
	} else if s.MDNSIface != "" {
		note("mdns-iface", errors.New("without discover it means nothing"))
	}
	p.retryInterval, err = parseBetween(s.RetryInterval, time.Second, time.Hour)
	note("retry-interval", err)
	if p.retryMax = s.RetryMax; p.retryMax < 0 {
		note("retry-max", fmt.Errorf("%d: 1 or more, or 0 for ever", p.retryMax))
	}
	p.reconnectTimeout, err = parseBetween(s.ReconnectTimeout, secgossip.MinReap, secgossip.MaxReap)
	note("reconnect-timeout", err)
	p.tombstoneTimeout, err = parseBetween(s.TombstoneTimeout, secgossip.MinReap, secgossip.MaxReap)
	note("tombstone-timeout", err)
	problems = append(problems, s.unlock().Check())
	return p, errors.Join(problems...)
}

// problemsOf takes apart what was joined.
func problemsOf(err error) []error {
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		return list.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// The ports of addresses that are given without one. The first is Serf's.
const (
	defaultPort    = 7946
	defaultRPCPort = 7373
)

func parseLevel(s string) (slog.Level, error) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[s]
	if !ok {
		return 0, fmt.Errorf("%q: use debug, info, warn or error", s)
	}
	return level, nil
}

// parseRotateEvery reads how long an epoch is used. There is no word for never.
func parseRotateEvery(s string) (time.Duration, error) {
	every, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q: want a time with its unit, such as 1h or 15m; it cannot be switched off", s)
	}
	if every < secgossip.MinRotateEvery || every > maxRotateEvery {
		return 0, fmt.Errorf("%q: from %v to %v", s, secgossip.MinRotateEvery, maxRotateEvery)
	}
	return every, nil
}

// maxRotateEvery is a week: what was recorded can be read as long as its epoch is
// held anywhere, and a year's epoch would be as good as none.
const maxRotateEvery = 7 * 24 * time.Hour

// parseTimeout reads how long a handler may run. Less than a second is a slip of
// the unit; more than an hour would hold the handler's queue for good.
func parseTimeout(s string) (time.Duration, error) {
	timeout, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q: want a time with its unit, such as 30s or 5m", s)
	}
	if timeout < time.Second || timeout > time.Hour {
		return 0, fmt.Errorf("%q: from 1s to 1h", s)
	}
	return timeout, nil
}

// parseBetween reads a time with its unit.
func parseBetween(s string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q: want a time with its unit, such as 30s or 24h", s)
	}
	if d < least || d > most {
		return 0, fmt.Errorf("%q: from %v to %v", s, least, most)
	}
	return d, nil
}

// parseAdvertise reads an address that others are told. Port 0 stands for the
// one we listen on.
func parseAdvertise(s string) (netip.AddrPort, error) {
	at, err := parseAddr(s, 0)
	if err == nil && (at.Addr().IsUnspecified() || at.Addr().IsMulticast()) {
		return netip.AddrPort{}, fmt.Errorf("%q: others cannot reach it", s)
	}
	return at, err
}

// parseAddr reads ADDRESS or ADDRESS:PORT. Addresses are numbers: what a name
// leads to may change under us.
func parseAddr(s string, port uint16) (netip.AddrPort, error) {
	host := s
	if h, p, err := net.SplitHostPort(s); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%q: port is not a number from 0 to 65535", s)
		}
		host, port = h, uint16(n)
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q: not an IP address, with or without a port", s)
	}
	return netip.AddrPortFrom(addr.Unmap(), port), nil
}

// providers are the programs among the places to join by, each once. By this list both
// processes number them.
func (s Settings) providers() (places []string) {
	for _, place := range slices.Concat(s.Join, s.RetryJoin) {
		if _, _, ok := discover.Provider(place); ok && !slices.Contains(places, place) {
			places = append(places, place)
		}
	}
	return places
}

// forNetwork is what of the settings the network process is told: nothing of handlers.
func (s Settings) forNetwork() ([]byte, error) {
	s.EventHandlers, s.HandlerWritable, s.Handlers, s.HandlerUser = nil, nil, nil, ""
	return json.Marshal(s)
}

// settingsFrom reads what forNetwork has written.
func settingsFrom(text []byte) (s Settings, err error) {
	if err := json.Unmarshal(text, &s); err != nil {
		return Settings{}, fmt.Errorf("internal error: settings of the runner: %w", err)
	}
	return s, nil
}
