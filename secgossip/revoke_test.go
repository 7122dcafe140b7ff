package secgossip

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// revoke has a host's node take somebody back.
func (h *host) revoke(verb Verb, name string) Revoked {
	h.c.t.Helper()
	return must(h.node.Revoke(h.c.t.Context(), Order{Verb: verb, Name: name}))(h.c.t)
}

// issue gives a host another identity: of this name, and of the same key if it is the
// same host.
func (c *cluster) issue(h *host, name string) {
	c.t.Helper()
	h.issued = must(c.root.Node(pki.NodeRequest{
		Name:         pki.Name(name),
		SigningKey:   h.identity.Signing.Public().(ed25519.PublicKey),
		AgreementKey: h.identity.Agreement.Public(),
	}, time.Now()))(c.t)
	own := &tls.Certificate{Certificate: h.issued.Chain, PrivateKey: h.identity.Signing}
	h.identity.Name, h.identity.Credential = pki.Name(name), h.issued.Credential
	h.identity.Certificate = func() (*tls.Certificate, error) { return own, nil }
}

// refused checks that a host gets into no node of the others.
func (h *host) refused(when string, others ...*host) {
	h.c.t.Helper()
	for _, other := range others {
		if _, err := h.node.Join(h.c.t.Context(), []string{other.addr.String()}); err == nil {
			h.c.t.Errorf("%s: %s lets %s in", when, other.name, h.name)
		}
		if _, err := other.node.transport.Sync(h.c.t.Context(), memberlist.Address{Name: h.name}); err == nil {
			h.c.t.Errorf("%s: %s dials %s", when, other.name, h.name)
		}
	}
}

// A story: a node is evicted. It is out of everybody's members at once, gets no epoch
// from then on, and does not come back with what it has, whoever restarts.
func TestEvictedNodeIsOutForGood(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, x := c.host("a"), c.host("b"), c.host("x")
		log := new(logBuffer)
		c.logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		a.start()
		b.start().join(a)
		x.start().join(a)
		time.Sleep(time.Minute)
		done := a.revoke(VerbEvict, "x")
		if done.Epoch != 2 || len(done.Missing) > 0 || !slices.Equal(done.Confirmed, []string{"a", "b"}) {
			t.Errorf("it ended as %+v", done)
		}
		for _, h := range []*host{a, b} {
			if got, want := h.statuses(), "a alive, b alive, x evicted"; got != want {
				t.Errorf("%s sees %q, want %q", h.name, got, want)
			}
			for _, want := range []string{"member-failed x", "member-evict x"} {
				if !slices.Contains(h.seen.memberEvents(), want) {
					t.Errorf("%s was told %q", h.name, h.seen.memberEvents())
				}
			}
		}
		x.refused("at once", a, b)
		if err := c.client("memo", "event:*").fire(x, "deploy", ""); err != nil {
			t.Fatal(err)
		}
		c.settle()
		if got := append(a.seen.names(), b.seen.names()...); len(got) > 0 {
			t.Errorf("a and b hear x say %q", got)
		}
		time.Sleep(5 * time.Minute)
		if got := x.epochs(); got != "1*" {
			t.Errorf("x holds %q, want %q", got, "1*")
		}
		if got := b.epochs(); got != "2*" {
			t.Errorf("b holds %q, want %q: one epoch for one revocation", got, "2*")
		}
		for _, want := range []string{"member-failed x", "member-evict x"} {
			if got := slices.DeleteFunc(b.seen.memberEvents(), func(e string) bool { return e != want }); len(got) != 1 {
				t.Errorf("b was told %d times %q", len(got), want)
			}
		}
		if got := len(lines(log, "at=x")) - len(lines(log, "at=x", "level=DEBUG")); got > 200 {
			t.Errorf("x logged %d lines in five minutes", got)
		}
		if got := lines(log, "node is still away", "node=x"); len(got) > 0 {
			t.Errorf("somebody looks for x: %q", got)
		}
		for _, h := range []*host{a, b, x} {
			h.stop()
		}
		x.start()
		b.start()
		x.refused("after a restart of all", b)
		a.start().join(b)
		x.refused("after a restart of all", a)
		time.Sleep(2 * time.Minute)
		if got, want := b.statuses(), "a alive, b alive"; got != want {
			t.Errorf("afterwards b sees %q, want %q", got, want)
		}
		if got := x.epochs(); got != "1*" {
			t.Errorf("afterwards x holds %q, want %q", got, "1*")
		}
	})
}

func TestEvictedNodeComesBackWithANewIdentity(t *testing.T) {
	for _, quickly := range []bool{true, false} {
		inBubble(t, func(t *testing.T, c *cluster) {
			a, b, x := c.host("a"), c.host("b"), c.host("x")
			a.start()
			b.start().join(a)
			x.start().join(a)
			time.Sleep(time.Minute + 300*time.Millisecond) // certificates have whole seconds, revocations do not
			a.revoke(VerbEvict, "x")
			if !quickly { // memberlist has found it dead by then
				time.Sleep(time.Minute)
			}
			x.stop()
			c.issue(x, "x") // in the very moment at which the command is done
			x.start().join(b)
			time.Sleep(time.Minute)
			for _, h := range []*host{a, b, x} {
				if got, want := h.statuses(), "a alive, b alive, x alive"; got != want {
					t.Errorf("quickly %t: %s sees %q, want %q", quickly, h.name, got, want)
				}
			}
			if got := x.epochs(); got != "2*" {
				t.Errorf("quickly %t: x holds %q, want %q", quickly, got, "2*")
			}
			events := slices.DeleteFunc(b.seen.memberEvents(), func(e string) bool { return !strings.HasSuffix(e, " x") })
			if want := []string{"member-join x", "member-evict x", "member-failed x", "member-join x"}; !slices.Equal(events[:min(4, len(events))], want) {
				t.Errorf("quickly %t: b was told %q, want %q", quickly, events, want)
			}
		})
	}
}

// Threat K15: whoever is banned comes back neither with another key, nor in another
// name, nor with what is issued later, until it is unbanned; and then only with that.
func TestBanIsOfTheNameAndOfTheKey(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, x := c.host("a"), c.host("x")
		a.start()
		x.start().join(a)
		c.settle()
		a.revoke(VerbBan, "x")
		time.Sleep(time.Minute)
		x.stop()

		c.issue(x, "x")
		x.start().refusedAtA("issued again")
		c.issue(x, "y")
		x.start().refusedAtA("in another name")
		other := c.host("z")
		c.issue(other, "x")
		other.start().refusedAtA("with another key")

		if _, err := a.node.Revoke(t.Context(), Order{Verb: VerbEvict, Name: "x"}); !errors.Is(err, ErrRevoke) {
			t.Errorf("an eviction in the place of a ban: got %v, want ErrRevoke", err)
		}
		time.Sleep(time.Second)
		a.revoke(VerbUnban, "x")
		other.start().refusedAtA("from before it was unbanned")
		c.issue(other, "x")
		other.start().join(a)
		c.settle()
		if got, want := a.statuses(), "a alive, x alive"; got != want {
			t.Errorf("afterwards a sees %q, want %q", got, want)
		}
		if _, err := a.node.Revoke(t.Context(), Order{Verb: VerbUnban, Name: "x"}); !errors.Is(err, ErrRevoke) {
			t.Errorf("unbanned twice: got %v, want ErrRevoke", err)
		}
	})
}

// refusedAtA checks that a host does not get in at a, and stops it.
func (h *host) refusedAtA(when string) {
	h.c.t.Helper()
	h.refusedAt(when, h.c.hosts["a"])
	h.stop()
}

func (h *host) refusedAt(when string, at *host) {
	h.c.t.Helper()
	if _, err := h.node.Join(h.c.t.Context(), []string{at.addr.String()}); err == nil {
		h.c.t.Errorf("%s: %s lets it in", when, at.name)
	}
}

func TestWhatCannotBeRevokedIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		for _, order := range []Order{
			{Verb: VerbEvict, Name: "a"},        // itself, the last keeper
			{Verb: VerbBan, Name: "a"},          // likewise
			{Verb: VerbEvict, Name: "nobody"},   // a name nobody has
			{Verb: VerbUnban, Name: "b"},        // it is not banned
			{Verb: VerbEvict, Name: "../state"}, // no name
			{Verb: "forget", Name: "b"},
			{Verb: VerbEvict, Name: "b", Reason: strings.Repeat("r", wire.MaxReason+1)},
		} {
			if _, err := a.node.Revoke(t.Context(), order); !errors.Is(err, ErrRevoke) {
				t.Errorf("%+v: got %v, want ErrRevoke", order, err)
			}
		}
		_, err := b.node.Revoke(t.Context(), Order{Verb: VerbEvict, Name: "d"})
		if !errors.Is(err, ErrNotKeeper) || !strings.Contains(err.Error(), "keepers are: a") {
			t.Errorf("at a node that is no keeper: got %v, want ErrNotKeeper with the keepers", err)
		}
		if got, want := a.statuses(), "a alive, b alive, d alive"; got != want || len(a.node.Revocations()) > 0 || a.epochs() != "1*" {
			t.Errorf("something was done: a sees %q and holds %q", got, a.epochs())
		}
	})
}

// Two keepers revoke at once, also each other: all nodes end with the same, and with
// one epoch.
func TestKeepersThatRevokeAtOnceEndWithOne(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d, x, y := c.host("a"), c.host("b", pki.RoleKeeper), c.host("d"), c.host("x"), c.host("y")
		a.start()
		for _, h := range []*host{b, d, x, y} {
			h.start().join(a)
		}
		time.Sleep(time.Minute) // until b has heard of x and y, from a
		if got, want := b.statuses(), "a alive, b alive, d alive, x alive, y alive"; got != want {
			t.Fatalf("b sees %q, want %q", got, want)
		}
		done := make(chan error)
		go func() {
			_, err := b.node.Revoke(context.Background(), Order{Verb: VerbEvict, Name: "y"})
			done <- err
		}()
		a.revoke(VerbEvict, "x")
		if err := <-done; err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Minute)
		for _, h := range []*host{a, b, d} {
			if got, want := h.statuses(), "a alive, b alive, d alive, x evicted, y evicted"; got != want {
				t.Errorf("%s sees %q, want %q", h.name, got, want)
			}
		}
		if got := primaries(a, b, d); len(got) != 1 {
			t.Errorf("they seal with %q, want one epoch", got)
		}
		if got := a.node.ledger.revoked(mustPrimary(a)); got != b.node.revocations.inForce.Load().sum {
			t.Error("the epoch in use does not cover both revocations")
		}
		// Of the epoch that one keeper made before it heard of the other, x or y may
		// have the secret. It is not the one in use, though the number may be the same.
		for _, h := range []*host{x, y} {
			for _, e := range h.node.Epochs() {
				if e.Fingerprint == a.fingerprint() {
					t.Errorf("%s has the epoch in use", h.name)
				}
			}
		}
	})
}

func mustPrimary(h *host) uint64 {
	_, primary := h.node.EpochState()
	return primary
}

// One side evicts a node that is on the other. When they meet, it is out there too, and
// an epoch is in use that it never had.
func TestRevocationOfOnePartHoldsInBoth(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d, x := c.host("a"), c.host("b", pki.RoleKeeper), c.host("d"), c.host("x")
		a.start()
		for _, h := range []*host{b, d, x} {
			h.start().join(a)
		}
		time.Sleep(time.Minute)
		c.net.Partition([]netip.Addr{a.addr.Addr(), d.addr.Addr()}, []netip.Addr{b.addr.Addr(), x.addr.Addr()})
		a.revoke(VerbEvict, "x")
		time.Sleep(time.Minute)
		c.rotate(b) // and x gets it
		if got := x.epochs(); !strings.HasPrefix(got, "2*") {
			t.Fatalf("x holds %q, want what b made", got)
		}
		c.net.Heal()
		time.Sleep(2 * time.Minute)
		for _, h := range []*host{a, b, d} {
			if got, want := h.statuses(), "a alive, b alive, d alive, x evicted"; got != want {
				t.Errorf("%s sees %q, want %q", h.name, got, want)
			}
		}
		if got := primaries(a, b, d); len(got) != 1 {
			t.Errorf("they seal with %q, want one epoch", got)
		}
		if a.node.ledger.revoked(mustPrimary(a)) != a.node.revocations.inForce.Load().sum {
			t.Error("the epoch in use does not cover the revocation")
		}
		if one, other := a.fingerprint(), x.fingerprint(); one == other {
			t.Error("x has the epoch in use")
		}
	})
}

func (h *host) fingerprint() string { return h.node.Epochs()[len(h.node.Epochs())-1].Fingerprint }

// The keeper that revoked is gone before it made an epoch. Another one does, and so
// does the same one after a restart.
func TestEpochFollowsARevocationThatWasCutShort(t *testing.T) {
	for _, another := range []bool{true, false} {
		inBubble(t, func(t *testing.T, c *cluster) {
			a, b, x := c.host("a"), c.host("b"), c.host("x")
			if another {
				b = c.host("c", pki.RoleKeeper)
			}
			a.start()
			b.start().join(a)
			x.start().join(a)
			c.settle()
			if _, err := a.node.revoke(Order{Verb: VerbEvict, Name: "x"}, time.Now()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			a.crash()
			if !another {
				a.start().join(b)
			}
			time.Sleep(2 * time.Minute)
			if got := mustPrimary(b); got != 2 {
				t.Errorf("another %t: b seals with epoch %d, want 2", another, got)
			}
			if got := x.epochs(); got != "1*" {
				t.Errorf("another %t: x holds %q, want %q", another, got, "1*")
			}
		})
	}
}

// Whoever learns of a revocation hears the node no more, before any epoch is made, and
// believes nobody who says that it is alive.
func TestRevokedNodeIsNotHeardFromThenOn(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, x := c.three()
		time.Sleep(time.Second)
		member := memberOf(b, x)
		if err := b.node.NotifyAlive(member); err != nil {
			t.Fatal(err)
		}
		b.node.revocations.Learn(c.signRevocation(a, evictionOf(x, 0)))
		time.Sleep(time.Second) // and a learns it from b
		if err := c.client("memo", "event:*").fire(x, "deploy", ""); err != nil {
			t.Fatal(err)
		}
		c.settle()
		if got := append(a.seen.names(), b.seen.names()...); len(got) > 0 {
			t.Errorf("a and b hear it say %q", got)
		}
		if got := b.epochs(); got != "1*" {
			t.Errorf("b holds %q: it was the new epoch that kept x out", got)
		}
		if err := b.node.NotifyAlive(member); !errors.Is(err, pki.ErrRevoked) {
			t.Errorf("that it is alive: got %v, want ErrRevoked", err)
		}
	})
}

// memberOf is how a host's memberlist knows another.
func memberOf(at, other *host) *memberlist.Node {
	all := at.node.list.Members()
	return all[slices.IndexFunc(all, func(m *memberlist.Node) bool { return m.Name == other.name })]
}

// A rotation was begun, and the node that is revoked then has its epoch. Nobody uses
// that one.
func TestEpochOfWhoIsRevokedIsNotGoneOnWith(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, x := c.three()
		if _, err := a.node.Install(t.Context(), func(Progress) {}); err != nil {
			t.Fatal(err)
		}
		if got := x.epochs(); got != "1* 2" {
			t.Fatalf("d holds %q, want %q", got, "1* 2")
		}
		if done := a.revoke(VerbEvict, "d"); done.Epoch != 3 || len(done.Missing) > 0 {
			t.Errorf("it ended as %+v, want epoch 3", done)
		}
		time.Sleep(2 * time.Minute)
		for _, h := range []*host{a, b} {
			if got := h.epochs(); got != "3*" {
				t.Errorf("%s holds %q, want %q", h.name, got, "3*")
			}
		}
	})
}

// signRevocation is a revocation as a host's node would sign it.
func (c *cluster) signRevocation(h *host, r wire.Revocation) [][]byte {
	c.t.Helper()
	if r.Keeper == "" {
		r.Keeper = h.name
	}
	if r.Reason == "" {
		r.Reason = "test"
	}
	return [][]byte{must(wire.SignRevocation(h.identity.Signing, c.root.Trust().Cluster(), r))(c.t), h.identity.Credential}
}

func subjectOf(h *host) wire.Subject {
	return wire.Subject{Kind: wire.KindNode, Name: h.name, Key: [32]byte(h.identity.Signing.Public().(ed25519.PublicKey))}
}

// evictionOf is one at a time, in milliseconds from now.
func evictionOf(h *host, ms int) wire.Revocation {
	at := time.Now().Add(time.Duration(ms) * time.Millisecond)
	return wire.Revocation{Verb: wire.VerbEvict, Subject: subjectOf(h), Before: at, Issued: at}
}

func TestServerThatLacksANamedRevocationRefusesUntilItLearns(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, x := c.host("a"), c.host("b"), c.host("x")
		b.start()
		revoked := evictionOf(x, 0)
		two := c.announce(a, 2, time.Now())
		said := two.said
		said.Action, said.Revoked = wire.ActionInstall, [16]byte{1}
		said.Named = []wire.Named{{Subject: revoked.Hash(), Issued: revoked.Issued}}
		two.install.raw = must(wire.SignStatement(a.identity.Signing, c.root.Trust().Cluster(), said))(t)
		learn(b, two.install, two.use)
		if err := b.install(two); err != nil {
			t.Fatal(err)
		}
		if _, err := b.node.ledger.Secret(two.request()); !errors.Is(err, errUnknownRevocations) {
			t.Errorf("without the revocation: got %v, want that it is refused", err)
		}
		earlier := revoked
		earlier.Issued = earlier.Issued.Add(-time.Millisecond)
		b.node.revocations.Learn(c.signRevocation(a, earlier))
		if _, err := b.node.ledger.Secret(two.request()); !errors.Is(err, errUnknownRevocations) {
			t.Errorf("with an earlier one: got %v, want that it is refused", err)
		}
		b.node.revocations.Learn(c.signRevocation(a, revoked))
		if _, err := b.node.ledger.Secret(two.request()); err != nil {
			t.Errorf("with the revocation: %v", err)
		}
	})
}

// In whatever order revocations come, what holds is the same; and what is older than
// what holds changes nothing.
func TestRevocationsInAnyOrderComeToTheSame(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, k, x, y := c.host("a"), c.host("k", pki.RoleKeeper), c.host("x"), c.host("y")
		ban := evictionOf(x, 40)
		ban.Verb, ban.Before = wire.VerbBan, wire.Forever
		unban := evictionOf(x, 50)
		unban.Verb = wire.VerbUnban
		all := [][][]byte{
			c.signRevocation(a, evictionOf(x, 10)),
			c.signRevocation(a, evictionOf(x, 30)),
			c.signRevocation(k, evictionOf(x, 30)), // at the same time: one of them counts
			c.signRevocation(a, ban),
			c.signRevocation(a, unban),
			c.signRevocation(a, evictionOf(k, 60)),
			c.signRevocation(k, evictionOf(y, 55)), // by k before it was evicted
			c.signRevocation(k, evictionOf(a, 70)), // and after
			c.signRevocation(k, evictionOf(x, 80)),
		}
		var want string
		for round := range 20 {
			r := newRevocations(c.trust(), slog.New(slog.DiscardHandler), time.Now, func() {}, func([][]byte) {})
			for i := range all {
				r.Learn(all[(i*7+round)%len(all)])
				r.Learn(all[(i*5+round*3)%len(all)]) // some twice, and at random
			}
			for i := range all { // what was refused may be offered again
				r.Learn(all[len(all)-1-i])
			}
			var got string
			for _, one := range r.list() {
				got += fmt.Sprintf("%v %s by %s, ", one.Verb, one.Name, one.Keeper)
			}
			if want == "" {
				want = got
			}
			if got != want {
				t.Fatalf("round %d: got %q, want %q", round, got, want)
			}
		}
		if wanted := "unban x by a, evict y by k, evict k by a, "; want != wanted {
			t.Errorf("got %q, want %q", want, wanted)
		}
	})
}

func TestRevocationsOfOthersThanKeepersAreIgnored(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, x := c.host("a"), c.host("b"), c.host("x")
		a.start()
		borrowed := c.signRevocation(x, evictionOf(b, 0))
		borrowed[1] = a.identity.Credential
		inAnothersName := evictionOf(b, 0)
		inAnothersName.Keeper, inAnothersName.Reason = "a", "test"
		other := newCluster(t, "demo")
		late := evictionOf(b, 0)
		late.Issued = late.Issued.Add(pki.Tolerance + time.Second)
		for what, items := range map[string][][]byte{
			"by a node":                     c.signRevocation(x, evictionOf(b, 0)),
			"with a keeper's credential":    borrowed,
			"in a keeper's name":            c.signRevocation(x, inAnothersName),
			"of another cluster":            {must(wire.SignRevocation(a.identity.Signing, other.root.Trust().Cluster(), inAnothersName))(t), a.identity.Credential},
			"from the future":               c.signRevocation(a, late),
			"without a credential":          c.signRevocation(a, evictionOf(b, 0))[:1],
			"with garbage for a credential": {c.signRevocation(a, evictionOf(b, 0))[0], []byte("x")},
			"garbage":                       {[]byte("x"), a.identity.Credential},
		} {
			a.node.revocations.Learn(items)
			if got := a.node.Revocations(); len(got) > 0 {
				t.Errorf("%s: it counts: %+v", what, got)
			}
		}
		a.node.revocations.Learn(c.signRevocation(a, evictionOf(b, 0)))
		if len(a.node.Revocations()) != 1 {
			t.Error("a keeper's is not taken in")
		}
	})
}

func TestRevocationsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.host("a")
		log := a.rotating(time.Hour)
		a.start()
		for i := range wire.MaxRevocations + 1 {
			r := wire.Revocation{
				Verb: wire.VerbBan, Subject: wire.Subject{Kind: wire.KindClient, Name: fmt.Sprintf("c%d", i)},
				Before: wire.Forever, Issued: time.Now(),
			}
			if i < wire.MaxRevocations-1 { // made as one list, or it would be written a thousand times
				a.node.revocations.mu.Lock()
				signed := must(wire.ParseRevocation(c.signRevocation(a, r)[0]))(t)
				one := must(verifyRevocation(a.node.config.Trust, signed, a.identity.Credential, time.Now()))(t)
				a.node.revocations.held[one.Subject] = one
				a.node.revocations.mu.Unlock()
				continue
			}
			a.node.revocations.Learn(c.signRevocation(a, r))
		}
		if got := len(a.node.Revocations()); got != wire.MaxRevocations {
			t.Fatalf("%d are held, want %d", got, wire.MaxRevocations)
		}
		if got := len(lines(log, "a revocation is not taken in")); got != 1 {
			t.Errorf("%d errors are logged, want 1", got)
		}
		_, err := a.node.Revoke(t.Context(), Order{Verb: VerbEvict, Client: true, Name: "one-more"})
		if !errors.Is(err, ErrRevocations) {
			t.Errorf("one more: got %v, want ErrRevocations", err)
		}
		if _, err := a.node.revoke(Order{Verb: VerbUnban, Client: true, Name: "c7"}, time.Now()); err != nil {
			t.Errorf("another about somebody who is in it: %v", err)
		}
		// All of them fit a stream, and the file.
		a.stop()
		a.start()
		if got := len(a.node.Revocations()); got != wire.MaxRevocations {
			t.Errorf("%d are held after a restart, want %d", got, wire.MaxRevocations)
		}
		b := c.host("b")
		b.start().join(a)
		if got := len(b.node.Revocations()); got != wire.MaxRevocations {
			t.Errorf("b has learned %d, want %d", got, wire.MaxRevocations)
		}
	})
}

// What nothing is left to be voided by is forgotten. A ban stays.
func TestRevocationsAreForgottenWhenNothingIsLeftToVoid(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, x, y := c.host("a"), c.host("x"), c.host("y")
		ban := evictionOf(y, 0)
		ban.Verb, ban.Before = wire.VerbBan, wire.Forever
		held := make(map[wire.Subject]*revocation)
		for _, items := range [][][]byte{c.signRevocation(a, evictionOf(x, 0)), c.signRevocation(a, ban)} {
			one := must(verifyRevocation(c.trust(), must(wire.ParseRevocation(items[0]))(t), items[1], time.Now()))(t)
			held[one.Subject] = one
		}
		if got := len(settle(held, time.Now().Add(outlived)).all); got != 2 {
			t.Errorf("%d are left at the end of their time, want 2", got)
		}
		if got := settle(held, time.Now().Add(outlived+time.Second)).all; len(got) != 1 || got[0].Verb != wire.VerbBan {
			t.Errorf("%d are left after it, want the ban alone", len(got))
		}
	})
}

// A keeper is evicted. What it said before holds, for newcomers too: another keeper says
// it again.
func TestWhatARevokedKeeperSaidIsSaidAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, k, x := c.host("a"), c.host("k", pki.RoleKeeper), c.host("x")
		a.start()
		k.start().join(a)
		x.start().join(a)
		c.settle()
		k.revoke(VerbEvict, "x")
		c.settle()
		a.revoke(VerbEvict, "k")
		time.Sleep(2 * keepEvery)
		for _, r := range a.node.Revocations() {
			if r.Keeper != "a" {
				t.Errorf("%s %s is said by %s, want a", r.Verb, r.Name, r.Keeper)
			}
		}
		// k goes on, and nobody listens.
		if _, err := k.node.revoke(Order{Verb: VerbEvict, Name: "a"}, time.Now()); err != nil {
			t.Fatal(err)
		}
		a.node.revocations.Learn(k.node.revocations.Revocations())
		late := c.announce(k, 9, time.Now())
		if wanted := learn(a, late.install); len(wanted) > 0 {
			t.Error("a wants an epoch of k's")
		}
		b := c.host("b").start().join(a)
		time.Sleep(time.Minute)
		for _, h := range []*host{a, b} {
			if got := len(h.node.Revocations()); got != 2 {
				t.Errorf("%s holds %d revocations, want 2", h.name, got)
			}
		}
		x.refused("afterwards", b)
	})
}

// A file that does not read is put aside, and what was in it is learned again.
func TestDamagedRevocationsAreLearnedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		a.revoke(VerbEvict, "d")
		c.settle()
		path := filepath.Join(b.state, revocationsFile)
		whole := must(os.ReadFile(path))(t)
		half := whole[keptHeader:]
		half = half[:2+int(half[0])<<8+int(half[1])]
		for what, content := range map[string][]byte{
			"cut off": whole[:len(whole)-1], "garbage": []byte("garbage"), "half a pair": append(keptHead(c.trust().Cluster(), half), half...),
		} {
			b.stop()
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			log := b.rotating(time.Hour)
			b.start()
			if len(lines(log, "a kept file is put aside as .bad", "revocations")) != 1 {
				t.Errorf("%s: b says nothing of it", what)
			}
			if got, err := os.ReadFile(path + ".bad"); err != nil || string(got) != string(content) {
				t.Errorf("%s: it is not put aside: %v", what, err)
			}
			b.join(a)
			c.settle()
			if got := len(b.node.Revocations()); got != 1 {
				t.Errorf("%s: b holds %d revocations, want 1", what, got)
			}
			if got := must(os.ReadFile(path))(t); string(got) != string(whole) {
				t.Errorf("%s: the file is not what it was", what)
			}
		}
	})
}

// A full disk keeps nobody valid; but a keeper says nothing that it cannot keep.
func TestRevocationHoldsThoughItCannotBeWritten(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		for _, h := range []*host{a, b} {
			if err := os.Rename(h.state, h.state+".gone"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := a.node.Revoke(t.Context(), Order{Verb: VerbEvict, Name: "d"}); err == nil || len(a.node.Revocations()) > 0 {
			t.Errorf("a keeper whose disk is full: got %v and %d revocations", err, len(a.node.Revocations()))
		}
		b.node.revocations.Learn(c.signRevocation(a, evictionOf(d, 0)))
		d.refusedAt("b cannot write", b)
		for _, h := range []*host{a, b} {
			if err := os.Rename(h.state+".gone", h.state); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A client is revoked: nobody takes its events any more.
func TestRevokedClientIsNotHeard(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		memo := c.client("memo", "event:*")
		if err := memo.fire(b, "deploy", "1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // a token's times are whole seconds
		if _, err := a.node.Revoke(t.Context(), Order{Verb: VerbEvict, Client: true, Name: "memo"}); err != nil {
			t.Fatal(err)
		}
		if err := memo.fire(b, "deploy", "2"); !errors.Is(err, pki.ErrRevoked) {
			t.Errorf("got %v, want ErrRevoked", err)
		}
		time.Sleep(time.Second)
		if err := c.client("memo", "event:*").fire(b, "deploy", "3"); err != nil {
			t.Errorf("issued anew: %v", err)
		}
		if got, want := b.statuses(), "a alive, b alive, d alive"; got != want {
			t.Errorf("b sees %q, want %q", got, want)
		}
	})
}
