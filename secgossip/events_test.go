package secgossip

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
	"github.com/secgossip/secgossip/secgossip/internal/memnet"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

func TestEventReachesEveryNodeOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		client := c.client("memo", "event:memresponse")
		if err := client.fire(b, "memresponse", "xcxx"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		for _, h := range []*host{a, b, d} {
			if got, want := h.seen.names(), []string{"memresponse:xcxx"}; !slices.Equal(got, want) {
				t.Errorf("%s got %q, want %q", h.name, got, want)
			}
		}
		if a.seen.events[0].Principal != "memo" {
			t.Errorf("a was told that %q fired it", a.seen.events[0].Principal)
		}
	})
}

func TestEventForOneNodeIsDeliveredThereOnly(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		if err := c.client("memo", "event:*").fire(a, "deploy", "v1", "d"); err != nil {
			t.Fatal(err)
		}
		c.settle()
		if got := d.seen.names(); !slices.Equal(got, []string{"deploy:v1"}) {
			t.Errorf("d got %q", got)
		}
		if got := slices.Concat(a.seen.names(), b.seen.names()); len(got) > 0 {
			t.Errorf("a and b got %q", got)
		}
	})
}

func TestEventOutsideTheGrantIsRefusedByTheFirstNode(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		err := c.client("memo", "event:mem*", "members:read").fire(a, "deploy", "v1")
		if !errors.Is(err, rpcauth.ErrGrant) {
			t.Errorf("got %v, want ErrGrant", err)
		}
		c.settle()
		for _, h := range []*host{a, b, d} {
			if got := h.seen.names(); len(got) > 0 {
				t.Errorf("%s got %q", h.name, got)
			}
		}
	})
}

// Threat K03, C04: a member that was broken into puts events into gossip itself.
// No other node runs anything for them.
func TestMemberCannotMakeOthersRunAnything(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		limited := c.client("memo", "event:mem*")
		foreign := newCluster(t, "demo")
		defer foreign.net.Close()
		genuine := limited.sign("memresponse", "xcxx")
		altered := bytes.Clone(genuine)
		altered[len(altered)-80] ^= 1
		expired := c.client("memo2", "event:*").sign("deploy", "late")
		time.Sleep(2 * time.Hour)
		for name, raw := range map[string][]byte{
			"outside the grant":              limited.sign("deploy", "v1"),
			"one bit altered":                altered,
			"client of another cluster":      foreign.client("memo", "event:*").sign("deploy", "v1"),
			"token of another client":        resign(t, c, c.client("thief", "members:read").key, genuine),
			"expired":                        expired,
			"signed by the member itself":    resign(t, c, a.identity.Signing, genuine),
			"not an event":                   []byte("memresponse xcxx"),
			"a node record for an event":     a.node.self.current(),
			"the token alone":                limited.token,
			"an event with a byte after it":  append(bytes.Clone(genuine), 0),
			"an event without its last byte": genuine[:len(genuine)-1],
		} {
			before := b.node.counts.eventsRefused.Load()
			a.spread(raw)
			c.settle()
			for _, h := range []*host{b, d} {
				if got := h.seen.names(); len(got) > 0 {
					t.Errorf("%s: %s ran %q", name, h.name, got)
				}
			}
			if b.node.counts.eventsRefused.Load() == before {
				t.Errorf("%s: b did not count a refusal", name)
			}
		}
	})
}

// resign puts another signature under what a genuine event says, token included.
func resign(t *testing.T, c *cluster, key crypto.Signer, genuine []byte) []byte {
	message := must(cose.Parse(genuine))(t)
	return must(cose.Sign(key, cose.Context("secgossip/1 event", c.root.Trust().Cluster()), message.Payload))(t)
}

// Threat C05: an insider sends a genuine event again and again, also after the
// receiver was restarted.
func TestGenuineEventRunsOnceForEver(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		raw := c.client("memo", "event:*").sign("deploy", "v1")
		a.spread(raw)
		c.settle()
		for range 20 {
			a.spread(raw)
		}
		c.settle()
		b.crash()
		b.start().join(a)
		c.settle()
		for range 20 {
			a.spread(raw)
		}
		c.settle()
		if got, want := b.seen.names(), []string{"deploy:v1"}; !slices.Equal(got, want) {
			t.Errorf("b got %q, want %q", got, want)
		}
	})
}

// Threat C05: without its journal a node cannot know what it ran, so what was fired
// before its start is not run, give or take what clocks may be apart.
func TestEventFromBeforeTheStartIsRefusedWhenTheJournalIsLost(t *testing.T) {
	for name, lose := range map[string]func(path string) error{
		"gone":    os.Remove,
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"damaged": func(path string) error {
			content, err := os.ReadFile(path)
			if err == nil {
				content[0] ^= 1
				err = os.WriteFile(path, content, 0o600)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster) {
				a, b, _ := c.three()
				client := c.client("memo", "event:*")
				raw := client.sign("deploy", "v1")
				a.spread(raw)
				c.settle()
				b.crash()
				if err := lose(filepath.Join(b.state, "events.journal")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(pki.Tolerance + time.Second)
				b.start().join(a)
				for range 20 {
					a.spread(raw)
				}
				if err := client.fire(a, "deploy", "v2"); err != nil {
					t.Fatal(err)
				}
				c.settle()
				if got, want := b.seen.names(), []string{"deploy:v1", "deploy:v2"}; !slices.Equal(got, want) {
					t.Errorf("b got %q, want %q", got, want)
				}
				if _, err := b.node.Fire(raw, client.public()); !errors.Is(err, ErrStale) {
					t.Errorf("fired at b: got %v, want ErrStale", err)
				}
				b.crash() // what it does not know it does not know at the next start either
				b.start().join(a)
				a.spread(raw)
				c.settle()
				if got, want := b.seen.names(), []string{"deploy:v1", "deploy:v2"}; !slices.Equal(got, want) {
					t.Errorf("after another start b got %q, want %q", got, want)
				}
			})
		})
	}
}

func TestClientCannotHandInWhatAnotherSigned(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.host("a").start()
		raw := c.client("memo", "event:*").sign("deploy", "v1")
		if _, err := a.node.Fire(raw, c.client("other", "event:*").public()); !errors.Is(err, ErrNotYours) {
			t.Errorf("got %v, want ErrNotYours", err)
		}
		if got := a.seen.names(); len(got) > 0 {
			t.Errorf("a got %q", got)
		}
	})
}

func TestSameEventFiredTwiceIsADuplicate(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		client := c.client("memo", "event:*")
		raw := client.sign("deploy", "v1")
		if _, err := a.node.Fire(raw, client.public()); err != nil {
			t.Fatal(err)
		}
		c.settle()
		for _, h := range []*host{a, b} {
			if _, err := h.node.Fire(raw, client.public()); !errors.Is(err, ErrDuplicate) {
				t.Errorf("%s: got %v, want ErrDuplicate", h.name, err)
			}
		}
	})
}

// Threat N02, N03: everything on the wire is recorded and sent again, from where
// it came and from elsewhere, now and after each side restarted.
func TestRecordedTrafficIsNeverAcceptedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		var mu sync.Mutex
		var tape []memnet.Datagram
		c.net.Tap(func(d memnet.Datagram) {
			mu.Lock()
			defer mu.Unlock()
			tape = append(tape, d)
		})
		a, b, d := c.three()
		if err := c.client("memo", "event:*").fire(a, "deploy", "v1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		mu.Lock()
		recorded := slices.Clone(tape)
		mu.Unlock()
		if len(recorded) < 100 {
			t.Fatalf("only %d datagrams were recorded", len(recorded))
		}
		// replay sends everything again, without genuine traffic meanwhile.
		replay := func(from netip.AddrPort) (accepted, dropped uint64) {
			c.net.Hold()
			defer c.net.Release()
			synctest.Wait()
			acceptedBefore, droppedBefore := c.received()
			for _, packet := range recorded {
				if from.IsValid() {
					packet.From = from
				}
				c.net.Inject(packet)
				synctest.Wait() // a socket's queue is bounded
			}
			accepted, dropped = c.received()
			return accepted - acceptedBefore, dropped - droppedBefore
		}
		// A few were sent before their receiver knew the sender, and not
		// accepted then. What comes late comes once.
		replay(netip.AddrPort{})
		check := func(when string) {
			t.Helper()
			for _, from := range []netip.AddrPort{{}, a.addr, netip.MustParseAddrPort("192.0.2.66:666")} {
				accepted, dropped := replay(from)
				if accepted != 0 || dropped != uint64(len(recorded)) {
					t.Errorf("%s: of %d recorded datagrams %d were accepted and %d dropped", when, len(recorded), accepted, dropped)
				}
			}
		}
		check("live")
		b.crash()
		b.start().join(a)
		c.settle()
		check("one side restarted")
		a.crash()
		a.start().join(b)
		c.settle()
		check("both sides restarted")
		for _, h := range []*host{a, b, d} {
			if got := h.seen.names(); !slices.Equal(got, []string{"deploy:v1"}) {
				t.Errorf("%s got %q", h.name, got)
			}
		}
	})
}

// received counts the datagrams all nodes have accepted and dropped.
func (c *cluster) received() (accepted, dropped uint64) {
	for _, h := range c.hosts {
		for name, n := range h.node.transport.Counters() {
			switch {
			case name == "packets_received":
				accepted += n
			case strings.HasPrefix(name, "drop_"):
				dropped += n
			}
		}
	}
	return accepted, dropped
}

func TestEventsInQuickSuccessionAllArrive(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		client := c.client("memo", "event:*")
		for i := range 200 {
			if err := client.fire(a, "tick", fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		for _, h := range []*host{a, b, d} {
			if got := len(h.seen.names()); got != 200 {
				t.Errorf("%s got %d events, want 200", h.name, got)
			}
		}
	})
}

func TestEventsAreDroppedWhenTheyCannotBeTakenIn(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.host("a").start()
		junk := make([][]byte, wire.MaxPacketItems)
		for i := range junk {
			junk[i] = []byte{byte(i)}
		}
		for range 2 * incomingQueue / len(junk) {
			a.node.receiveEvents("x", junk, false)
		}
		refused := a.node.counts.eventsRefused.Load() + a.node.counts.eventsOverflow.Load()
		if waiting := len(a.node.incoming); waiting > incomingQueue || refused == 0 {
			t.Errorf("%d wait, %d refused or dropped", waiting, refused)
		}
	})
}
