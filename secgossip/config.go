package secgossip

import (
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/transport"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Identity is what a node is and what it proves it with.
type Identity struct {
	Name       pki.Name
	Credential []byte // the signed credential, as issued
	// Certificate returns the TLS certificate in force; it is asked at every
	// handshake, so that a renewed one applies at once.
	Certificate func() (*tls.Certificate, error)
	Signing     crypto.Signer // the Ed25519 key in the credential
	Agreement   Agreement     // the X25519 key in the credential
}

// Agreement is an X25519 key that can be used and not read.
type Agreement interface {
	Public() [32]byte
	Agree(peer [32]byte) ([]byte, error)
}

// Network is where a node's sockets come from. Leave it nil for the host's own.
type Network = transport.Network

// Config is what a Node needs to run. Nothing in it can weaken a check.
type Config struct {
	Identity Identity
	Trust    *pki.Trust
	Keyring  *keyring.File
	// Verifier decides which events and queries are relayed and delivered.
	Verifier Verifier
	// Observer is told of members and events. Nil is allowed.
	Observer Observer

	Bind      netip.AddrPort   // where to listen, UDP and TCP
	Advertise []netip.AddrPort // where others reach us; empty: found from Bind
	Tags      map[string]string
	Profile   Profile // empty: ProfileFor the addresses that others are told
	StateDir  string  // journal and node records; empty: memory only

	// RotateEvery is how long an epoch is used before a keeper makes the next:
	// MinRotateEvery at least, DefaultRotateEvery if zero. It cannot be switched off.
	RotateEvery time.Duration

	// ReconnectTimeout is how long a failed member is looked for, and TombstoneTimeout
	// how long one that left is remembered, before it is forgotten: MinReap to MaxReap,
	// DefaultReap if zero.
	ReconnectTimeout, TombstoneTimeout time.Duration

	// Rejoin lets a node that left go back by itself at its next start: it keeps the
	// records of the nodes that it knows.
	Rejoin bool

	// Replay delivers events to a node without a journal that were fired before it
	// started, as far as members still keep them. Without it such a node takes none of
	// them: it may have lost the journal, and with it what it has run.
	Replay bool

	// Strangers returns what strangers moved at other listeners of the agent, by
	// reason: the node puts it into its one line a minute. Nil is allowed.
	Strangers func() map[string]uint64

	Network Network
	Logger  *slog.Logger

	// now is this host's clock, time.Now if nil. A test has a wrong one.
	now func() time.Time

	// volumeMark is volumeMark if zero. A test seals less.
	volumeMark uint64

	// addresses lists the host's own; only those of IPv4 if asked so. A test has
	// another host.
	addresses func(only4 bool) []netip.Addr
}

// How long an epoch is used.
const (
	DefaultRotateEvery = time.Hour
	MinRotateEvery     = time.Minute
)

// How long members that are gone are remembered. The default is Serf's.
const (
	DefaultReap = 24 * time.Hour
	MinReap     = time.Minute
	MaxReap     = 30 * 24 * time.Hour
)

// Observer is told what happens, in order, from a single goroutine. Its methods
// must not block for long: events wait in a bounded queue meanwhile.
type Observer interface {
	// MemberEvent reports a change: "member-join", "member-leave", "member-failed",
	// "member-update", "member-reap", "member-evict" or "member-quarantine".
	MemberEvent(kind string, m Member)
	// EpochEvent reports that this node has taken a step of an epoch's life.
	EpochEvent(e EpochEvent)
	// UserEvent delivers an event addressed to this node, at most once.
	UserEvent(e Event)
	// Query delivers a query addressed to this node, at most once. Whoever has an
	// answer calls Node.Answer, and when none will come Node.NoAnswer, later and from
	// anywhere.
	Query(q Query)
}

type noObserver struct{}

func (noObserver) MemberEvent(string, Member) {}
func (noObserver) EpochEvent(EpochEvent)      {}
func (noObserver) UserEvent(Event)            {}
func (noObserver) Query(Query)                {}

// check reports every problem at once.
func (c *Config) check() error {
	var problems []error
	need := func(ok bool, what string) {
		if !ok {
			problems = append(problems, errors.New(what+" is missing"))
		}
	}
	need(c.Identity.Name != "" && c.Identity.Signing != nil && c.Identity.Agreement != nil &&
		c.Identity.Certificate != nil && len(c.Identity.Credential) > 0, "identity")
	need(c.Trust != nil, "bundle of trusted roots")
	need(c.Keyring != nil, "keyring")
	need(c.Verifier != nil, "event verifier")
	if !c.Bind.IsValid() {
		problems = append(problems, errors.New("bind address is missing"))
	}
	if len(c.Advertise) > wire.MaxEndpoints {
		problems = append(problems, fmt.Errorf("%d advertised addresses: at most %d", len(c.Advertise), wire.MaxEndpoints))
	}
	for _, a := range c.Advertise {
		if !a.IsValid() || a.Addr().IsUnspecified() || a.Port() == 0 {
			problems = append(problems, fmt.Errorf("advertised address %s: others cannot reach it", a))
		}
	}
	isLoopback := func(a netip.AddrPort) bool { return a.Addr().IsLoopback() }
	if slices.ContainsFunc(c.Advertise, isLoopback) && len(slices.DeleteFunc(slices.Clone(c.Advertise), isLoopback)) > 0 {
		problems = append(problems, errors.New("advertised addresses: loopback beside others; on other hosts it leads nowhere"))
	}
	if err := CheckTags(c.Tags); err != nil {
		problems = append(problems, err)
	}
	if c.RotateEvery != 0 && c.RotateEvery < MinRotateEvery {
		problems = append(problems, fmt.Errorf("epochs of %v: %v is the shortest", c.RotateEvery, MinRotateEvery))
	}
	for _, d := range []time.Duration{c.ReconnectTimeout, c.TombstoneTimeout} {
		if d != 0 && (d < MinReap || d > MaxReap) {
			problems = append(problems, fmt.Errorf("members that are gone are remembered for %v: from %v to %v", d, MinReap, MaxReap))
		}
	}
	if c.Profile != "" {
		if _, err := ParseProfile(string(c.Profile)); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// Limits on time. Each bounds a wait for somebody else.
const (
	syncTimeout  = 10 * time.Second // one exchange with one member
	leaveTimeout = 5 * time.Second  // spreading our leave
)
