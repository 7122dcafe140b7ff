package secgossip

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
)

// on is a host that listens on every address and has these ones.
func (h *host) on(bind string, addrs *atomic.Pointer[[]netip.Addr]) *host {
	h.settings = func(c *Config) {
		c.Bind = netip.MustParseAddrPort(bind)
		c.addresses = func(only4 bool) []netip.Addr {
			return slices.DeleteFunc(slices.Clone(*addrs.Load()), func(a netip.Addr) bool { return only4 && !a.Is4() })
		}
	}
	return h
}

func addresses(texts ...string) *atomic.Pointer[[]netip.Addr] {
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	p := new(atomic.Pointer[[]netip.Addr])
	p.Store(&all)
	return p
}

// told is what a node's record tells others, as another host has it.
func (h *host) told(of *host) (texts []string) {
	for _, endpoint := range h.node.roster.Get(pki.Name(of.name)).Record.Endpoints {
		texts = append(texts, endpoint.String())
	}
	return texts
}

// A host that listens on every address tells the ones it has: public ones first,
// of the families it listens on, and loopback only if it has nothing else.
func TestOthersAreToldWhatTheyCanReach(t *testing.T) {
	for _, test := range []struct {
		bind string
		has  []string
		want []string
	}{
		{"0.0.0.0:7946", []string{"127.0.0.1", "10.0.0.1", "203.0.113.1", "2001:db8::1"}, []string{"203.0.113.1:7946", "10.0.0.1:7946"}},
		{"[::]:7946", []string{"127.0.0.1", "::1", "2001:db8::1"}, []string{"[2001:db8::1]:7946"}},
		{"[::]:7946", []string{"203.0.113.1", "fd00::1", "2001:db8::1"}, []string{"203.0.113.1:7946", "[2001:db8::1]:7946", "[fd00::1]:7946"}},
		{"0.0.0.0:7946", []string{"127.0.0.1", "2001:db8::1"}, []string{"127.0.0.1:7946"}},
	} {
		inBubble(t, func(t *testing.T, c *cluster) {
			a := c.host("a").on(test.bind, addresses(test.has...)).start()
			if got := a.told(a); !slices.Equal(got, test.want) {
				t.Errorf("bound to %s with %q: told %q, want %q", test.bind, test.has, got, test.want)
			}
		})
	}
}

// The address of a's host changes while it runs. Everybody hears of it, those a
// does not talk to as well, and nobody counts a as failed.
func TestHostThatGetsAnotherAddressTellsEverybody(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.host("a"), c.host("b"), c.host("d")
		has := addresses("203.0.113.1")
		a.on("0.0.0.0:7946", has).start()
		b.start().join(a)
		d.start().join(a)
		c.settle()
		has.Store(&[]netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8::1")})
		time.Sleep(2 * moveEvery)
		if got, want := b.told(a), []string{"203.0.113.1:7946"}; !slices.Equal(got, want) {
			t.Errorf("an address of another family: b was told %q, want %q", got, want)
		}
		has.Store(&[]netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("198.51.100.1")})
		time.Sleep(moveEvery + 10*time.Second)
		for _, h := range []*host{a, b, d} {
			if got, want := h.told(a), []string{"203.0.113.1:7946", "198.51.100.1:7946"}; !slices.Equal(got, want) {
				t.Errorf("%s was told that a is at %q, want %q", h.name, got, want)
			}
		}
		// Without a network it stays with what it said.
		for _, left := range [][]netip.Addr{nil, {netip.MustParseAddr("127.0.0.1")}} {
			has.Store(&left)
			time.Sleep(2 * moveEvery)
			if got := a.told(a); len(got) != 2 {
				t.Errorf("with the addresses %v a says it is at %q", left, got)
			}
		}
		if got := b.statuses(); got != "a alive, b alive, d alive" {
			t.Errorf("b sees %s", got)
		}
	})
}

func TestHostWithoutAnAddressIsNotStarted(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		h := c.host("a").on("0.0.0.0:7946", addresses("2001:db8::1"))
		h.file = must(keyring.OpenFile(h.keyring, h.locker))(t)
		config := Config{
			Identity: h.identity, Trust: c.trust(), Keyring: h.file, Verifier: testVerifier{rpcauth.NewVerifier(c.trust())},
			Bind: h.addr, StateDir: h.state, Network: c.net.Host(h.addr.Addr()),
		}
		h.settings(&config)
		if _, err := New(config); err == nil || !strings.Contains(err.Error(), "has no address of the family") {
			t.Errorf("got %v, want that the host has no address", err)
		}
	})
}

// Records are signed for several reasons at once, and none gets in another's way.
func TestRecordsSignedAtOnceAreAllTaken(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.host("a").start()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 100 {
					if err := a.node.renewRecord(0); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	})
}

// The whole cluster hears events while UDP between two of its hosts is blocked,
// and says so.
func TestEventsReachAHostWhoseUDPIsBlocked(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		for _, other := range []*host{a, d} {
			c.net.BlockUDP(other.addr.Addr(), b.addr.Addr())
			c.net.BlockUDP(b.addr.Addr(), other.addr.Addr())
		}
		time.Sleep(time.Minute)
		ops := c.client("ops", "event:*")
		for i := range 20 {
			if err := ops.fire(a, "deploy", string(rune('a'+i))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		c.settle()
		for _, h := range []*host{a, b, d} {
			if got := len(h.seen.names()); got != 20 {
				t.Errorf("%s heard of %d events, want 20", h.name, got)
			}
			if got := h.statuses(); got != "a alive, b alive, d alive" {
				t.Errorf("%s sees %s", h.name, got)
			}
		}
		paths := make(map[string]Path)
		for _, m := range a.node.Members() {
			paths[m.Name] = m.Path
		}
		if paths["a"] != "" || paths["b"] != PathStream || paths["d"] != PathUDP {
			t.Errorf("paths from a: %v", paths)
		}
		for _, other := range []*host{a, d} {
			c.net.Unblock(other.addr.Addr(), b.addr.Addr())
			c.net.Unblock(b.addr.Addr(), other.addr.Addr())
		}
		time.Sleep(10 * time.Second)
		for _, m := range a.node.Members() {
			if m.Path == PathStream {
				t.Errorf("%s is still reached by stream", m.Name)
			}
		}
	})
}
